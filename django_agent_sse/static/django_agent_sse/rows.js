/* Lines as elements: rows in blocks of 500, which the browser lays out only when they are seen (`content-visibility` in log.css),
   and groups as <details>, so that the browser's own find and its links open them. Text only ever becomes text nodes. */

export const BLOCK = 500;
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
  #fresh = []; // blocks that are not in the page yet: rows are cheaper outside
  #terminals = {};
  #spans = new WeakMap(); // by style, an element to copy

  /** `tools`: {Terminal, linked, spoken} of sgr.js and lines.js. `anchors`: the rows have ids, "L12". */
  constructor(view, tools, anchors) {
    this.#view = view;
    this.#tools = tools;
    this.anchors = anchors;
    this.#linked = tools.linked;
    this.#row = make("div", "sl-line", {}, make("a", "sl-n", { tabindex: "-1" }), make("span", "sl-t"));
  }

  /** The row of a line, at the end of its group. */
  add(line) {
    const row = this.#dress(this.#row.cloneNode(true), line);
    if (line.marker === "close" && !line.plain) row.classList.add("sl-marker");
    this.#blockOf(line.group).appendChild(row);
    return row;
  }

  /** A group with its title. */
  open(group, showOpen) {
    const { line } = group;
    const summary = make("summary", "sl-line");
    summary.append(make("span", "sl-n"), make("span", "sl-t")); // no link: it would stand in something that is clicked itself
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
    this.#blockOf(group).append(row);
    return row;
  }

  /** Call when rows were added: the blocks that fill know how tall they are while nobody looks. */
  settle() {
    this.#attach();
    for (const block of this.#blocks.values()) block.style.setProperty("--sl-rows", block.childElementCount);
  }

  #attach() {
    for (const [parent, block] of this.#fresh) parent.append(block);
    this.#fresh = [];
  }

  #dress(row, line) {
    const [number, text] = row.children;
    const runs = this.#parse(line);
    if (line.number !== null) {
      if (this.anchors) row.id = `L${line.number}`;
      number.setAttribute("data-n", line.number);
    }
    if (line.source === "stderr") row.classList.add("sl-stderr");
    if (line.level) row.classList.add(`sl-${line.level}`);
    this.#fill(text, runs, line.plain);
    line.row = row;
    return row;
  }

  #parse(line) {
    const terminal = (this.#terminals[line.source] ??= new this.#tools.Terminal());
    const runs = terminal.write(line.text).line();
    line.plain = runs.length === 1 ? runs[0].text : runs.map((run) => run.text).join("");
    line.text = null; // shown: it need not be kept twice
    return runs;
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
    if (block && block.childElementCount >= BLOCK) {
      this.#end(group);
      block = undefined;
    }
    if (!block) {
      block = make("div", "sl-block");
      this.#fresh.push([group ? group.details : this.#view, block]);
      this.#blocks.set(group, block);
    }
    return block;
  }

  #end(group) {
    const block = this.#blocks.get(group);
    if (!block) return;
    block.style.setProperty("--sl-rows", block.childElementCount);
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
