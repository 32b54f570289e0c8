/* What comes of a log: what there was by its range endpoint, the end first, and what is new by its stream. */

const AT_FIRST = 200; // lines at the end that are there at first, at least
const AHEAD = 50; // pages that are loaded before anybody goes there
const PAUSE_MS = 30; // between two of their answers
const FIRST = 100; // matches of the first answer of a search, which is waited for
const FOUND = 50_000; // of each that follows
const CAUGHT_UP_MS = 1000; // after the opening of a stream what comes may be older

export class Source {
  #log;
  #tools;
  #refused = null; // what the server would not search for
  #late = null; // {from, to}: events that came in a burst: their times are the server's to say

  /** `log`: the parts of log.js. `tools`: {offsetOf} of events.js, {EVENTS, ANSWER} of pages.js. */
  constructor(log, tools) {
    this.#log = log;
    this.#tools = tools;
    this.id = ""; // of the last event
    this.closed = null; // why nothing follows
  }

  /** An answer of the range endpoint, or null where it is refused; throws its words about a query that it cannot take. */
  async range(query) {
    const { element, signal } = this.#log;
    const address = new URL(element.getAttribute("range"), document.baseURI);
    for (const [name, value] of Object.entries(query)) if (value !== null && value !== "") address.searchParams.set(name, value);
    const answer = await fetch(address, { credentials: "same-origin", headers: { Accept: "application/json" }, signal });
    if (answer.status === 400) throw (await answer.json().catch(() => null))?.error?.message ?? "failed";
    return answer.ok ? answer.json() : null;
  }

  /** Read the end, and what there is to know of the whole. */
  async open() {
    const { element, pages, outcome, words } = this.#log;
    const { offsetOf, EVENTS, ANSWER } = this.#tools;
    const { t, number } = words;
    const last = offsetOf(element.getAttribute("position")) ?? (await this.range({ from: -1, count: 1 }))?.top ?? 0;
    const inPage = (last - 1) % EVENTS;
    const from = Math.max(1, last - inPage - (inPage < AT_FIRST ? EVENTS : 0));
    const answer = await this.range({ from, count: ANSWER, levels: 1 });
    if (!answer) return; // refused: the stream says why
    const { epoch, top, records } = answer;
    const floor = Math.min(answer.floor, top);
    pages.open(epoch, floor, top, t("Lines 1 to {last} are no longer kept.", { last: number(floor) }));
    outcome.learn(answer.levels ?? null, top);
    pages.give(answer, from);
    let end = records.length ? records[records.length - 1].offset : from - 1;
    if (top > 0 && !pages.tail.entries) await pages.load(pages.all.length - 1);
    if (pages.tail?.entries) end = top;
    for (const record of records) outcome.take(record.event ?? "message", record.data, record.at);
    this.id = records.find(({ offset }) => offset === end)?.id ?? `${epoch}.${end}`;
    if (top === 0) this.id = element.getAttribute("position") ?? "";
    if (end >= top) this.closed = answer.closed;
    outcome.begin();
  }

  /** The whole text of a line of which only the beginning is held; null where it cannot be read, undefined where it is no longer kept. */
  async whole(entry, nth) {
    const { pages } = this.#log;
    const answer = await this.range({ from: entry.event - pages.base, count: 1 }).catch(() => null);
    if (answer?.epoch === pages.epoch && answer.floor >= entry.event - pages.base) return undefined; // no longer kept
    const [record] = answer?.records ?? [];
    return record?.offset + pages.base === entry.event ? record.data.split("\n")[nth] ?? null : null;
  }

  /** Read the pages before the end, while nothing else is to do. */
  async loadAhead() {
    const { pages, signal } = this.#log;
    const least = Math.max(0, pages.all.length - AHEAD);
    for (let index = pages.all.length - 1; index >= least && !signal.aborted && pages.held < pages.most / 2; index -= 1) {
      if (pages.all[index].entries) continue;
      let first = index; // those that somebody has looked at meanwhile are here
      while (first > least && index - first + 1 < this.#tools.ANSWER / this.#tools.EVENTS && !pages.all[first - 1].entries) first -= 1;
      if (!(await pages.load(first, index))) return;
      if (!pages.all[index].entries) index += 1; // large lines: as many as are read at once
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  /** The pages from `index` on in a direction, as far as none is held, are searched by the server, whose answers are numbers alone.
      Where it cannot, or refuses the pattern, some of them are read. */
  async search(find, index, by) {
    const { pages } = this.#log;
    const { EVENTS } = this.#tools;
    const { sought } = find;
    const { query, regex, sensitive, levels, source } = sought;
    const { base } = pages;
    const canAsk = (page) => pages.all[page] && !pages.all[page].entries && page * EVENTS >= base;
    const edge = (page) => (by > 0 ? Math.min(pages.last, (page + 1) * EVENTS) : page * EVENTS + 1) - base; // its event that is looked at last
    let end = index;
    while (canAsk(end + by)) end += by;
    const asks = canAsk(index);
    const found = new Map(); // by page, {lines, counts}, in that direction
    let limit = FIRST;
    let place = by > 0 ? index * EVENTS - base : Math.min(pages.last, (index + 1) * EVENTS) - base + 1;
    for (let page = index; ; ) {
      const ask = { [by > 0 ? "after" : "before"]: place, places: 1, limit, grep: query, regex: regex ? 1 : "", case: sensitive ? 1 : "", level: levels?.join() ?? "", source: source ?? "" };
      const answer = asks && this.#refused !== sought ? await this.range(ask).catch((why) => this.#refuse(sought, why)) : null;
      if (find.sought !== sought || find.trouble) return;
      if (answer?.epoch !== pages.epoch) return void (await find.read(page, by));
      limit = FOUND;
      const { offsets, counts, next } = answer;
      for (let nth = by > 0 ? 0 : offsets.length - 1; nth >= 0 && nth < offsets.length; nth += by) {
        const number = offsets[nth] + base - 1;
        const at = Math.floor(number / EVENTS);
        if (!found.has(at)) found.set(at, { lines: [], counts: [] });
        found.get(at).lines.push(number - at * EVENTS);
        found.get(at).counts.push(counts[nth]);
      }
      place = next ? next.after ?? next.before : edge(end);
      for (; (end - page) * by >= 0 && (place - edge(page)) * by >= 0; page += by) {
        const { lines, counts: times } = found.get(page) ?? { lines: [], counts: [] };
        found.delete(page);
        find.take(page, by > 0 ? lines : lines.reverse(), by > 0 ? times : times.reverse());
      }
      if ((place - edge(end)) * by >= 0) return;
    }
  }

  /* Its patterns are others, and one that explodes there is tried here too. */
  #refuse(sought, why) {
    if (typeof why !== "string" || !sought.regex) throw why;
    this.#refused = sought;
    return null;
  }

  /** An event of the stream, which was published now, but for what had to be caught up with: `openedAt`, when the stream was opened. */
  came(name, data, id, openedAt) {
    if (name.startsWith("sse.") && name !== "sse.gap") return;
    const { pages, outcome } = this.#log;
    const offset = pages.readable ? this.#tools.offsetOf(id) : null;
    if (name === "sse.gap") this.#gap(data, offset);
    if (id) this.id = id;
    if (name === "sse.gap") return;
    if (offset !== null) pages.epoch ??= id.slice(0, id.indexOf("."));
    const at = Date.now() / 1000;
    const before = pages.tail;
    const had = before?.entries?.length ?? 0;
    pages.append({ event: name, data, at }, this.#offset(offset));
    const page = pages.tail;
    const lines = page.entries.slice(page === before ? had : 0);
    if (lines.length) this.#lines(lines, performance.now() - openedAt < CAUGHT_UP_MS && offset !== null ? pages.last : null);
    outcome.take(name, data, at);
    this.#log.later();
  }

  #offset(offset) {
    const { last, base } = this.#log.pages;
    return offset === null ? last + 1 : Math.max(last + 1, offset + base);
  }

  #lines(lines, late) {
    const { following, outcome } = this.#log;
    if (!following.on) this.#log.unseen += lines.length;
    outcome.count(lines);
    if (late !== null) this.#late = { from: this.#late?.from ?? late, to: late };
  }

  #gap(data, offset) {
    const { pages, words } = this.#log;
    const { t } = words;
    let told = {};
    try {
      told = Object(JSON.parse(data));
    } catch { /* a gap without words */ }
    const { reason, missed } = told;
    const lost = Number.isSafeInteger(missed) && missed >= 0 ? missed : null;
    const trimmed = lost === null ? t("Some lines are missing here: they are no longer kept.") : t("{count} line is missing here, no longer kept.", "{count} lines are missing here, no longer kept.", { count: lost });
    const again = t("The log starts again here. Earlier lines are gone.");
    const texts = { trimmed, epoch: again, fork: again };
    pages.note(texts[reason] ?? t("The server could not resume the log. It is repeated from here on."), reason === "trimmed" ? lost ?? 0 : 0);
    if (reason === "trimmed" && offset !== null) pages.last = Math.max(pages.last, offset + pages.base);
    else if (reason !== "trimmed" && pages.all.length) pages.restart();
    this.#log.later();
  }

  /** What came in a burst, after a reconnection, has the time of its arrival until the server is asked. */
  async correctTimes() {
    const { pages } = this.#log;
    const { EVENTS } = this.#tools;
    const late = this.#late;
    this.#late = null;
    if (!pages.readable || !late) return;
    try {
      for (const page of pages.all.slice(Math.floor((late.from - 1) / EVENTS), Math.ceil(late.to / EVENTS))) {
        const last = Math.min(late.to, (page.index + 1) * EVENTS);
        for (let from = Math.max(late.from, page.index * EVENTS + 1); page.entries && from <= last; ) {
          const answer = await this.range({ from: from - pages.base, count: last - from + 1 });
          if (!answer?.records.length) break;
          const times = new Map(answer.records.map(({ offset, at }) => [offset + pages.base, at]));
          for (const entry of page.entries ?? []) entry.at = times.get(entry.event) ?? entry.at;
          from = answer.records[answer.records.length - 1].offset + pages.base + 1;
        }
      }
      this.#log.later();
    } catch { /* they keep what they have */ }
  }
}
