/* The groups of a log whose pages are known in part. Pure: no DOM.

   Of each page only the lines that may be markers are kept, and where errors stand between them; a run of pages that are known one
   after the other is read by `Lines` as if there were no other lines. So a group is known as soon as its two ends are. */

const MOST = 20_000; // groups: markers beyond them fold nothing
const NAMED = 200; // characters of a group's name

/** The name of a group, in words. */
export function nameOf({ name, line }) {
  const text = (line.title ?? name).replace(/\x1b\[[0-?]*[ -/]*[@-~]/g, "").trim();
  return text.slice(0, NAMED);
}

export class Folds {
  #tools;
  #pages;
  #marks = []; // by page, {version, list: [{line, entry} | {line, error}]}
  #runs = []; // [{first, last, stops: [{key, group}], groups}]
  #asked = new Map(); // by place of the title, whether the reader wants it open
  #dirty = false;
  #stopped = new Set(); // pages with lines whose commands are text
  #finished = null;
  #unexplained = false; // the whole failed, and no group is known to hold why: none is folded

  /** `tools`: {Lines, mayMark} of lines.js, {levelOf} of levels.js, {dialects} of markers, {keyOf, pageOf} of pages.js. */
  constructor(pages, tools) {
    this.#pages = pages;
    this.#tools = tools;
    this.version = 0; // changes with what is hidden
  }

  /** A page came, or came again, or has more lines. */
  note(page) {
    if (!page.entries) return;
    const known = this.#marks[page.index];
    if (known?.version === page.version) return;
    const list = [];
    let error = false; // since the last marker
    page.entries.forEach((entry, line) => {
      if (entry.source === "note") return;
      if (this.#tools.mayMark(entry.text, this.#tools.dialects)) {
        list.push({ line, entry });
        error = false;
      }
      if (entry.severity === "error" && !error) {
        list.push({ line, entry: null });
        error = true;
      }
    });
    if (this.#stopped.has(page.index)) this.#dirty = true;
    const same = known?.list.length === list.length && list.every(({ line, entry }, at) => known.list[at].line === line && known.list[at].entry?.text === entry?.text);
    this.#marks[page.index] = { version: page.version, list };
    if (!same) this.#dirty = true;
  }

  /** Nothing follows: what is open ends at `at`, and did not end well where the whole `failed`. */
  finish(at, failed) {
    this.#finished = { at, failed };
    this.#dirty = true;
  }

  /** Read the markers again, if there is something new; the groups that ended since then. */
  update() {
    if (!this.#dirty) return [];
    this.#dirty = false;
    this.version += 1;
    const before = new Set(this.groups().filter((group) => group.over).map((group) => group.key));
    this.#runs = [];
    for (let index = 0; index < this.#pages.all.length; index += 1) {
      if (!this.#marks[index]) continue;
      const first = index;
      while (this.#marks[index + 1]) index += 1;
      this.#runs.push(this.#read(first, index));
    }
    const groups = this.groups();
    this.#unexplained = Boolean(this.#finished?.failed) && !groups.some((group) => group.errors || group.failed);
    return groups.filter((group) => group.over && !before.has(group.key));
  }

  #read(first, last) {
    const { keyOf } = this.#tools;
    const lines = new this.#tools.Lines({ dialects: this.#tools.dialects });
    const run = { first, last, stops: [], groups: [] };
    const apply = (changes, key) => {
      let inside = false;
      for (const { line, open, close } of changes) {
        if (line) inside = true;
        if (close) {
          close.end = key === null ? keyOf(last + 1, 0) : inside ? key + 1 : key;
          run.stops.push({ key: close.end, group: close.parent });
        }
        if (open) {
          Object.assign(open, { key, end: null });
          run.groups.push(open);
          run.stops.push({ key: key + 1, group: open });
        }
      }
    };
    for (let index = first; index <= last; index += 1) {
      const stopped = new Set();
      for (const { line, entry } of this.#marks[index].list) {
        if (run.groups.length > MOST) break;
        const key = keyOf(index, line);
        const word = lines.stopped;
        if (entry) apply(lines.add(entry.source, entry.text, entry.at, entry.level, entry.label), key);
        else lines.fail();
        if (entry && word !== null) stopped.add(line);
      }
      if (stopped.size || this.#stopped.has(index)) this.#stop(index, stopped);
    }
    if (this.#finished && last === this.#pages.all.length - 1) apply(lines.finish(this.#finished.at, this.#finished.failed), null);
    return run;
  }

  #stop(index, lines) {
    if (lines.size) this.#stopped.add(index);
    else this.#stopped.delete(index);
    this.#pages.stop(index, lines, this.#tools.levelOf);
  }

  groups() {
    return this.#runs.flatMap((run) => run.groups);
  }

  /** The group whose title stands there, or null. */
  titled(key) {
    const run = this.#runOf(key);
    if (!run) return null;
    let [low, high] = [0, run.groups.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (run.groups[middle].key === key) return run.groups[middle];
      if (run.groups[middle].key < key) low = middle + 1;
      else high = middle - 1;
    }
    return null;
  }

  /** The innermost group that a line stands in, not counting its own title, or null. */
  around(key) {
    const stops = this.#runOf(key)?.stops ?? [];
    let [low, high] = [0, stops.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (stops[middle].key <= key) low = middle + 1;
      else high = middle;
    }
    return low ? stops[low - 1].group : null;
  }

  #runOf(key) {
    const index = this.#tools.pageOf(key);
    return this.#runs.find(({ first, last }) => first <= index && index <= last);
  }

  /** Whether nothing is folded for now, as on paper. */
  set spread(on) {
    this.#spread = on;
    this.version += 1;
  }

  #spread = false;

  isOpen(group) {
    if (this.#spread) return true;
    const asked = this.#asked.get(group.key);
    if (asked !== undefined) return asked;
    return group.opens || this.#unexplained;
  }

  turn(group, open = !this.isOpen(group)) {
    this.#asked.set(group.key, open);
    this.version += 1;
  }

  turnAll() {
    const groups = this.groups();
    const open = !groups.some((group) => this.isOpen(group));
    for (const group of groups) this.#asked.set(group.key, open);
    this.version += 1;
  }

  /** Open what hides a line; whether something did. */
  reveal(key) {
    let hidden = false;
    for (let group = this.around(key); group; group = group.parent) {
      if (this.isOpen(group)) continue;
      this.#asked.set(group.key, true);
      hidden = true;
    }
    if (hidden) this.version += 1;
    return hidden;
  }

  /** The places that closed groups hide, [[from, to)], in order. */
  hidden() {
    const ranges = [];
    for (const run of this.#runs) {
      for (const group of run.groups) {
        if (this.isOpen(group)) continue;
        const last = ranges[ranges.length - 1];
        if (last && group.key < last[1]) continue; // in one that is closed itself
        ranges.push([group.key + 1, group.end ?? this.#tools.keyOf(run.last + 1, 0)]);
      }
    }
    return ranges;
  }
}
