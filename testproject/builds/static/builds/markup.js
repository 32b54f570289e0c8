/* What agents write, as it arrives: ## headings, lists, > quotes, ``` code, `code`, **strong** and *other* words, [links](/here/), and
   #L24 for a line of a log. Text goes in as text, never as markup, and a link leads nowhere but to this site. */

import { make } from "./shared.js";

const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s](?:[^*]*[^*\s])?\*|\[[^\]]+\]\(\/(?![/\\])[^)\s]*\)|#L\d+)/;
const KINDS = [["h2", /^## /], ["ul", /^- /], ["ol", /^\d{1,3}\. /], ["blockquote", /^> ?/], ["p", /^/]];

function inline(text, log) {
  return text.split(INLINE).map((part, place) => {
    if (place % 2 === 0) return part;
    if (part[0] === "`") return make("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return make("strong", {}, part.slice(2, -2));
    if (part[0] === "*") return make("em", {}, part.slice(1, -1));
    if (part[0] === "#") return log ? make("a", { href: log + part }, `line ${part.slice(2)}`) : part;
    const [, label, href] = part.match(/^\[([^\]]+)\]\((.+)\)$/);
    return make("a", { href }, label);
  });
}

/* The blocks of a text: their kind, their lines without marks, and where each begins. */

function blocksOf(text) {
  const blocks = [];
  let open = null;
  let start = 0;
  const begin = (kind) => blocks.push((open = { kind, start, lines: [] }));
  for (const line of text.split("\n")) {
    if (open?.kind === "pre") {
      if (line.startsWith("```")) open = null;
      else open.lines.push(line);
    } else if (line.startsWith("```")) begin("pre");
    else if (line.trim() === "") open = null;
    else {
      const [kind, mark] = KINDS.find(([, pattern]) => pattern.test(line));
      if (open?.kind !== kind || kind === "h2") begin(kind);
      open.lines.push(line.replace(mark, ""));
    }
    start += line.length + 1;
  }
  return blocks;
}

function drawn({ kind, lines }, log) {
  if (kind === "pre") return make("pre", {}, make("code", {}, lines.join("\n")));
  if (kind === "ul" || kind === "ol") return make(kind, {}, ...lines.map((line) => make("li", { dir: "auto" }, ...inline(line, log))));
  return make(kind, { dir: "auto" }, ...inline(lines.join(kind === "blockquote" ? "\n" : " "), log));
}

/* A place for text that grows. What is finished is drawn once: drawing costs no more at the end of a long text than at its beginning. */

export class Markup {
  #place;
  #log;
  #tail = ""; // the text from the first block on that may still change
  #open = []; // the elements of that
  #frame = 0;

  constructor(place, log = "") {
    this.#place = place;
    this.#log = log;
  }

  add(text) {
    this.#tail += text;
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  clear() {
    this.#tail = "";
    this.#open = [];
    this.#place.replaceChildren();
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const blocks = blocksOf(this.#tail);
    for (const element of this.#open) element.remove();
    this.#open = blocks.map((block) => drawn(block, this.#log));
    this.#place.append(...this.#open);
    const open = this.#tail.endsWith("\n") ? 1 : 2; // a line that is not whole may turn out to belong to the block before
    if (blocks.length <= open) return;
    this.#tail = this.#tail.slice(blocks.at(-open).start);
    this.#open = this.#open.slice(-open);
  }
}
