/* What the reader selected, also where its ends are no longer in the page: an end is a place of the log and a character of its line. In the
   page the selection then reaches as far as the rows do. */

const OURS = ".sl-ours"; // what a row says that is not of its line

const isBefore = (one, other) => one.key < other.key || (one.key === other.key && one.at < other.at);
const isSame = (one, other) => one?.key === other?.key && one?.at === other?.at;

export class Selected {
  #rows;
  #ends = null; // {anchor, focus}, each {key, at}
  #put = null; // the same as they were put into the page

  /** `rows`: Rows of rows.js. */
  constructor(rows) {
    this.#rows = rows;
  }

  /** What is selected, {from, to}: `at` is -1 before the text of a line and Infinity after it. null for nothing. */
  get range() {
    this.read();
    if (!this.#ends || isSame(this.#ends.anchor, this.#ends.focus)) return null;
    const { anchor, focus } = this.#ends;
    return isBefore(focus, anchor) ? { from: focus, to: anchor } : { from: anchor, to: focus };
  }

  /** Look where the ends are; to be done before rows change. */
  read() {
    const selection = document.getSelection();
    const [anchor, focus] = selection?.anchorNode ? [this.#point(selection.anchorNode, selection.anchorOffset), this.#point(selection.focusNode, selection.focusOffset)] : [null, null];
    if (!anchor || !focus) return void (this.#ends = this.#put = null);
    const put = this.#put ?? {};
    this.#ends = { anchor: isSame(anchor, put.anchor) ? this.#ends.anchor : anchor, focus: isSame(focus, put.focus) ? this.#ends.focus : focus };
    this.#put = { anchor, focus };
  }

  /** Select in the page what of it is there; to be done when rows changed. */
  restore() {
    if (!this.#ends || isSame(this.#ends.anchor, this.#ends.focus)) return;
    const [anchor, focus] = [this.#nodeOf(this.#ends.anchor), this.#nodeOf(this.#ends.focus)];
    if (!anchor || !focus) return;
    const selection = document.getSelection();
    const isThere = selection.anchorNode === anchor[0] && selection.anchorOffset === anchor[1] && selection.focusNode === focus[0] && selection.focusOffset === focus[1];
    if (!isThere) selection.setBaseAndExtent(anchor[0], anchor[1], focus[0], focus[1]);
    this.#put = { anchor: this.#point(...anchor), focus: this.#point(...focus) };
  }

  /* The place of a point of the page; null where it is in no row. */
  #point(node, offset) {
    const { body } = this.#rows;
    if (!body.contains(node)) return null;
    if (node === body) return body.children[offset] ? { key: body.children[offset].key, at: -1 } : { key: body.lastElementChild?.key ?? 0, at: Infinity };
    const row = (node instanceof Element ? node : node.parentElement).closest(".sl-line");
    const text = row.querySelector(".sl-t");
    const range = document.createRange();
    range.selectNodeContents(text);
    if (!text.contains(node)) {
      range.collapse(true);
      return { key: row.key, at: range.comparePoint(node, offset) < 0 ? -1 : Infinity };
    }
    range.setEnd(node, offset);
    const passed = range.cloneContents();
    for (const ours of passed.querySelectorAll(OURS)) ours.remove();
    return { key: row.key, at: passed.textContent.length };
  }

  /* The point of the page for a place, or the nearest. */
  #nodeOf({ key, at }) {
    const { body } = this.#rows;
    const row = this.#rows.row(key);
    if (row) return pointIn(row, at);
    const edge = key < body.firstElementChild?.key ? body.firstElementChild : body.lastElementChild;
    if (!edge) return null;
    return pointIn(edge, key < edge.key ? 0 : Infinity);
  }
}

function pointIn(row, at) {
  const text = row.querySelector(".sl-t");
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT, (node) => (node.parentElement.closest(OURS) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  if (at < 0) return [row, 0];
  let [last, left] = [null, at];
  for (let node = /** @type {Text} */ (walker.nextNode()); node; node = /** @type {Text} */ (walker.nextNode())) {
    if (left <= node.data.length) return [node, left];
    left -= node.data.length;
    last = node;
  }
  if (at === Infinity) return [row, row.childNodes.length];
  return last ? [last, last.data.length] : [text, 0];
}
