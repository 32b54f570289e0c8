/* What is sought in a log: text or a pattern, lines of some levels, of one source; all of it, or any. Pure but for the worker in
   which patterns are tried: one that explodes is given up after a while, and nothing else waits for it.

   Pages are searched from where the reader is outwards, on both sides: those that are held here, the others by the server, or as they
   are read again. What is near the reader is settled by the first answers, and is not another with each one that follows. */

const SLICE = 8; // milliseconds of a turn
const SLOW = 1000; // milliseconds that a pattern may take for a page
const LATE = 200; // by which a timer of the page comes late where it was the machine that stood still
const BOOT = 20_000; // that the worker may take to be there
const READ = 5; // pages that are read at once
const PAINTED = 1000; // matches of a line that are painted

const turn = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve();
  };
  port2.postMessage(null);
});

/** A pattern that finds `query`; null for nothing to find. Throws SyntaxError for a regular expression that is none. */
export function pattern(query, { regex = false, sensitive = false } = {}) {
  if (!query) return null;
  const source = regex ? query : query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const flags = sensitive ? "g" : "gi";
  try {
    return new RegExp(source, `${flags}u`);
  } catch {
    return new RegExp(source, flags); // "\\-" and "a{" are patterns there, as people write them
  }
}

/** Where the pattern matches, [[from, to]], without empty matches. */
export function matches(expression, text) {
  expression.lastIndex = 0;
  const found = [];
  for (const match of text.matchAll(expression)) if (match[0]) found.push([match.index, match.index + match[0].length]);
  return found;
}

/** A worker that counts the matches of patterns, and is ended where one takes too long. */
export class Patterns {
  #address;
  #worker = null;
  #waiting = new Map(); // by id, {resolve, reject}
  #id = 0;
  #timer = 0;
  #ready = false;

  constructor(address) {
    this.#address = address;
  }

  /** The answer of search-worker.js; rejects with "slow", or with "none" where there can be no worker. */
  ask(question) {
    return new Promise((resolve, reject) => {
      const id = (this.#id += 1);
      this.#waiting.set(id, { resolve, reject });
      try {
        this.#worker ??= this.#start();
        this.#worker.postMessage({ id, ...question });
        this.#watch();
      } catch {
        this.#fail("none");
      }
    });
  }

  #start() {
    const worker = new Worker(this.#address);
    this.#ready = false;
    worker.addEventListener("message", ({ data }) => {
      this.#ready = true;
      const asked = this.#waiting.get(data.id);
      if (data.slow) asked?.reject("slow");
      else asked?.resolve(data);
      this.#waiting.delete(data.id);
      this.#watch();
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#fail("none");
    });
    return worker;
  }

  #watch(again = 2) { // in a tab that nobody sees every timer is late
    clearTimeout(this.#timer);
    if (!this.#waiting.size) return;
    const patience = this.#ready ? SLOW : BOOT;
    const due = performance.now() + patience;
    this.#timer = setTimeout(() => {
      if (again && performance.now() - due > LATE) this.#watch(again - 1); // this page stood still meanwhile, and so may the worker have
      else this.#fail(this.#ready ? "slow" : "none");
    }, patience);
  }

  #fail(why) {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#worker = null;
    for (const { reject } of this.#waiting.values()) reject(why);
    this.#waiting.clear();
  }

  /** Whoever waits for an answer needs none any more. */
  drop() {
    if (this.#waiting.size) this.#fail("closed");
  }

  close() {
    this.#fail("closed");
  }
}

export class Find {
  #pages;
  #tools;
  #found = []; // by page, {seen, cuts, lines, counts, total}
  #ranges = new WeakMap(); // by entry, where a pattern matches it
  #expression = null;
  #regex = false;
  #run = 0;
  #around = 0;
  #lists = []; // by page, what is shown of it where only matches are

  /** `tools`: {plain(entry), patterns, server} of which `server`, see source.js, may be null; `changed()` is told when more is found. */
  constructor(pages, tools, changed) {
    this.#pages = pages;
    this.#tools = tools;
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.#run += 1;
    if (this.#regex) this.#tools.patterns.drop();
    this.#regex = false;
    this.#found = [];
    this.#lists = [];
    this.#ranges = new WeakMap();
    this.#expression = null;
    this.sought = null;
    this.trouble = null; // "pattern", "slow", "none", "failed"
    this.reason = ""; // in the words of the browser
    this.total = 0;
    this.done = true; // every page was looked through
    this.unread = false; // pages could not be read
    this.partial = false; // but for those, and the ends of lines that are not held
    this.version = (this.version ?? 0) + 1;
  }

  /** Begin at the page `from` and go outwards. `sought`: {query, regex, sensitive, levels: [name] | null, source: name | null}. */
  start(sought, from = 0) {
    this.clear();
    try {
      this.#expression = pattern(sought.query, sought);
    } catch (error) {
      this.trouble = "pattern";
      this.reason = error.message;
      return;
    }
    if (!this.#expression && !sought.levels && !sought.source) return;
    this.#regex = Boolean(sought.regex);
    this.sought = sought;
    this.done = false;
    this.#all(from, this.#run);
  }

  async #all(from, run) {
    try {
      await Promise.all([this.#side(from, 1, run), this.#side(from - 1, -1, run)]);
    } catch (trouble) {
      if (run !== this.#run) return;
      this.trouble = trouble === "slow" || trouble === "none" ? trouble : "failed";
      this.unread ||= this.trouble === "failed";
    }
    if (run !== this.#run) return;
    this.partial = this.unread || this.#pages.all.some((page) => page.lost);
    if (this.unread && !this.total) this.trouble ??= "failed";
    this.done = true;
    this.changed();
  }

  /** Look again through the pages that could not be read. */
  again(from) {
    if (!this.unread || !this.done || this.trouble) return;
    this.unread = this.done = false;
    this.#all(from, this.#run);
  }

  /* Look through the pages from `index` on in one direction. */
  async #side(index, by, run) {
    let refused = false;
    for (; this.#pages.all[index]; index += by) {
      const page = this.#pages.all[index];
      if (this.#isCurrent(page) || (refused && !page.entries)) continue;
      if (!page.entries) await (this.#tools.server ? this.#tools.server(this, index, by) : this.read(index, by));
      if (run !== this.#run || this.trouble) return;
      if (!page.entries && !this.#found[index] && Number.isFinite(page.failedAt)) {
        this.unread = refused = true; // nor could those after it be read now: of them only what is held is looked at
        continue;
      }
      if (page.entries) await this.#scan(page, run);
      if (run !== this.#run || this.trouble) return;
    }
  }

  /** Read a page that is not held, and those that follow it in a direction. */
  async read(index, by) {
    const { all } = this.#pages;
    let first = index;
    while (by < 0 && first > 0 && index - first + 1 < READ && !all[first - 1].entries) first -= 1;
    await this.#pages.load(first, by < 0 ? index : index + READ - 1);
    if (!all[index].entries && first < index) await this.#pages.load(index); // of large lines those before it came alone
  }

  #isCurrent(page) {
    const found = this.#found[page.index];
    return found !== undefined && found.cuts === page.cuts && found.seen === page.count && !(found.assumed && page.entries);
  }

  #since = 0;

  /* One after the other for each page: what came meanwhile is next. */
  async #scan(page, run) {
    while (this.#busy.has(page.index)) await this.#busy.get(page.index);
    if (run !== this.#run || !page.entries || this.#isCurrent(page)) return;
    const scanning = this.#scanNow(page, run).finally(() => this.#busy.delete(page.index));
    this.#busy.set(page.index, scanning.catch(() => {}));
    await scanning;
  }

  #busy = new Map(); // by page, a promise

  async #scanNow(page, run) {
    const known = this.#found[page.index];
    const found = known && known.cuts === page.cuts && known.seen <= page.count && !known.assumed ? known : { seen: 0, cuts: page.cuts, lines: [], counts: [], total: 0 };
    const begin = found.seen;
    const end = page.entries.length;
    const entries = page.entries.slice(begin, end);
    const likely = [];
    entries.forEach((entry, at) => {
      if (this.#fits(entry)) likely.push(begin + at);
    });
    let counts = null;
    if (this.#expression) {
      const lines = likely.map((line) => this.#tools.plain(page.entries[line]));
      if (this.#regex) {
        counts = lines.length ? (await this.#tools.patterns.ask({ source: this.#expression.source, flags: this.#expression.flags, lines })).counts : [];
        if (run !== this.#run) return;
      } else {
        counts = lines.map((text) => this.#count(text));
      }
    }
    const before = known?.total ?? 0;
    likely.forEach((line, at) => {
      const count = counts ? counts[at] : 1;
      if (!count) return;
      found.lines.push(line);
      found.counts.push(count);
      found.total += count;
    });
    found.seen = end;
    this.#keep(page.index, found);
    this.total += found.total - (found === known ? before : known?.total ?? 0);
    if (this.total && this.trouble === "failed") this.trouble = null;
    if (found.total !== before || !known) this.version += 1;
    this.changed();
    if (performance.now() - this.#since > SLICE) {
      await turn();
      this.#since = performance.now();
    }
  }

  #fits({ source, severity }) {
    const { levels, source: wanted } = this.sought;
    return source !== "note" && (!levels || levels.includes(severity)) && (!wanted || source === wanted);
  }

  #count(text) {
    const { lastIndex } = this.#expression;
    this.#expression.lastIndex = 0;
    let count = 0;
    if (this.#expression.test(text)) count = matches(this.#expression, text).length;
    this.#expression.lastIndex = lastIndex;
    return count;
  }

  #keep(index, found) {
    this.#found[index] = found;
    for (const near of [index - 1, index, index + 1]) delete this.#lists[near]; // lines around a match may be theirs
  }

  /** What the server found of a page that is not held: lines, and how often each of them matches. */
  take(index, lines, counts) {
    const page = this.#pages.all[index];
    const known = this.#found[index];
    if (page.entries) return;
    const found = { seen: page.count, cuts: page.cuts, lines, counts, total: counts.reduce((sum, count) => sum + count, 0), assumed: true };
    this.#keep(index, found);
    this.total += found.total - (known?.total ?? 0);
    this.version += 1;
    this.changed();
  }

  /** A page came, or has more lines. */
  note(page) {
    if (!this.sought || (this.trouble && this.trouble !== "failed") || !page.entries || this.#isCurrent(page) || this.#busy.has(page.index)) return;
    if (!this.done && page !== this.#pages.tail && !this.#found[page.index]) return; // its turn comes
    this.#scan(page, this.#run).catch((trouble) => {
      if (trouble === "slow" || trouble === "none") this.trouble = trouble;
      this.changed();
    });
  }

  /** The matching lines of a page, in order. */
  linesOf(index) {
    return this.#found[index]?.lines ?? [];
  }

  has(page, line) {
    const { lines = [] } = this.#found[page] ?? {};
    let [low, high] = [0, lines.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (lines[middle] === line) return true;
      if (lines[middle] < line) low = middle + 1;
      else high = middle - 1;
    }
    return false;
  }

  /** The matching lines of a page and `around` of their neighbours, also of those in other pages. */
  shownOf(page, around) {
    if (this.#around !== around) [this.#around, this.#lists] = [around, []];
    const known = this.#lists[page.index];
    if (known && known.count === page.count) return known.list;
    const spans = [];
    const before = this.#pages.all[page.index - 1];
    for (const line of before && around ? this.linesOf(page.index - 1) : []) if (line + around >= before.count) spans.push([0, line + around - before.count]);
    for (const line of this.linesOf(page.index)) spans.push([line - around, line + around]);
    if (around) for (const line of this.linesOf(page.index + 1)) if (line < around) spans.push([page.count + line - around, page.count - 1]);
    const list = [];
    let next = 0;
    for (const [from, to] of spans) {
      for (let line = Math.max(next, from, 0); line <= Math.min(to, page.count - 1); line += 1) list.push(line);
      next = Math.max(next, to + 1);
    }
    this.#lists[page.index] = { count: page.count, list };
    return list;
  }

  /** Whether a line is among `shownOf` its page. */
  shows(page, line, around) {
    const list = page ? this.shownOf(page, around) : [];
    let [low, high] = [0, list.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (list[middle] === line) return true;
      if (list[middle] < line) low = middle + 1;
      else high = middle - 1;
    }
    return false;
  }

  /** The match after (`by` 1) or before (-1) a place, round the end: {page, line, nth}, null for none; undefined where pages between
      have not been looked through yet. */
  step(at, by) {
    const { length } = this.#pages.all;
    const found = at && this.#found[at.page];
    if (found && at.nth !== null) {
      const where = found.lines.indexOf(at.line);
      if (where >= 0 && at.nth + by >= 0 && at.nth + by < found.counts[where]) return { ...at, nth: at.nth + by };
    }
    for (let turns = 0; turns <= length; turns += 1) {
      const page = (((at?.page ?? 0) + by * turns) % length + length) % length;
      if (!this.done && !this.#found[page]) return undefined;
      const { lines = [], counts = [] } = this.#found[page] ?? {};
      const inside = turns === 0 && at;
      const which = by > 0 ? lines.findIndex((line) => !inside || (at.nth === null ? line >= at.line : line > at.line)) : lines.findLastIndex((line) => !inside || line < at.line);
      if (which >= 0) return { page, line: lines[which], nth: by > 0 ? 0 : counts[which] - 1 };
    }
    return null;
  }

  /** Which match that is, counted from 1 in the order of the log; null where not all before it are known yet. */
  ordinal({ page, line, nth }) {
    let before = 0;
    for (let index = 0; index < page; index += 1) {
      if (!this.done && !this.#found[index]) return null;
      before += this.#found[index]?.total ?? 0;
    }
    const { lines, counts } = this.#found[page] ?? { lines: [], counts: [] };
    for (let at = 0; lines[at] < line; at += 1) before += counts[at];
    return before + (nth ?? 0) + 1;
  }

  /** Where a line matches, [[from, to]]; nothing yet where a pattern has to be tried first: `changed` is told. */
  ranges(entry) {
    if (!this.#expression) return [];
    const known = this.#ranges.get(entry);
    if (known) return known;
    const text = this.#tools.plain(entry);
    if (!this.#regex) {
      const found = matches(this.#expression, text).slice(0, PAINTED);
      this.#ranges.set(entry, found);
      return found;
    }
    this.#ranges.set(entry, []);
    const run = this.#run;
    this.#tools.patterns.ask({ source: this.#expression.source, flags: this.#expression.flags, lines: [text], ranges: true }).then(({ ranges }) => {
      if (run !== this.#run) return;
      this.#ranges.set(entry, ranges[0].slice(0, PAINTED));
      this.changed();
    }, () => {});
    return [];
  }
}
