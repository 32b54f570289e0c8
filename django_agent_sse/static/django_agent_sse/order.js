/* Which lines are shown, and in which order: all but those in closed groups, or only those that a filter names. Pure: no DOM.

   What is shown is counted from 0. Heights are what is assumed of lines that nobody has laid out; a line that was never read is as
   tall as those that were are on the average. */

const CONTROLS = /\x1b\[[0-?]*[ -/]*[@-~]/g;
const LONGEST = 20_000; // characters of a line that are shown at once

export class Order {
  #pages;
  #folds;
  #tools;
  #sums = null; // of what is shown before each page, [count, height]
  #hidden = new Map(); // by page, [[from, to)] of lines
  #only = null; // (page) -> the lines of it that are shown, or null for all
  #heights = []; // by page, {version, shown, height}
  #version = 0;

  /** `tools`: {keyOf, pageOf, lineOf}. */
  constructor(pages, folds, tools) {
    this.#pages = pages;
    this.#folds = folds;
    this.#tools = tools;
    this.columns = 100; // characters of a row, Infinity where lines do not wrap
    this.row = 20; // pixels
  }

  get filtered() {
    return this.#only !== null;
  }

  /** Show only what `only(page)` says, a list of lines for each page; null for everything. */
  filter(only) {
    this.#only = only;
    this.changed();
  }

  /** Something about the pages, the groups or the filter is different. */
  changed() {
    this.#sums = null;
  }

  /** The layout is different: heights too. */
  resized() {
    this.#heights = [];
    this.#sums = null;
  }

  get count() {
    return this.#all()[0][this.#pages.all.length];
  }

  get height() {
    return this.#all()[1][this.#pages.all.length];
  }

  #all() {
    if (this.#sums) return this.#sums;
    if (this.#version !== this.#folds.version) this.#hide();
    const [counts, heights] = [[0], [0]];
    const shown = this.#pages.all.map((page) => this.#shownOf(page));
    const known = this.#pages.all.map((page, at) => this.#heightOf(page, shown[at]));
    let [lines, tall] = [0, 0];
    known.forEach((height, at) => {
      if (height === null) return;
      lines += shown[at];
      tall += height;
    });
    const unknown = lines ? tall / lines : this.row;
    let [count, height] = [0, 0];
    known.forEach((one, at) => {
      count += shown[at];
      height += one ?? shown[at] * unknown;
      counts.push(count);
      heights.push(height);
    });
    return (this.#sums = [counts, heights]);
  }

  #hide() {
    const { keyOf, pageOf, lineOf } = this.#tools;
    this.#version = this.#folds.version;
    this.#hidden = new Map();
    this.#heights = [];
    for (const [from, to] of this.#folds.hidden()) {
      for (let index = pageOf(from); index <= pageOf(to) && index < this.#pages.all.length; index += 1) {
        const begin = index === pageOf(from) ? lineOf(from) : 0;
        const end = index === pageOf(to) ? lineOf(to) : Infinity;
        if (begin >= end || keyOf(index, 0) >= to) continue;
        if (!this.#hidden.has(index)) this.#hidden.set(index, []);
        this.#hidden.get(index).push([begin, end]);
      }
    }
  }

  #shownOf(page) {
    if (this.#only) return this.#only(page).length;
    let shown = page.count;
    for (const [from, to] of this.#hidden.get(page.index) ?? []) shown -= Math.max(0, Math.min(to, page.count) - from);
    return shown;
  }

  /* null where it was never read as it is now. */
  #heightOf(page, shown) {
    const known = this.#heights[page.index];
    if (known && known.version === page.version && known.shown === shown) return known.height;
    if (!page.entries) return null;
    let height = 0;
    for (let at = 0; at < shown; at += 1) height += this.#rowsOf(page.entries[this.#lineAt(page, at)]);
    height *= this.row;
    this.#heights[page.index] = { version: page.version, shown, height };
    return height;
  }

  /* Of a line of characters of one width, laid out as a terminal does. */
  #rowsOf(entry) {
    if (!entry || entry.text.length <= this.columns) return 1;
    const text = entry.text.length > LONGEST ? entry.text.slice(0, LONGEST) : entry.text;
    const length = text.includes("\x1b") ? text.replace(CONTROLS, "").length : text.length;
    return Math.max(1, Math.ceil(length / this.columns));
  }

  /* The line of a page that is shown as its `at`th. */
  #lineAt(page, at) {
    if (this.#only) return this.#only(page)[at];
    for (const [from, to] of this.#hidden.get(page.index) ?? []) {
      if (at < from) return at;
      at += to - from;
    }
    return at;
  }

  /* How many lines of a page are shown before that one. */
  #shownBefore(page, line) {
    if (this.#only) {
      const list = this.#only(page);
      let [low, high] = [0, list.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (list[middle] < line) low = middle + 1;
        else high = middle;
      }
      return low;
    }
    let before = line;
    for (const [from, to] of this.#hidden.get(page.index) ?? []) if (from < line) before -= Math.min(to, line) - from;
    return before;
  }

  #pageAt(value, sums) {
    let [low, high] = [0, sums.length - 2];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (sums[middle] <= value) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The place of what is shown as the `index`th. */
  key(index) {
    const [counts] = this.#all();
    const page = this.#pageAt(index, counts);
    return this.#tools.keyOf(page, this.#lineAt(this.#pages.all[page], index - counts[page]));
  }

  /** As how manieth a place is shown; where it is not, the next one that is. */
  indexOf(key) {
    const [counts] = this.#all();
    const page = this.#pages.all[this.#tools.pageOf(key)];
    if (!page) return counts[counts.length - 1];
    return counts[page.index] + this.#shownBefore(page, this.#tools.lineOf(key));
  }

  /** The height of what is shown before the `index`th. */
  heightBefore(index) {
    const [counts, heights] = this.#all();
    if (index >= this.count) return this.height;
    const page = this.#pageAt(index, counts);
    const [shown, tall] = [counts[page + 1] - counts[page], heights[page + 1] - heights[page]];
    const entries = this.#pages.all[page].entries;
    if (!entries || !Number.isFinite(this.columns)) return heights[page] + (shown ? ((index - counts[page]) / shown) * tall : 0);
    let height = 0;
    for (let at = 0; at < index - counts[page]; at += 1) height += this.#rowsOf(entries[this.#lineAt(this.#pages.all[page], at)]);
    return heights[page] + height * this.row;
  }

  /** What is shown at that height. */
  indexAt(y) {
    const [counts, heights] = this.#all();
    if (!this.count) return 0;
    if (y >= this.height) return this.count - 1;
    const index = this.#pageAt(Math.max(0, y), heights);
    const page = this.#pages.all[index];
    const shown = counts[index + 1] - counts[index];
    let left = Math.max(0, y) - heights[index];
    if (!page.entries) return counts[index] + Math.min(shown - 1, Math.floor((left / (heights[index + 1] - heights[index])) * shown));
    for (let at = 0; at < shown; at += 1) {
      left -= this.#rowsOf(page.entries[this.#lineAt(page, at)]) * this.row;
      if (left < 0) return counts[index] + at;
    }
    return counts[index] + Math.max(0, shown - 1);
  }
}
