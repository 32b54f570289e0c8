/* What a log holds: its lines as text, in pages of 1,000 events, beside the DOM and bounded. Pure: no DOM.

   A page that was never read has as many lines as it has events, until it is known better. What is far from the reader is let go
   when more is held than `HELD`, and read again when somebody comes near. A place is a number: `keyOf(page, line)`; places are in
   the order of the log. */

export const EVENTS = 1000; // events of a page
export const HELD = 40 * 2 ** 20; // bytes of lines that are held, about
const LINE_BYTES = 110; // that a line takes besides its text
const FULL = 8 * 2 ** 20; // bytes of a page after which of long lines only the beginning is held
const BEGINNING = 4096; // characters of it
const LINES = 10_000; // lines of one event that are shown
const FEW = 100; // of one in a page that has so many bytes
const AT_ONCE = 8 * 2 ** 20; // characters after which no more pages are read at once
export const ANSWER = 5000; // events of one answer of the range endpoint
const RETRY_MS = 2000; // after which a page that could not be read is asked for again
const PAGE_KEY = 2 ** 31;

export const keyOf = (page, line) => page * PAGE_KEY + line;
export const pageOf = (key) => Math.floor(key / PAGE_KEY);
export const lineOf = (key) => key % PAGE_KEY;

/** A line as it came. */
export class Entry {
  constructor(text, source, at, level, label, severity) {
    this.text = text;
    this.source = source; // "stdout" or "stderr"
    this.at = at; // seconds since 1970, or null
    this.level = level; // as its event said, or null
    this.label = label; // the level where it is said before the text, or null
    this.severity = severity; // the level by what is known of it: "error", "warning", "info", "debug", or null
    this.stopped = false; // a command of GitHub's in it is text
    this.event = 0; // the number of its event
    this.more = null; // {logger, file, line, fields} of a record
    this.lost = 0; // characters at its end that are not held
  }

  /** Whether it counts as what its level says: a record does so once, however many lines it has. */
  get counts() {
    return this.level === null || this.label !== null;
  }
}

/** A word of ours between the lines. It takes `skip` numbers, of lines that are not there. */
export class Note {
  constructor(text, skip = 0) {
    this.text = text;
    this.skip = skip;
    this.source = "note";
    this.at = this.level = this.label = this.severity = null;
    this.event = this.lost = 0;
    this.more = null;
  }
}

export class Page {
  constructor(index, events) {
    this.index = index;
    this.entries = null; // while they are held
    this.count = events; // entries; assumed where it is not `known`
    this.numbers = events; // that its entries take
    this.known = false;
    this.shifts = []; // [line, so many more numbers before it and what follows] where not every line took one
    this.head = null; // a note before its first line
    this.bytes = 0;
    this.owed = { stdout: 0, stderr: 0 }; // lines of this page that later ones take back
    this.errors = this.warnings = this.stderr = 0; // lines of it that are
    this.version = 0; // changes with its entries
    this.lost = false; // of some lines only the beginning is held
    this.cuts = 0; // changes where some of them are gone
    this.failedAt = -Infinity;
  }

  push(entry) {
    this.entries.push(entry);
    this.count = this.entries.length;
    this.bytes += LINE_BYTES + entry.text.length;
    this.numbers += 1;
    this.#tell(entry, 1);
    if (entry instanceof Note) this.shift(this.count, entry.skip - 1);
  }

  #tell({ severity, source, counts }, by) {
    if (severity === "error" && counts) this.errors += by;
    else if (severity === "warning" && counts) this.warnings += by;
    if (source === "stderr") this.stderr += by;
  }

  shift(line, numbers) {
    if (!numbers) return;
    this.shifts.push([line, numbers]);
    this.numbers += numbers;
  }

  /** Take back the last `count` lines of a source; how many there were not. Their numbers are nobody's then. */
  retract(source, count) {
    for (let line = this.entries.length - 1; line >= 0 && count > 0; line -= 1) {
      const entry = this.entries[line];
      if (entry.source !== source) continue;
      this.entries.splice(line, 1);
      this.bytes -= LINE_BYTES + entry.text.length;
      this.numbers -= 1;
      this.#tell(entry, -1);
      for (const one of this.shifts) if (one[0] > line) one[0] -= 1;
      this.shift(line, 1);
      this.cuts += 1;
      count -= 1;
    }
    this.count = this.entries.length;
    return count;
  }

  /** Its level is another. */
  amend(entry, severity) {
    this.#tell(entry, -1);
    entry.severity = severity;
    this.#tell(entry, 1);
    this.version += 1;
    this.cuts += 1;
  }

  /** How many numbers come before that of its line. */
  numbersBefore(line) {
    let numbers = line;
    for (const [from, more] of this.shifts) if (from <= line) numbers += more;
    return numbers;
  }

  /** Which of its lines has that number (from 0), or follows it. */
  lineAt(number) {
    let [low, high] = [0, Math.max(0, this.count - 1)];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.numbersBefore(middle) < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  begin() {
    this.entries = [];
    this.shifts = [];
    this.count = this.numbers = this.bytes = this.errors = this.warnings = this.stderr = 0;
    this.lost = false;
    this.version += 1;
  }
}

export class Pages {
  #read; // (from, count) -> the answer of the range endpoint, or null
  #entriesOf; // (event, most) -> {lines, rest} | {replace: {source, lines, text}} | {record} | {note} | null
  #loading = new Map(); // by page, a promise
  #numbers = null; // of the lines before each page
  #held = 0;
  #near = new Set(); // pages that are seen
  #told;

  /** `read`, `entriesOf` as above; `changed(page)` is told of each page whose lines came, or came again, or were let go. */
  constructor(read, entriesOf, changed) {
    this.#read = read;
    this.#entriesOf = entriesOf;
    this.#told = changed;
    this.all = [];
    this.epoch = null;
    this.floor = 0;
    this.last = 0; // the number of the last event that is known of
    this.most = HELD; // bytes
    this.readable = true; // what was let go can be read again
    this.drafts = { stdout: null, stderr: null }; // what stands below the last line and may change yet
    this.base = 0; // events of an epoch before: they cannot be read again
  }

  /** Numbers of lines that there are, as far as known. */
  get count() {
    return this.numberBefore(this.all.length);
  }

  /** Whether every line before this page is counted, and not assumed. */
  exactBefore(index) {
    for (let at = 0; at < index; at += 1) if (!this.all[at].known) return false;
    return true;
  }

  get held() {
    return this.#held;
  }

  get tail() {
    return this.all[this.all.length - 1] ?? null;
  }

  /** The numbers of the lines before page `index`. */
  numberBefore(index) {
    if (!this.#numbers) {
      let sum = 0;
      this.#numbers = [0];
      for (const page of this.all) this.#numbers.push((sum += page.numbers));
    }
    return this.#numbers[Math.min(index, this.all.length)];
  }

  entry(key) {
    return this.all[pageOf(key)]?.entries?.[lineOf(key)] ?? null;
  }

  /** The number beside a line. */
  number(key) {
    const index = pageOf(key);
    return this.numberBefore(index) + this.all[index].numbersBefore(lineOf(key)) + 1;
  }

  /** Where the line of a number is; null where there is none (yet). */
  find(number) {
    if (number < 1 || number > this.count) return null;
    let [low, high] = [0, this.all.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.numberBefore(middle) < number) low = middle;
      else high = middle - 1;
    }
    return keyOf(low, this.all[low].lineAt(number - 1 - this.numberBefore(low)));
  }

  /** Where the first line of an event is, or would be; null where there was no such event. */
  findEvent(offset) {
    const index = Math.floor((offset - 1) / EVENTS);
    const page = this.all[index];
    if (!page || offset < 1) return null;
    if (!page.entries) return keyOf(index, Math.min(offset - 1 - index * EVENTS, Math.max(0, page.count - 1)));
    const line = page.entries.findIndex(({ event }) => event >= offset);
    return keyOf(index, line < 0 ? Math.max(0, page.count - 1) : line);
  }

  /** Take an answer of the range endpoint that begins with a page. */
  give({ records }, from) {
    const first = Math.floor((from - 1) / EVENTS);
    const last = records.length ? Math.floor((records[records.length - 1].offset - 1) / EVENTS) : first;
    for (let index = first; index <= Math.min(last, this.all.length - 1); index += 1) {
      const page = this.all[index];
      const whole = index < last || records.length === 0 || records[records.length - 1].offset >= Math.min(this.last, (index + 1) * EVENTS);
      if (whole && !page.entries) this.#fill(page, records.filter(({ offset }) => Math.floor((offset - 1) / EVENTS) === index));
    }
  }

  /** Make room for the events up to `top`, of which those up to `floor` are no longer kept. */
  open(epoch, floor, top, note) {
    this.epoch = epoch;
    this.floor = floor;
    this.#extend(top);
    this.#forget(floor, note);
  }

  #extend(top) {
    for (let first = this.all.length * EVENTS; first < top; first += EVENTS) this.all.push(new Page(this.all.length, 0));
    for (let index = Math.max(0, Math.floor((this.last - 1) / EVENTS)); index < this.all.length; index += 1) {
      const page = this.all[index];
      if (!page.known && !page.entries) page.count = page.numbers = Math.min(EVENTS, top - index * EVENTS);
    }
    this.last = Math.max(this.last, top);
    this.#numbers = null;
  }

  /* Pages below the floor hold nothing; a note takes the numbers of their lines. */
  #forget(floor, note) {
    if (!floor || !this.all.length) return;
    const index = Math.min(Math.floor(floor / EVENTS), this.all.length - 1);
    for (const page of this.all.slice(0, index)) Object.assign(page, { known: true, count: 0, numbers: 0, entries: [] });
    const page = this.all[index];
    page.head = new Note(note, floor);
    if (!page.known && !page.entries) {
      page.count = Math.max(1, page.count - (floor % EVENTS) + 1);
      page.numbers = page.count - 1 + floor;
    }
    this.#numbers = null;
  }

  /** One event that follows all that there are. */
  append(event, offset = this.last + 1) {
    const index = Math.floor((offset - 1) / EVENTS);
    while (this.all.length <= index) {
      const closed = this.tail;
      this.all.push(new Page(this.all.length, 0));
      if (closed?.entries) closed.known = true;
      if (this.all.length <= index) Object.assign(this.tail, { known: true, entries: [] }); // in a hole
    }
    const page = this.all[index];
    if (!page.entries) page.begin();
    this.last = offset;
    this.#add(page, { ...event, offset });
    this.#numbers = null;
  }

  /** The pages so far are of an epoch before: what comes is numbered on, and what is let go of them is gone. */
  restart() {
    const index = this.all.length;
    if (this.tail?.entries) this.tail.known = true;
    this.base = this.last = index * EVENTS;
    this.epoch = null; // which one it is says the next event
  }

  /** A note after all that there is. */
  note(text, skip = 0) {
    if (!this.tail) this.all.push(new Page(0, 0));
    if (!this.tail.entries) this.tail.begin();
    this.#push(this.tail, new Note(text, skip));
    this.#numbers = null;
  }

  #push(page, entry) {
    const before = page.bytes;
    if (before > FULL && this.readable && entry.text.length > BEGINNING) {
      entry.lost += entry.text.length - BEGINNING;
      entry.text = ` ${entry.text.slice(0, BEGINNING)}`.slice(1); // a copy, which does not hold the whole
      page.lost = true;
    }
    page.push(entry);
    this.#held += page.bytes - before;
  }

  #add(page, event) {
    const read = this.#entriesOf(event, !this.readable ? Infinity : page.bytes > FULL ? FEW : LINES);
    page.version += 1;
    if (!read) return;
    if (read.note) return this.#push(page, read.note);
    if (read.record) return this.#detail(page, event.offset - 1, read.record);
    if (read.replace) return this.#replace(page, read.replace);
    for (const entry of read.rest ? [...read.lines, read.rest] : read.lines) {
      entry.event = event.offset;
      this.#push(page, entry);
    }
    if (page === this.tail && read.lines.length) this.drafts[read.lines[0].source] = null;
  }

  /* More about the line of the event before. */
  #detail(page, offset, more) {
    let line = page.entries.length;
    while (line > 0 && page.entries[line - 1].event === offset) line -= 1;
    if (line < page.entries.length) page.entries[line].more = more;
  }

  #replace(page, { source, lines, text }) {
    if (page === this.tail) this.drafts[source] = text || null;
    if (!lines) return;
    const bytes = page.bytes;
    const missing = page.retract(source, lines);
    this.#held += page.bytes - bytes;
    if (!missing || page.known) return; // what was read again took its lines back already
    this.#owe(page.index - 1, source, missing);
  }

  /* Lines at the end of this page are taken back by what follows it. */
  #owe(index, source, count) {
    const page = this.all[index];
    if (!page || !count) return;
    page.owed[source] += count;
    if (page.entries) this.#take(page, source, count);
  }

  #take(page, source, count) {
    if (!count) return;
    const bytes = page.bytes;
    const missing = page.retract(source, count);
    page.version += 1;
    this.#held += page.bytes - bytes;
    this.#numbers = null;
    if (missing && !page.passed?.[source]) {
      page.passed = { ...page.passed, [source]: true };
      this.#owe(page.index - 1, source, missing);
    }
    this.#told(page);
  }

  /** These pages are about to be seen: they are read, and kept. A promise of the first that is missing, or null. */
  want(indexes) {
    this.#near = new Set(indexes);
    let missing = null;
    for (const index of this.#near) {
      const page = this.all[index];
      if (!page || page.entries || this.#loading.has(index) || performance.now() - page.failedAt < RETRY_MS) continue;
      const loading = this.load(index, index);
      missing ??= loading;
    }
    return missing;
  }

  /** Read the pages `from` to `to` that are not held, as far as one answer reaches; a promise of their being there. */
  load(from, to = from) {
    const last = Math.min(to, this.all.length - 1);
    let end = from;
    while (end < last && end - from + 1 < ANSWER / EVENTS && !this.all[end + 1].entries && !this.#loading.has(end + 1)) end += 1;
    if (this.all[from].entries) return Promise.resolve(true);
    if (this.#loading.has(from)) return this.#loading.get(from);
    const loading = this.#load(from, end).finally(() => {
      for (let index = from; index <= end; index += 1) this.#loading.delete(index);
    });
    for (let index = from; index <= end; index += 1) this.#loading.set(index, loading);
    return loading;
  }

  async #load(from, to) {
    const records = [];
    let size = 0;
    for (let next = from * EVENTS + 1; next <= Math.min(this.last, (to + 1) * EVENTS); ) {
      const last = Math.min(this.last, (to + 1) * EVENTS);
      const answer = this.readable && next > this.base ? await this.#read(next - this.base, last - next + 1).catch(() => null) : null;
      if (answer?.epoch !== this.epoch) {
        const whole = Math.floor((next - 1) / EVENTS) - 1;
        if (whole < from) return this.#unreadable(from, to, answer !== null || !this.readable || next <= this.base);
        to = whole;
        break;
      }
      if (!answer.records.length) break; // what is missing at the end was dropped by the server's `show`
      for (const record of answer.records) {
        records.push(record);
        size += record.data.length;
      }
      next = answer.records[answer.records.length - 1].offset + this.base + 1;
      if (next - this.base > answer.top) break;
      if (size > AT_ONCE) to = Math.max(from, Math.min(to, Math.floor((next - 1) / EVENTS) - 1)); // those that are whole, or the first
    }
    let at = 0;
    for (let index = from; index <= to; index += 1) {
      const end = (index + 1) * EVENTS;
      const begin = at;
      while (at < records.length && records[at].offset + this.base <= end) at += 1;
      if (!this.all[index].entries) this.#fill(this.all[index], records.slice(begin, at));
    }
    this.#release(from, to);
    return true;
  }

  #unreadable(from, to, forGood) {
    for (let index = from; index <= to; index += 1) {
      const page = this.all[index];
      page.failedAt = forGood ? Infinity : performance.now();
    }
    if (!forGood) setTimeout(() => this.#told(this.all[from]), RETRY_MS + 100); // who still sees it asks again
    return false;
  }

  #fill(page, records) {
    const before = page.known ? page.numbers : null;
    page.failedAt = -Infinity;
    page.begin();
    if (page.head) this.#push(page, page.head);
    for (const record of records) this.#add(page, this.base ? { ...record, offset: record.offset + this.base } : record);
    for (const source of ["stdout", "stderr"]) this.#take(page, source, page.owed[source]);
    if (before !== null && page.numbers < before) this.#missing(page, before - page.numbers);
    if (page !== this.tail) page.known = true;
    this.#numbers = null;
    this.#told(page);
  }

  /* Lines that were there when this page was read before are no longer kept. */
  #missing(page, count) {
    const { entries, bytes } = page;
    page.begin();
    this.#held -= bytes;
    for (const entry of [new Note("⋯", count), ...entries]) this.#push(page, entry);
  }

  /** Commands of GitHub's in these lines of a page are text now, or no more: `found` are those in which they are. */
  stop(index, found, levelOf) {
    const page = this.all[index];
    const changed = (page.entries ?? []).filter((entry, line) => Boolean(entry.stopped) !== found.has(line));
    for (const entry of changed) {
      entry.stopped = !entry.stopped;
      if (entry.level === null) page.amend(entry, entry.stopped ? null : levelOf(entry.text));
    }
    if (changed.length) this.#told(page);
  }

  /** Let go of what is farthest from the reader, while more is held than may be. */
  #release(from = 0, to = -1) {
    if (this.#held <= this.most) return;
    const near = [...this.#near, ...(this.#near.size ? [] : [this.all.length - 1])];
    const middle = (Math.min(...near) + Math.max(...near)) / 2;
    const distance = (page) => Math.abs(page.index - middle);
    const isFar = ({ index }) => !this.#near.has(index) && (index < from || index > to);
    const far = this.all.filter((page) => page.entries?.length && page !== this.tail && isFar(page));
    far.sort((one, other) => distance(other) - distance(one));
    for (const page of far) {
      if (this.#held <= 0.9 * this.most) break;
      this.#held -= page.bytes;
      page.entries = null;
      page.bytes = 0;
      page.known = true;
      this.#told(page);
    }
  }

  release() {
    this.#release();
  }
}
