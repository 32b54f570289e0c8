/* Lines as elements: rows in blocks of 500, which the browser lays out only when they are seen (`content-visibility` in log.css),
   and groups as <details>, so that the browser's own find and its links open them. Text only ever becomes text nodes.

   Where many lines come at once, those of a block are one plain text at first: it can be scrolled, found, selected. They become
   rows when somebody comes near them, or when the browser has nothing else to do. */

export const BLOCK = 500;
const BLOCK_CHARACTERS = 200_000; // a block that has more is full: it is laid out at once
const NEAR = "1500px 0px";
const IDLE = 6; // milliseconds that must be left of an idle moment for another block
const BUSY = 300; // milliseconds after which nobody waits for an idle moment any more
const whenIdle = globalThis.requestIdleCallback?.bind(globalThis) ?? ((call) => setTimeout(() => call({ timeRemaining: () => 2 * IDLE }), 30));
const numbers = new Intl.NumberFormat("en");
const FLAGS = ["bold", "dim", "italic", "underline", "inverse"];

/** An element with a class, attributes and children. */
export function make(name, className, attributes = {}, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export class Rows {
  #view;
  #tools;
  #row;
  #linked;
  #blocks = new Map(); // the block that fills, of the view (null) and of each group
  #made; // told of each line that became a row
  #plain = new Map(); // by element, the blocks with lines that are no rows yet
  #stale = new Set(); // of these, those whose text is not all there
  #near; // an IntersectionObserver
  #idling = false;
  #fresh = []; // blocks that are not in the page yet: rows are cheaper outside
  #terminals = {};
  #spans = new WeakMap(); // by style, an element to copy

  /** `tools`: {Terminal, linked, spoken, cutAt} of sgr.js and lines.js, and {raw}, the address of the whole text, or null. `anchors`: the rows have ids, "L12". `made`: told of a line's row. */
  constructor(view, tools, anchors, made = () => {}) {
    this.#view = view;
    this.#tools = tools;
    this.anchors = anchors;
    this.#linked = tools.linked;
    this.#made = made;
    this.#near = new IntersectionObserver((seen) => {
      for (const { isIntersecting, target } of seen) if (isIntersecting) this.#make(this.#plain.get(target));
    }, { root: view, rootMargin: NEAR });
    this.#row = make("div", "sl-line", {}, make("a", "sl-n", { tabindex: "-1" }), make("span", "sl-t"));
  }

  /** A line at the end of its group: a row at once, or `later`. */
  add(line, later = false) {
    this.#parse(line);
    const block = this.#blockOf(line.group);
    block.count += 1;
    block.characters += line.plain.length;
    if (later && !line.rest) {
      line.block = block;
      block.lines.push(line);
      this.#plain.set(block.element, block);
      this.#stale.add(block);
      return;
    }
    this.#make(block);
    block.element.appendChild(this.#rowOf(line));
  }

  /** The row of a line, which is made where there is none yet. */
  row(line) {
    if (!line.row) {
      this.#attach();
      this.#make(line.block);
    }
    return line.row;
  }

  /** Every line becomes a row. */
  all() {
    for (const block of [...this.#plain.values()]) this.#make(block);
  }

  /** Call when nothing more is to come for now: what is plain text yet becomes rows, block by block. */
  rest() {
    if (this.#idling || !this.#plain.size) return;
    this.#idling = true;
    whenIdle((left) => {
      this.#idling = false;
      const until = left.didTimeout ? performance.now() + 2 * IDLE : Infinity; // a page that is never idle gets them too
      for (const block of this.#plain.values()) {
        this.#make(block);
        if (until === Infinity ? left.timeRemaining() < IDLE : performance.now() > until) break;
      }
      this.rest();
    }, { timeout: BUSY });
  }

  #make(block) {
    if (!block?.lines.length) return;
    const rows = document.createDocumentFragment();
    for (const line of block.lines) rows.appendChild(this.#rowOf(line));
    block.lines = [];
    block.text?.remove();
    block.text = null;
    block.element.appendChild(rows);
    this.#plain.delete(block.element);
    this.#stale.delete(block);
    this.#near.unobserve(block.element);
  }

  #rowOf(line) {
    const row = this.#dress(this.#row.cloneNode(true), line);
    if (line.marker === "close" && !line.plain) row.classList.add("sl-marker");
    line.block = null;
    this.#made(line);
    return row;
  }

  /** A group with its title. */
  open(group, showOpen) {
    const { line } = group;
    const summary = make("summary", "sl-line");
    summary.append(make("span", "sl-n"), make("span", "sl-t")); // no link: it would stand in something that is clicked itself
    this.#parse(line);
    this.#dress(summary, line);
    summary.append(make("span", "sl-took"));
    group.details = make("details", "sl-group", { open: showOpen }, summary);
    const parent = group.parent;
    this.#end(parent);
    this.#attach();
    (parent ? parent.details : this.#view).append(group.details);
    return group.details;
  }

  close(group, folds) {
    this.#end(group);
    const { details } = group;
    details.classList.add("sl-over");
    details.classList.toggle("sl-failed", group.failed);
    const took = group.duration;
    details.firstChild.lastChild.textContent = took === null ? "" : this.#tools.spoken(took);
    if (folds) details.open = false;
  }

  /** A word of ours between the lines. */
  note(text, group) {
    const row = make("div", "sl-line sl-note", { role: "note" }, make("span", "sl-n", { "aria-hidden": "true" }), make("span", "sl-t", {}, text));
    const block = this.#blockOf(group);
    this.#make(block);
    block.count += 1;
    block.element.append(row);
    return row;
  }

  /** Call when lines were added: they come into the page, and the blocks that fill know how tall they are while nobody looks. */
  settle() {
    this.#attach();
    for (const block of this.#blocks.values()) block.element.style.setProperty("--sl-rows", block.count);
  }

  #attach() {
    for (const block of this.#stale) {
      if (!block.text) {
        block.text = make("div", "sl-later", {}, "");
        block.element.append(block.text);
        this.#near.observe(block.element);
      }
      block.text.textContent = block.lines.filter((line) => line.plain || line.marker !== "close").map((line) => `${line.plain}\n`).join("");
    }
    this.#stale.clear();
    for (const [parent, block] of this.#fresh) parent.append(block);
    this.#fresh = [];
  }

  #dress(row, line) {
    const [number, text] = row.children;
    if (line.number !== null) {
      if (this.anchors) row.id = `L${line.number}`;
      number.setAttribute("data-n", line.number);
    }
    if (line.source === "stderr") row.classList.add("sl-stderr");
    if (line.level) row.classList.add(`sl-${line.level}`);
    this.#fill(text, line.runs, line.plain);
    line.runs = null;
    if (line.label && row.localName !== "summary") text.dataset.level = line.label;
    if (line.rest) this.#markRest(line, text);
    line.row = row;
    return row;
  }

  /* How much more there is of a long line, a button for the next part of it, and the text of the log where that is served. */
  #markRest(line, text) {
    const said = make("span");
    const next = make("button", "sl-next", { type: "button" }, "Show more");
    const mark = make("span", "sl-cut", { role: "note" }, said, next);
    if (this.#tools.raw) mark.append(make("a", "", { href: this.#tools.raw, target: "_blank", rel: "noopener" }, "Raw text"));
    const count = () => {
      said.textContent = `⋯ ${numbers.format(line.rest.length)} more characters${line.over ? ", written over" : ""} `;
    };
    next.addEventListener("click", () => {
      mark.before(this.#part(line));
      if (line.rest) count();
      else mark.remove();
    });
    count();
    text.append(mark);
  }

  #part(line) {
    const at = this.#tools.cutAt(line.rest);
    const runs = new this.#tools.Terminal().write(line.rest.slice(0, at)).line();
    const plain = runs.map((run) => run.text).join("");
    const part = make("span", "sl-part");
    this.#fill(part, runs, plain);
    line.rest = line.rest.slice(at);
    line.plain += plain;
    return part;
  }

  #parse(line) {
    const terminal = (this.#terminals[line.source] ??= new this.#tools.Terminal());
    const runs = terminal.write(line.text).line();
    line.plain = runs.length === 1 ? runs[0].text : runs.map((run) => run.text).join("");
    line.runs = runs;
    line.text = null; // it need not be kept twice
    if (line.rest && !line.over) this.#terminals[line.source] = null; // what follows is not coloured by half a line
  }

  #fill(parent, runs, plain) {
    const links = plain.includes("://");
    for (const { text, style } of runs) {
      const place = style.plain ? parent : parent.appendChild(this.#span(style));
      if (!links) {
        place.appendChild(document.createTextNode(text));
        continue;
      }
      for (const { text: part, href } of this.#linked(text)) {
        place.append(href ? make("a", "sl-link", { href, target: "_blank", rel: "noopener noreferrer nofollow", tabindex: "-1" }, part) : part);
      }
    }
  }

  #span(style) {
    let span = this.#spans.get(style);
    if (!span) this.#spans.set(style, (span = styled(style)));
    return span.cloneNode(false);
  }

  /** The number of a line becomes a link when somebody comes near it: a hundred thousand links take their time. */
  link(number) {
    if (this.anchors && number.localName === "a" && !number.hasAttribute("href")) number.href = `#L${number.dataset.n}`;
  }

  #blockOf(group) {
    let block = this.#blocks.get(group);
    if (block && (block.count >= BLOCK || block.characters >= BLOCK_CHARACTERS)) {
      this.#end(group);
      block = undefined;
    }
    if (!block) {
      block = { element: make("div", "sl-block"), count: 0, characters: 0, lines: [], text: null };
      this.#fresh.push([group ? group.details : this.#view, block.element]);
      this.#blocks.set(group, block);
    }
    return block;
  }

  #end(group) {
    const block = this.#blocks.get(group);
    if (!block) return;
    block.element.style.setProperty("--sl-rows", block.count);
    this.#blocks.delete(group);
  }
}

function styled(style) {
  const element = document.createElement("span");
  const { fg, bg } = style;
  const names = FLAGS.filter((flag) => style[flag]).map((flag) => `sl-${flag}`);
  if (typeof fg === "number") names.push(`sl-f${fg}`);
  if (typeof bg === "number") names.push(`sl-b${bg}`);
  element.className = names.join(" ");
  if (typeof fg === "string") element.style.setProperty(style.inverse ? "background-color" : "color", fg);
  if (typeof bg === "string") element.style.setProperty(style.inverse ? "color" : "background-color", bg);
  return element;
}

/** A Range of the characters `from` to `to` of a row's text; null where they are not there. */
export function rangeOf(row, from, to) {
  const walker = document.createTreeWalker(row.querySelector(".sl-t"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let passed = 0;
  let begun = false;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const end = passed + node.data.length;
    if (!begun && from < end) {
      range.setStart(node, from - passed);
      begun = true;
    }
    if (begun && to <= end) {
      range.setEnd(node, to - passed);
      return range;
    }
    passed = end;
  }
  return null;
}
