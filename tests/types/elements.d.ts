/* What the scripts find in a page are elements of HTML: querySelector() and the like need not be told so each time. */

interface Element {
  readonly dataset: DOMStringMap;
  hidden: boolean;
}
