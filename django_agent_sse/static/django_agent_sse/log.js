/* <sse-log src="…">: a log as it is written. See docs/reference/live-log.rst for its attributes and events.

   What it holds is in pages.js, what of it is shown in folds.js and order.js, what is in the page in rows.js and draw.js. Its modules
   are imported by the addresses that {% sse_script %} puts on the script's tag, so that hashed names of ManifestStaticFilesStorage
   hold; without the tag they are looked for beside this one. None of them imports another: what they need is given to them. */

const tag = document.querySelector("script[data-agent-sse][data-rows]") ?? document.querySelector("script[data-agent-sse]");
const addressOf = (name, kind = "js") => {
  const given = tag?.dataset[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())];
  return new URL(given ?? `./${name}.${kind}`, given ? document.baseURI : import.meta.url).href;
};
/* Written out, so that a bundler finds them too. */
const BESIDE = {
  sgr: () => import("./sgr.js"),
  look: () => import("./look.js"),
  lines: () => import("./lines.js"),
  levels: () => import("./levels.js"),
  words: () => import("./words.js"),
  client: () => import("./client.js"),
  pages: () => import("./pages.js"),
  folds: () => import("./folds.js"),
  order: () => import("./order.js"),
  rows: () => import("./rows.js"),
  draw: () => import("./draw.js"),
  search: () => import("./search.js"),
  place: () => import("./place.js"),
  events: () => import("./events.js"),
  panel: () => import("./panel.js"),
  following: () => import("./following.js"),
  connection: () => import("./connection.js"),
  finish: () => import("./finish.js"),
};
const load = (name) => (tag?.dataset[name] ? import(/* webpackIgnore: true */ /* @vite-ignore */ addressOf(name)) : BESIDE[name]());
const [sgr, look, model, levels, speech, client, store, folding, ordering, dom, drawing, searching, places, events, panels, follow, connecting, finishing] = await Promise.all(
  Object.keys(BESIDE).map(load),
);
const { make, rangeOf, Rows } = dom;
const { EVENTS, keyOf, pageOf, lineOf, Note } = store;

const ANSWER = 5000; // lines of one answer of the range endpoint
const AT_FIRST = 200; // lines at the end that are there at first, at least
const AHEAD = 50; // pages that are loaded before anybody goes there
const FOUND = 1000; // matches of one answer of a search
const QUIET = 4000; // milliseconds between two words for screen readers
const PLACE_MS = 400; // after which the address says where the reader is
const NAMED = 200; // characters of a group's name
const PRINTED = 20_000; // lines that are printed
const REMEMBERED = "django-agent-sse.log";
const MODES = ["off", "elapsed", "clock"];
const TYPED = "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, [contenteditable]";
const isEditable = (target) => target instanceof Element && target.closest(TYPED) !== null; // a checkbox keeps the focus for a moment after its dialog is gone
const secondsOf = (text) => (Number.isNaN(Date.parse(text ?? "")) ? null : Date.parse(text) / 1000);
const OWN = ":scope > :is(.sl-bar, .sl-tools, .sl-main, .sl-said, .sl-sheet)";

function remembered() {
  try {
    return { wrap: true, times: "off", keys: true, ...JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}") };
  } catch {
    return { wrap: true, times: "off", keys: true };
  }
}

export class SSELog extends HTMLElement {
  #pages = null;
  #folds = null;
  #order = null;
  #draw = null;
  #rows = null;
  #find = null; // what the reader seeks
  #errors = null; // the errors of the log
  #patterns = null;
  #panel = null;
  #following = null;
  #connection = null;
  #finish = new finishing.Finish((name) => addressOf(name, "svg"));
  #words = null;
  #built = false;
  #opened = false; // what there was is here
  #leaving = null; // an AbortController while this is in a page
  #id = ""; // of the last event
  #closed = null; // why nothing follows
  #frame = null; // takes the next flush back
  #unseen = 0;
  #target = null; // the lines that the address names
  #event = null; // the event of the first of them, where numbers are not sure
  #sought = null; // what is still to be gone to
  #at = null; // the match that is gone to, {page, line, nth}
  #current = null; // the place that the keyboard is at
  #known = null; // errors and warnings as the server counted them
  #since = { errors: 0, warnings: 0 }; // what came after
  #late = []; // lines that came in a burst: their times are the server's to say
  #state = "connecting";
  #ended = false;
  #finished = false;
  #status = "";
  #started = null;
  #exit = null;
  #seconds = null; // as the log itself said
  #outcome = null;
  #inWords = false; // not only by an exit code
  #endedAt = null;
  #lastAt = null;
  #clock = 0;
  #said = 0;
  #saying = 0;
  #placing = 0;

  /** How many lines there are, as far as known. */
  get count() {
    return this.#pages ? this.#pages.count - this.#pages.floor : 0;
  }

  /** The text that is held here, a line each. */
  get text() {
    return this.#texts(this.#pages.all.flatMap((page) => page.entries ?? []));
  }

  /** "connecting", "open", "reconnecting", "hidden", "ended" or "error", as the connection is. */
  get state() {
    return this.#state;
  }

  connectedCallback() {
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    if (!this.#built) this.#build();
    window.addEventListener("hashchange", () => this.#readAddress(), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    document.addEventListener("visibilitychange", () => this.#looked(), { signal });
    window.addEventListener("beforeprint", () => this.#print(true), { signal });
    window.addEventListener("afterprint", () => this.#print(false), { signal });
    this.#following.listen(signal);
    this.#clock = setInterval(() => this.#tick(), 500);
    if (!this.#ended) this.#start();
  }

  disconnectedCallback() {
    this.#leaving.abort();
    this.#connection?.close();
    this.#patterns.close();
    clearInterval(this.#clock);
    this.#frame?.();
    this.#frame = null;
  }

  /* The page */

  #build() {
    this.#built = true;
    this.#words = speech.words(this);
    const { t, number } = this.#words;
    const actions = this.querySelector(".sse-log-actions");
    const before = this.querySelector(".sse-log-fallback");
    for (const one of this.querySelectorAll(OWN)) one.remove(); // of a copy that a library kept of the page
    this.prefs = remembered();
    this.#started = secondsOf(this.getAttribute("started"));
    if (this.getAttribute("exit-code")) this.#exit = Number(this.getAttribute("exit-code"));
    const raw = this.getAttribute("raw");
    const primary = document.querySelector("sse-log") === this;

    const read = events.reader({ ...store, ...levels, t, number });
    this.#pages = new store.Pages((from, count) => this.#range({ from, count }), read, (page) => this.#changed(page));
    this.#pages.readable = Boolean(this.getAttribute("range"));
    const dialects = this.getAttribute("groups")?.split(/[\s,]+/).filter(Boolean) ?? model.DIALECTS;
    this.#folds = new folding.Folds(this.#pages, { ...model, ...store, dialects });
    this.#order = new ordering.Order(this.#pages, this.#folds, store);
    this.#draw = new drawing.Draw(this.#pages, { ...sgr, ...look, ...model, ...levels, ...store, dialects, make, t, number, raw });
    this.#draw.anchors = primary;
    this.#patterns = new searching.Patterns(addressOf("search-worker"));
    const plain = (entry) => this.#draw.plain(entry);
    const server = this.getAttribute("range") ? (find, index) => this.#askServer(find, index) : null;
    this.#find = new searching.Find(this.#pages, { plain, patterns: this.#patterns, server }, () => this.#found());
    this.#errors = new searching.Find(this.#pages, { plain, patterns: this.#patterns, server }, () => this.#later());

    this.$view = make("div", "sl-view", { role: "log", "aria-live": "off", "aria-label": this.getAttribute("label") || t("Log"), tabindex: "0", dir: "ltr" });
    this.$before = before ?? make("div", "sse-log-fallback");
    this.$drafts = make("div", "sl-drafts", { hidden: true });
    this.$news = make("button", "sl-news", { type: "button", hidden: true });
    this.$sticky = make("button", "sl-sticky", { type: "button", hidden: true, tabindex: "-1", "aria-hidden": "true", dir: "ltr" });
    this.$say = make("p", "sl-said", { role: "status" });
    this.#panel = new panels.Panel({ make, t, number }, this.#actions(), { raw, prefs: this.prefs, notifies: primary && this.#finish.canNotify });
    if (actions) this.#panel.bar.append(actions);
    this.prepend(this.#panel.bar, this.#panel.toolbar, make("div", "sl-main", {}, this.$view, this.$sticky, this.$news), this.$say, ...this.#panel.sheets);
    this.$view.append(this.$before);
    this.#rows = new Rows(this.$view, this.#order, (key, known) => this.#row(key, known), (keys) => this.#seen(keys));
    this.$view.append(this.$drafts);
    this.#following = new follow.Following(this.$view, this.#rows, (on) => this.#follow(on, false));
    this.classList.toggle("sl-nowrap", !this.prefs.wrap);
    this.$view.classList.toggle("sl-times", this.prefs.times !== "off");
    this.#panel.nameTimes(this.prefs.times);
    this.$view.addEventListener("click", (event) => this.#clicked(event));
    this.$view.addEventListener("copy", (event) => this.#copied(event));
    this.$view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.$news.addEventListener("click", () => this.#follow(true));
    this.$sticky.addEventListener("click", () => this.#rows.show(this.$sticky.key, "start"));
    new ResizeObserver(() => this.#resized()).observe(this.$view);
    this.#showStatus(this.getAttribute("status") || "waiting");
    this.#readAddress();
    this.#tick();
  }

  #actions() {
    return {
      find: () => this.#seek(),
      enter: (by) => this.#step(by),
      leave: () => this.$view.focus(),
      step: (by) => this.#step(by),
      follow: () => this.#follow(!this.#following.on),
      wrap: () => this.#wrap(),
      times: () => this.#turnTimes(),
      fill: () => this.#fill(),
      foldAll: () => this.#foldAll(),
      notify: async () => this.#panel.notify.setAttribute("aria-pressed", String(await this.#finish.ask(!this.#finish.wanted))),
      download: () => this.#download(),
      copy: () => this.#copy(),
      list: () => this.#list(),
      jump: (line) => this.#jump({ first: line, last: line }),
      remember: (change) => this.#remember(change),
    };
  }

  #remember(change) {
    Object.assign(this.prefs, change);
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(this.prefs));
    } catch { /* a private window */ }
  }

  /* What there is: the end first, then the stream from there on, and what is before the end while nothing else is to do */

  async #start() {
    if (!this.#opened && this.#pages.readable) {
      try {
        await this.#open();
      } catch (error) {
        if (error.name !== "AbortError") console.debug("sse-log: the range endpoint failed, the stream goes on", error);
      }
    }
    if (this.#leaving.signal.aborted || this.#ended) return;
    this.#opened = true;
    if (this.#closed !== null) { // nothing follows
      this.#logEnded(this.#closed);
      this.#askCounts();
      await this.#loadAhead();
      if (this.#following.on) await this.#toFailure();
      this.#later();
      return;
    }
    const isOver = this.#pages.readable ? async () => (await this.#range({ from: -1, count: 1 }, true))?.closed != null : null;
    this.#connection = new connecting.Connection(this, { EventStream: client.EventStream, t: this.#words.t, make, isOver }, {
      event: (name, data, id) => this.#came(name, data, id),
      open: () => setTimeout(() => { if (this.prefs.times !== "off") this.#mendTimes(); }, 1500),
      word: (state, words) => this.#word(state, words),
      over: (state, words) => this.#over(state, words),
      ended: (reason) => this.#logEnded(reason),
      hasOutcome: () => this.#outcome !== null,
    });
    this.#connection.open(this.#id);
    this.#loadAhead();
    this.#askCounts();
  }

  /* A log that keeps no index of its errors counts them as it is asked again and again. */
  async #askCounts() {
    for (let asked = 0; this.#known && this.#known.upto < this.#counted && asked < 200; asked += 1) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      const answer = await this.#range({ from: -1, count: 1, levels: 1 }, true).catch(() => null);
      if (!answer?.levels) return;
      this.#known = answer.levels;
      this.#showFacts();
    }
  }

  #counted = 0; // events up to which the server was asked for errors

  async #open() {
    const { t, number } = this.#words;
    const last = events.offsetOf(this.getAttribute("position")) ?? (await this.#range({ from: -1, count: 1 }))?.top ?? 0;
    const inPage = (last - 1) % EVENTS;
    const from = Math.max(1, last - inPage - (inPage < AT_FIRST ? EVENTS : 0));
    const answer = await this.#range({ from, count: ANSWER, levels: 1 });
    if (!answer) return; // refused: the stream says why
    const floor = Math.min(answer.floor, answer.top);
    this.#pages.open(answer.epoch, floor, answer.top, t("Lines 1 to {last} are no longer kept.", { last: number(floor) }));
    this.#known = answer.levels ?? null;
    this.#counted = answer.top;
    const { records } = answer;
    this.#pages.give(answer, from);
    let end = records.length ? records[records.length - 1].offset : from - 1;
    if (answer.top > 0 && !this.#pages.tail.entries) await this.#pages.load(this.#pages.all.length - 1);
    if (this.#pages.tail?.entries) end = answer.top;
    for (const record of records) this.#about(record.event ?? "message", record.data, record.at);
    this.#id = records.find(({ offset }) => offset === end)?.id ?? `${answer.epoch}.${end}`;
    if (answer.top === 0) this.#id = this.getAttribute("position") ?? "";
    if (end >= answer.top) this.#closed = answer.closed;
    this.#begin();
    await this.#toFailure();
    this.#flush();
  }

  /* When the log began is known from its first line. */
  async #begin() {
    if (this.#started !== null || this.#seconds !== null || this.#pages.all.length === 0) return;
    const first = this.#pages.all[0].entries?.find(({ at }) => at !== null);
    const at = first?.at ?? (await this.#range({ from: this.#pages.floor + 1, count: 1 }).catch(() => null))?.records[0]?.at;
    if (at !== undefined) this.#started ??= at;
    this.#showFacts();
  }

  /* A log that failed opens where it failed first. */
  async #toFailure() {
    if (this.#closed === null || this.#sought || !this.#hasFailed()) return;
    const event = this.#known ? this.#known.first_error : null;
    let key = event ? this.#pages.findEvent(event) : null;
    if (key !== null && !this.#pages.all[pageOf(key)].entries) {
      await this.#pages.load(pageOf(key));
      key = this.#pages.findEvent(event);
    }
    if (key === null) {
      const page = this.#pages.all.find(({ errors, entries }) => entries && errors);
      if (page) key = keyOf(page.index, page.entries.findIndex(({ severity }) => severity === "error"));
    }
    if (key === null || !this.#pages.entry(key)) return;
    this.#current = key;
    this.#sought = { key };
    this.#follow(false, false);
  }

  #hasFailed() {
    const status = this.getAttribute("status") ?? "";
    return (this.#exit ?? 0) !== 0 || [this.#closed ?? "", this.#outcome ?? "", status].some((word) => events.toneOf(word) === "bad");
  }

  async #loadAhead() {
    const least = Math.max(0, this.#pages.all.length - AHEAD);
    for (let index = this.#pages.all.length - 1; index >= least && !this.#leaving.signal.aborted; index -= 1) {
      if (this.#pages.all[index].entries) continue;
      const first = Math.max(least, index - ANSWER / EVENTS + 1);
      if (!(await this.#pages.load(first, index))) return;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  /* `quiet`: nobody did something for it, so it is no activity. */
  async #range(query, quiet = false) {
    const address = new URL(this.getAttribute("range"), document.baseURI);
    for (const [name, value] of Object.entries(query)) if (value !== null && value !== "") address.searchParams.set(name, value);
    const answer = await fetch(address, { credentials: "same-origin", headers: { Accept: "application/json", ...(quiet ? { "Agent-SSE-Check": "1" } : {}) }, signal: this.#leaving.signal });
    if (answer.status === 400) throw (await answer.json().catch(() => null))?.error?.message ?? "failed";
    return answer.ok ? answer.json() : null;
  }

  /* A run of pages from `index` on that are not held is searched by the server; where it cannot, or refuses the pattern, they are read. */
  async #askServer(find, index) {
    const { sought } = find;
    const { query, regex, sensitive, levels: named, source } = sought;
    let last = index;
    while (last + 1 < this.#pages.all.length && !this.#pages.all[last + 1].entries) last += 1;
    const { base } = this.#pages;
    const end = Math.min(this.#pages.last, (last + 1) * EVENTS) - base;
    const lines = new Map();
    let page = index;
    for (let after = index * EVENTS - base; ; ) {
      const asks = after >= 0 && this.#refused !== sought;
      const answer = asks ? await this.#range({ after, limit: FOUND, grep: query, regex: regex ? 1 : "", case: sensitive ? 1 : "", level: named?.join() ?? "", source: source ?? "" }).catch((why) => this.#refuse(sought, why)) : null;
      if (find.sought !== sought) return;
      if (!answer?.scanned && answer?.next === undefined) return void (await this.#pages.load(index, index + 4));
      for (const { offset, match } of answer.records) {
        const at = Math.floor((offset + base - 1) / EVENTS);
        if (!lines.has(at)) lines.set(at, []);
        if (match) lines.get(at).push(offset + base - 1 - at * EVENTS);
      }
      const seen = answer.next ? Math.max(answer.next.after, after + 1) : end;
      for (; page <= last && (page + 1) * EVENTS - base <= seen; page += 1) find.take(page, lines.get(page) ?? []);
      if (!answer.next || seen >= end) break;
      after = seen;
    }
    for (; page <= last; page += 1) find.take(page, lines.get(page) ?? []);
  }

  #refused = null; // what the server would not search for

  /* Its patterns are others, and one that explodes there is tried here too. */
  #refuse(sought, why) {
    if (typeof why !== "string" || !sought.regex) throw why;
    this.#refused = sought;
    return null;
  }

  /* What comes by the stream was published now, but for what had to be caught up with. */
  #came(name, data, id) {
    if (name.startsWith("sse.") && name !== "sse.gap") return;
    const offset = this.#pages.readable ? events.offsetOf(id) : null;
    if (name === "sse.gap") this.#gap(data, offset);
    if (id) this.#id = id;
    if (name === "sse.gap") return;
    const late = performance.now() - this.#connection.openedAt < 1000;
    const at = Date.now() / 1000;
    const before = this.#pages.tail;
    const counted = this.#pages.count;
    this.#pages.append({ event: name, data, at }, this.#offset(offset));
    const page = this.#pages.tail;
    const lines = page.entries.slice(page === before ? -Math.max(0, this.#pages.count - counted) : 0);
    if (this.#pages.count > counted) this.#lines(lines, late ? offset : null);
    this.#about(name, data, at);
    if (events.isLine(name) && (this.#status === "waiting" || this.#status === "queued")) this.#showStatus("running");
    this.#later();
  }

  #offset(offset) {
    const next = this.#pages.last + 1;
    return offset === null ? next : Math.max(next, offset + this.#pages.base);
  }

  /* Lines that are new. */
  #lines(lines, late) {
    if (!this.#following.on) this.#unseen += lines.length;
    for (const line of lines) {
      if (line.severity === "error") this.#since.errors += 1;
      else if (line.severity === "warning") this.#since.warnings += 1;
      if (line.at !== null) this.#lastAt = line.at;
      if (this.#started === null) this.#started = line.at;
      if (late !== null) this.#late.push([late, line]);
    }
  }

  #gap(data, offset) {
    const { t, number } = this.#words;
    let told = {};
    try {
      told = Object(JSON.parse(data));
    } catch { /* a gap without words */ }
    const { reason, missed } = told;
    const lost = Number.isSafeInteger(missed) && missed >= 0 ? missed : null;
    const trimmed = lost === null ? t("Some lines are missing here: they are no longer kept.") : t("{count} line is missing here, no longer kept.", "{count} lines are missing here, no longer kept.", { count: lost });
    const again = t("The log starts again here. Earlier lines are gone.");
    const texts = { trimmed, epoch: again, fork: again };
    this.#pages.note(texts[reason] ?? t("The server could not resume the log. It is repeated from here on."), reason === "trimmed" ? lost ?? 0 : 0);
    if (reason === "trimmed" && offset !== null) this.#pages.last = Math.max(this.#pages.last, offset + this.#pages.base);
    else if (reason !== "trimmed" && this.#pages.all.length) this.#pages.restart();
    void number;
    this.#later();
  }

  #about(name, data, at) {
    const about = events.aboutOf(name, data);
    if (about?.status) this.#showStatus(about.status);
    else if (about?.progress && !this.#ended) this.#panel.showProgress(about.progress);
    else if (about?.exit) this.#exited(about.exit, at);
  }

  /* Once a frame; a tab that nobody looks at has none, and yet its title says when the log ends. */
  #later() {
    if (this.#frame) return;
    const flush = () => this.#flush();
    const [call, cancel] = document.hidden ? [setTimeout, clearTimeout] : [requestAnimationFrame, cancelAnimationFrame];
    const id = call(flush, 250);
    this.#frame = () => cancel(id);
  }

  #looked() {
    this.#connection?.look();
    if (!this.#frame) return;
    this.#frame();
    this.#frame = null;
    this.#later();
  }

  /* A page came, or is let go. */
  #changed(page) {
    this.#folds.note(page);
    this.#find.note(page);
    this.#errors.note(page);
    this.#later();
  }

  #flush() {
    this.#frame = null;
    const { tail } = this.#pages;
    if (tail?.entries) {
      for (const page of this.#pages.all.slice(-2)) if (page.entries) this.#folds.note(page);
      this.#find.note(tail);
      this.#errors.note(tail);
      this.#pages.release();
    }
    for (const group of this.#folds.update()) this.#closedGroup(group);
    if (this.$before && (this.#pages.count || this.#opened)) this.#showEmpty();
    this.#showDrafts();
    this.#order.changed();
    if (this.#following.pinned && !this.#sought) this.#rows.toEnd();
    else if (!this.#goSought()) this.#rows.refresh();
    if (this.#ended) this.#finishUp();
    this.#showFacts();
    this.#showFound();
    this.#showFollowing();
    this.#showSticky();
    this.#paint();
  }

  #closedGroup(group) {
    const { t, duration } = this.#words;
    if (this.#ended || !this.#opened || !this.#connection) return;
    if (!this.#following.on && this.#folds.around(group.key) === null) this.#folds.turn(group, true); // not under the reader's eyes
    const name = nameOf(group);
    if (group.failed) this.#say(t("{name} failed", { name }));
    else this.#say(group.duration === null ? t("{name} finished", { name }) : t("{name} finished after {time}", { name, time: duration(group.duration) }));
  }

  /* What stands in the page before the first line */
  #showEmpty() {
    const { t } = this.#words;
    if (this.#pages.count) {
      this.$before.remove();
      this.$before = null;
    } else if (!this.$before.querySelector("pre")?.textContent.trim()) {
      const text = this.#ended ? (this.#state === "error" ? this.#panel.connection.firstChild?.textContent : t("Nothing was printed.")) : t("Nothing has been printed yet.");
      if (this.$before.textContent !== text) this.$before.replaceChildren(make("p", "sl-empty", {}, text ?? ""));
    }
  }

  #showDrafts() {
    const drafts = ["stdout", "stderr"].flatMap((source) => (this.#pages.drafts[source] === null ? [] : this.#pages.drafts[source].split("\n").map((text) => [source, text])));
    const said = JSON.stringify(drafts);
    if (this.$drafts.dataset.said === said) return;
    this.$drafts.dataset.said = said;
    this.$drafts.hidden = !drafts.length;
    this.$drafts.replaceChildren(...drafts.map(([source, text]) => this.#draw.draft(source, text)));
  }

  /* What a row shows */

  #row(key, known) {
    const page = this.#pages.all[pageOf(key)];
    const line = lineOf(key);
    const entry = this.#pages.entry(key);
    const number = this.#pages.number(key);
    const group = this.#folds.titled(key);
    let depth = 0;
    for (let around = this.#folds.around(key); around; around = around.parent) depth += 1;
    const classes = [];
    if (this.#target && number >= this.#target.first && number <= this.#target.last) classes.push("sl-target");
    if (key === this.#current) classes.push("sl-current");
    if (this.#find.sought && this.#find.has(page.index, line)) classes.push("sl-hit");
    if (this.#order.filtered) {
      const previous = line ? [page, line - 1] : [this.#pages.all[page.index - 1], (this.#pages.all[page.index - 1]?.count ?? 0) - 1];
      if (!this.#find.shows(...previous, this.#panel.sought.around)) classes.push("sl-gap");
    }
    const about = { number, depth, title: group !== null && !this.#order.filtered, open: false, took: "", foldLabel: "", classes, time: this.#time(entry) };
    if (about.title) {
      const { t, duration } = this.#words;
      classes.push("sl-title", ...(group.failed || group.errors ? ["sl-failed"] : []), ...(group.over ? ["sl-over"] : []));
      about.open = this.#folds.isOpen(group);
      about.took = !group.over ? t("running") : group.duration === null ? "" : duration(group.duration);
      about.foldLabel = t("Group {name}", { name: nameOf(group) });
    }
    return this.#draw.row(key, about, known);
  }

  #time(entry) {
    if (this.prefs.times === "off" || entry?.at == null) return "";
    return this.prefs.times === "clock" ? this.#words.time(new Date(entry.at * 1000)) : `+${this.#words.duration(Math.max(0, entry.at - (this.#started ?? entry.at)))}`;
  }

  /* What is in the page is held. */
  #seen(keys) {
    this.#pages.want(new Set(Array.from(keys, pageOf)));
  }

  /* Following the end */

  #follow(on, scroll = true) {
    this.#following.on = on;
    if (on) this.#sought = null;
    this.#unseen = 0;
    if (on && scroll) this.#rows.toEnd();
    this.#showFollowing();
    this.#later();
    this.#place();
  }

  #showFollowing() {
    if (this.#following.on) this.#unseen = 0;
    this.#panel.follow.setAttribute("aria-pressed", String(this.#following.on));
    this.$news.hidden = this.#following.on || !this.#unseen || this.#finished;
    if (!this.$news.hidden) this.$news.textContent = `↓ ${this.#words.t("{count} new line", "{count} new lines", { count: this.#unseen })}`;
  }

  #scrolled() {
    this.#place();
    this.#later();
  }

  #resized() {
    const probe = make("span", "sl-t sl-probe", { "aria-hidden": "true" }, "0".repeat(100));
    this.$view.append(probe);
    const width = probe.getBoundingClientRect().width / 100;
    probe.remove();
    const gutter = this.$view.querySelector(".sl-line .sl-n")?.offsetWidth ?? 58;
    this.#order.row = parseFloat(getComputedStyle(this.$view).lineHeight) || 20;
    this.#order.columns = this.prefs.wrap && width ? Math.max(10, Math.floor((this.$view.clientWidth - gutter - 14) / width)) : Infinity;
    this.#order.resized();
    if (this.#following.pinned) this.#rows.toEnd();
    else this.#rows.refresh();
  }

  /* The title of the group that the line at the top stands in */
  #showSticky() {
    const top = this.#rows.top;
    const group = top && !this.#order.filtered && top.over >= 0 ? this.#folds.around(top.key) : null;
    this.$sticky.hidden = group === null;
    if (!group || this.$sticky.key === group.key) return;
    this.$sticky.key = group.key;
    this.$sticky.textContent = `▾ ${nameOf(group)}`;
  }

  /* Links to lines, and the rest of the address */

  #readAddress() {
    if (!this.#draw.anchors) return;
    const place = places.placeOf(location.hash);
    if (place.query || place.levels || place.source) {
      this.#panel.sought = place;
      this.#seek({ stay: Boolean(place.lines || place.at) });
    }
    if (place.lines) this.#jump(place.lines, place.event);
    else if (place.at) this.#jump(null, null, place.at);
  }

  #jump(lines, event = null, at = null) {
    this.#target = lines;
    this.#event = event;
    this.#sought = lines ? { number: lines.first, event } : { number: at, top: true };
    this.#follow(false, false);
    this.#flush();
  }

  /* Whether the view has gone to what was sought. */
  #goSought() {
    const sought = this.#sought;
    if (!sought) return false;
    let key = sought.key ?? (sought.event ? this.#pages.findEvent(sought.event + this.#pages.base) : this.#pages.find(sought.number));
    if (key === null) {
      if (this.#finished) this.#missing(sought.number);
      return false;
    }
    const page = this.#pages.all[pageOf(key)];
    if (!page.entries) {
      this.#rows.show(key, sought.top ? "start" : "center"); // it is asked for by being shown
      this.#pages.load(page.index);
      return true;
    }
    if (sought.event && !sought.key) this.#aimed(key);
    this.#sought = null;
    this.#unseen = 0;
    key = sought.key ?? key;
    if (this.#folds.reveal(key)) this.#order.changed();
    this.#rows.show(key, sought.top ? "start" : "center");
    if (sought.number && !sought.top) this.#current = key;
    this.#reveal(key);
    return true;
  }

  /* The event of a line says more than its number, where not all before it was counted. */
  #aimed(key) {
    const by = this.#pages.number(key) - this.#target.first;
    this.#target = { first: this.#target.first + by, last: this.#target.last + by };
  }

  #missing(number) {
    this.#sought = null;
    this.#flash(this.#words.t("There is no line {number}: the log has {count}.", { number: String(number), count: this.#words.number(this.#pages.count) }));
    this.#follow(true);
  }

  #clicked(event) {
    const fold = event.target.closest?.(".sl-turn") ?? (event.target.closest?.(".sl-title > .sl-t") && document.getSelection().isCollapsed ? event.target : null);
    const row = event.target.closest?.(".sl-line");
    if (fold && row && !event.target.closest("a, .sl-next")) return this.#turnGroup(row.key);
    const number = event.target.closest?.(".sl-n[data-n]");
    if (!number || !this.#draw.anchors || event.ctrlKey || event.metaKey || event.button !== 0) return;
    event.preventDefault();
    this.#link(row.key, event.shiftKey);
  }

  #link(key, further) {
    const number = this.#pages.number(key);
    const from = further && this.#target ? this.#target.first : number;
    const single = !further && this.#target?.first === number && this.#target.last === number;
    this.#target = single ? null : { first: Math.min(from, number), last: Math.max(from, number) };
    const first = this.#target && this.#pages.find(this.#target.first);
    this.#event = first && !this.#pages.exactBefore(pageOf(first)) ? this.#pages.entry(first)?.event ?? null : null;
    this.#current = key;
    this.#follow(false, false);
    this.#putAddress();
  }

  #turnGroup(key) {
    const group = this.#folds.titled(key);
    if (!group) return;
    this.#folds.turn(group);
    if (this.#following.on) this.#follow(false, false);
    this.#flush();
  }

  #place() {
    if (!this.#draw.anchors || this.#placing) return;
    this.#placing = setTimeout(() => {
      this.#placing = 0;
      this.#putAddress();
    }, PLACE_MS);
  }

  #putAddress() {
    if (!this.#opened || !this.isConnected) return;
    const { top } = this.#rows;
    const at = this.#following.on || this.#sought || !top || this.#order.filtered || (this.#target && this.#rows.row(this.#pages.find(this.#target.first))) ? null : this.#pages.number(top.key);
    const sought = this.#panel.sought;
    const hash = places.hashOf({ ...sought, around: sought.only || sought.levels || sought.source ? sought.around || null : null, lines: this.#target, event: this.#event, at: at === 1 ? null : at });
    if (location.hash === hash || (!hash && !location.hash) || (location.hash && !hash && !this.#owns(location.hash))) return;
    history.replaceState(history.state, "", hash || location.pathname + location.search);
  }

  #owns(hash) {
    return places.hashOf(places.placeOf(hash)) !== "";
  }

  /* Search */

  #seek({ stay = false } = {}) {
    const { query, regex, sensitive, only, levels: named, source } = this.#panel.sought;
    const top = this.#rows?.top;
    this.#at = null;
    const from = top ? { page: pageOf(top.key), line: lineOf(top.key), nth: null } : null;
    this.#find.start({ query, regex, sensitive, levels: named, source }, from?.page ?? 0);
    this.#panel.showTrouble(this.#find.trouble === "pattern" ? this.#find.reason : "");
    const filters = Boolean(this.#find.sought) && (only || Boolean(named || source));
    const { around } = this.#panel.sought;
    this.#order.filter(filters ? (page) => this.#find.shownOf(page, around) : null);
    this.$view.classList.toggle("sl-only-hits", filters);
    this.#panel.around.hidden = !filters;
    this.#jumpTo = stay || !query ? null : from ?? { page: 0, line: 0, nth: null };
    this.#place();
    this.#flush();
  }

  #jumpTo = null; // from where the first match is to be gone to

  #found() {
    if (this.#jumpTo && this.#find.total) {
      const first = this.#find.step(this.#jumpTo, 1);
      if (first && (this.#find.done || first.page >= this.#jumpTo.page)) this.#goMatch(first);
    }
    this.#later();
  }

  #goMatch(match) {
    this.#jumpTo = null;
    this.#at = match;
    this.#sought = { key: keyOf(match.page, match.line) };
    this.#current = this.#sought.key;
    this.#follow(false, false);
  }

  #step(by) {
    if (!this.#find.total) return;
    const top = this.#rows.top;
    const at = this.#at ?? (top ? { page: pageOf(top.key), line: lineOf(top.key), nth: null } : null);
    const next = this.#find.step(at, by);
    if (!next) return;
    this.#goMatch(next);
    this.#flush();
  }

  /* The match in a line that is taller or wider than the view is in sight too. */
  #reveal(key) {
    const row = this.#rows.row(key);
    const entry = this.#pages.entry(key);
    const at = this.#at && keyOf(this.#at.page, this.#at.line) === key ? this.#find.ranges(entry)[this.#at.nth ?? 0] : null;
    const range = row && at ? rangeOf(row, ...at) : null;
    if (range) this.#rows.reveal(range.getBoundingClientRect());
  }

  #showFound() {
    const { t, number } = this.#words;
    const find = this.#find;
    const more = find.done && !find.partial ? "" : "+";
    const trouble = { pattern: t("Invalid pattern"), slow: t("The pattern takes too long"), none: t("Patterns cannot be tried in this page"), failed: t("The search failed") }[find.trouble];
    let text = "";
    if (trouble) text = trouble;
    else if (!find.sought) text = "";
    else if (!find.total) text = find.done ? t("No match") : t("Searching…");
    else text = t("{at} of {total}", { at: this.#at ? number(find.ordinal(this.#at)) : "–", total: `${number(find.total)}${more}` });
    if (this.#panel.found.textContent !== text) this.#panel.found.textContent = text;
    this.#panel.found.title = find.trouble === "pattern" ? find.reason : "";
  }

  /* The matches in sight, without touching the rows */
  #paint() {
    if (!globalThis.Highlight) return;
    const [all, current] = highlights();
    for (const range of this.#painted) for (const one of [all, current]) one.delete(range);
    this.#painted = [];
    if (!this.#find.sought?.query) return;
    for (const key of this.#rows.keys()) {
      if (!this.#find.has(pageOf(key), lineOf(key))) continue;
      const row = this.#rows.row(key);
      this.#find.ranges(this.#pages.entry(key) ?? new Note("")).forEach(([from, to], nth) => {
        const range = rangeOf(row, from, to);
        if (!range) return;
        const isAt = this.#at && keyOf(this.#at.page, this.#at.line) === key && this.#at.nth === nth;
        (isAt ? current : all).add(range);
        this.#painted.push(range);
      });
    }
  }

  #painted = [];

  /* Errors */

  #seekErrors() {
    if (!this.#errors.sought) this.#errors.start({ query: "", levels: ["error", "warning"], source: null }, this.#rows.top ? pageOf(this.#rows.top.key) : 0);
  }

  async #stepError(by) {
    this.#seekErrors();
    for (let waited = 0; !this.#errors.done && waited < 100; waited += 1) await new Promise((resolve) => setTimeout(resolve, 20));
    const from = this.#current ?? this.#rows.top?.key ?? 0;
    let at = { page: pageOf(from), line: lineOf(from), nth: 0 };
    for (let steps = 0; steps < this.#errors.total; steps += 1) {
      at = this.#errors.step(at, by);
      if (!at) return;
      const key = keyOf(at.page, at.line);
      if (!this.#pages.entry(key)) await this.#pages.load(at.page);
      if (this.#pages.entry(key)?.severity === "error") return this.#goTo(key);
    }
  }

  #goTo(key) {
    this.#current = key;
    this.#sought = { key };
    this.#follow(false, false);
    this.#flush();
  }

  async #list() {
    this.#seekErrors();
    for (let waited = 0; !this.#errors.done && waited < 100; waited += 1) await new Promise((resolve) => setTimeout(resolve, 20));
    const lines = [];
    for (const page of this.#pages.all) {
      if (lines.length > 500) break;
      const found = this.#errors.linesOf(page.index);
      if (found.length && !page.entries) await this.#pages.load(page.index);
      for (const line of this.#errors.linesOf(page.index)) {
        const key = keyOf(page.index, line);
        const entry = this.#pages.entry(key);
        if (!entry) continue;
        const place = levels.placeNear((by) => this.#pages.entry(key + by)?.text);
        lines.push({ number: this.#pages.number(key), level: entry.severity, place: place ? `${place.file}:${place.line}` : "", text: this.#draw.plain(entry).slice(0, 300), go: () => this.#goTo(key) });
      }
    }
    this.#panel.showList(lines, !this.#errors.done);
  }

  /* Times */

  #turnTimes() {
    this.#remember({ times: MODES[(MODES.indexOf(this.prefs.times) + 1) % MODES.length] });
    this.#panel.nameTimes(this.prefs.times);
    this.$view.classList.toggle("sl-times", this.prefs.times !== "off");
    this.#resized();
    if (this.prefs.times !== "off") this.#mendTimes();
  }

  /* What came in a burst, after a reconnection, has the time of its arrival until the server is asked. */
  async #mendTimes() {
    const late = this.#late;
    this.#late = [];
    if (!this.#pages.readable || !late.length) return;
    try {
      const byOffset = new Map();
      for (let from = late[0][0]; from <= late[late.length - 1][0];) {
        const page = await this.#range({ from, count: ANSWER });
        if (!page?.records.length) break;
        for (const { offset, at } of page.records) byOffset.set(offset, at);
        from = page.records[page.records.length - 1].offset + 1;
      }
      for (const [offset, line] of late) line.at = byOffset.get(offset) ?? line.at;
      this.#flush();
    } catch { /* they keep what they have */ }
  }

  /* The header */

  #showStatus(status) {
    this.#status = status;
    const tone = events.toneOf(status);
    this.#panel.showStatus(status, tone);
    const phase = this.#ended ? "ended" : tone === "idle" ? (status === "waiting" ? "new" : "running") : "running";
    for (const part of this.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").includes(phase);
  }

  #showFacts() {
    const { t, number, duration } = this.#words;
    const parts = [];
    const elapsed = this.#elapsed();
    if (elapsed !== null) parts.push(["sl-elapsed", duration(elapsed)]);
    if (this.#exit !== null) parts.push(["sl-exit", this.#exit < 0 ? t("signal {number}", { number: String(-this.#exit) }) : t("exit code {code}", { code: String(this.#exit) })]);
    parts.push(["sl-count", t("{count} line", "{count} lines", { count: this.#pages.count })]);
    const [errors, warnings, stderr] = this.#counts();
    if (stderr) parts.push(["sl-stderr-count", t("{count} on stderr", { count: number(stderr) })]);
    this.#panel.showFacts(parts);
    this.#panel.showErrors(errors, warnings);
  }

  /* Errors and warnings as they are here where all of it was read, else as the server counted them; and lines of stderr. */
  #counts() {
    let [errors, warnings, stderr, all] = [0, 0, 0, true];
    for (const page of this.#pages.all) {
      errors += page.errors;
      warnings += page.warnings;
      stderr += page.stderr;
      all &&= page.known || page === this.#pages.tail;
    }
    if (!all && this.#known) return [this.#known.errors + this.#since.errors, this.#known.warnings + this.#since.warnings, stderr];
    return [errors, warnings, stderr];
  }

  #elapsed() {
    if (this.#seconds !== null) return this.#seconds;
    if (this.#started === null) return null;
    const until = secondsOf(this.getAttribute("ended")) ?? (this.#ended ? this.#endOf() : Date.now() / 1000);
    return Math.max(0, until - this.#started);
  }

  #endOf() {
    const { entries = [] } = this.#pages.tail ?? {};
    return this.#lastAt ?? entries?.findLast(({ at }) => at !== null)?.at ?? this.#started;
  }

  #tick() {
    this.#connection?.tick();
    if (!this.#ended) this.#showFacts();
    if (!this.#ended && this.count && this.#state === "open") this.#say(`${this.#panel.status.textContent}, ${this.#words.t("{count} line", "{count} lines", { count: this.count })}`, true);
  }

  /* The connection, in words */

  #word(state, words) {
    this.#state = state;
    const { connection } = this.#panel;
    if (connection.dataset.state !== state) this.#say(words.map((word) => word.textContent ?? word).join(""));
    connection.dataset.state = state;
    connection.replaceChildren(...words);
    this.dispatchEvent(new CustomEvent("sse-log:state", { bubbles: true, detail: { state } }));
    this.#later();
  }

  /* Ends */

  #exited({ code, seconds, status }, at) {
    const before = this.#exit;
    this.#exit = code;
    if (seconds !== null) this.#seconds = seconds;
    const again = this.#outcome !== null && this.#exit === before; // by the log and by its stream, of which one has a word for it
    if (status || !again) {
      this.#outcome = status || (this.#exit === null ? null : this.#exit === 0 ? "succeeded" : "failed");
      this.#inWords = Boolean(status);
    }
    this.#endedAt = at ?? Date.now() / 1000;
  }

  #logEnded(reason) {
    const said = ["topic_closed", "no_content"].includes(reason) ? null : reason;
    if (!this.#inWords && !(said === "completed" && this.#outcome)) this.#outcome = said ?? this.#outcome; // "cancelled" says more than an exit code
    this.#over("ended", [this.#words.t("Ended")]);
  }

  #over(state, words) {
    if (this.#ended) return;
    this.#ended = true;
    this.#state = state;
    this.#connection?.close();
    this.#word(state, words);
    if (!this.#frame) this.#flush();
  }

  /* When everything that came is shown */
  #finishUp() {
    if (this.#finished) return;
    this.#finished = true;
    this.#panel.progress.hidden = true;
    this.#panel.notify.hidden = true;
    if (this.#state !== "ended") return; // it may go on, where this reader may not see it
    const attribute = this.getAttribute("status");
    const known = attribute && !["running", "queued", "waiting"].includes(attribute) ? attribute : null;
    const agrees = known !== null && this.#exit !== null && (this.#exit === 0) === (events.toneOf(known) === "good");
    const outcome = (!this.#inWords && agrees ? known : null) ?? this.#outcome ?? known ?? "ended";
    const failed = (this.#exit ?? 0) !== 0 || events.toneOf(outcome) === "bad";
    this.#folds.finish(this.#endedAt ?? this.#endOf(), failed);
    this.#showStatus(outcome);
    const { t } = this.#words;
    const code = this.#exit === null ? [] : [t("exit code {code}", { code: String(this.#exit) })];
    const said = [this.#panel.status.textContent, ...code, t("{count} line", "{count} lines", { count: this.count })].join(", ");
    this.#say(said);
    const tone = failed ? "bad" : events.toneOf(outcome) === "good" ? "good" : "other";
    if (this.#draw.anchors && this.#connection) this.#finish.tell(tone, document.title, said);
    this.dispatchEvent(new CustomEvent("sse-log:end", { bubbles: true, detail: { status: outcome, code: this.#exit, lines: this.count } }));
    if (this.#sought?.number && this.#pages.find(this.#sought.number) === null) this.#missing(this.#sought.number);
    this.#later();
  }

  /* For screen readers, and not too often */
  #say(text, idle = false) {
    const wait = (idle ? 5 * QUIET : QUIET) - (performance.now() - this.#said);
    if (idle && (wait > 0 || this.#saying)) return;
    clearTimeout(this.#saying);
    this.#saying = setTimeout(() => {
      this.#saying = 0;
      this.#said = performance.now();
      this.$say.textContent = text;
    }, Math.max(0, wait));
  }

  /* Buttons and keys */

  #wrap() {
    this.#remember({ wrap: !this.prefs.wrap });
    this.#panel.wrap.setAttribute("aria-pressed", String(this.prefs.wrap));
    this.classList.toggle("sl-nowrap", !this.prefs.wrap);
    this.#resized();
  }

  #fill(on = !this.classList.contains("sl-fills")) {
    this.classList.toggle("sl-fills", on);
    document.documentElement.classList.toggle("sl-behind", on);
    this.#panel.full.setAttribute("aria-pressed", String(on));
  }

  #foldAll() {
    this.#folds.turnAll();
    this.#flush();
  }

  #print(on) {
    this.#folds.spread = on;
    this.#order.changed();
    if (on) this.#rows.all(PRINTED);
    else this.#rows.refresh();
  }

  /* Text */

  #texts(entries) {
    return entries.filter(({ source }) => source !== "note").map((entry) => this.#whole(entry)).join("\n");
  }

  #whole(entry) {
    const plain = this.#draw.plain(entry);
    if (entry.text.length <= model.SHOWN) return plain;
    return model.whole({ ...this.#draw.read(entry), plain });
  }

  /* A selection as it was printed */
  #copied(event) {
    const selection = document.getSelection();
    if (selection.isCollapsed || !this.$view.contains(selection.anchorNode)) return;
    const range = selection.getRangeAt(0);
    const lines = [];
    for (const row of this.#rows.rows) {
      const entry = this.#pages.entry(row.key);
      if (!range.intersectsNode(row) || !entry || entry.source === "note") continue;
      const text = row.querySelector(".sl-t");
      const part = document.createRange();
      part.selectNodeContents(text);
      if (text.contains(range.startContainer)) part.setStart(range.startContainer, range.startOffset);
      if (text.contains(range.endContainer)) part.setEnd(range.endContainer, range.endOffset);
      else if (range.comparePoint(text, 0) > 0) continue; // the selection ends before its text
      if (range.comparePoint(text, text.childNodes.length) < 0) continue;
      const fragment = part.cloneContents();
      for (const ours of fragment.querySelectorAll(".sl-ours")) ours.remove();
      lines.push(fragment.textContent);
    }
    if (!lines.length) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", lines.join("\n"));
  }

  /* The lines that the address names, or all of them; those that are not held are read. */
  async #chosen() {
    const first = this.#target ? this.#pages.find(this.#target.first) : 0;
    const last = this.#target ? this.#pages.find(Math.min(this.#target.last, this.#pages.count)) : null;
    const entries = [];
    for (let index = pageOf(first ?? 0); index < this.#pages.all.length && (last === null || index <= pageOf(last)); index += 1) {
      const page = this.#pages.all[index];
      if (!page.entries) await this.#pages.load(index, index + 4);
      (page.entries ?? []).forEach((entry, line) => {
        const key = keyOf(index, line);
        if (!this.#target || (key >= first && key <= last)) entries.push(entry);
      });
    }
    return this.#texts(entries);
  }

  async #copy() {
    const { t } = this.#words;
    const text = await this.#chosen();
    const count = text.split("\n").length;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", "sl-said", {}, text);
      this.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.#flash(t("Copied {count} line", "Copied {count} lines", { count }));
  }

  #flash(text) {
    this.$say.textContent = text;
    this.#said = performance.now();
    const toast = make("span", "sl-flash", { "aria-hidden": "true" }, text);
    this.$view.parentElement.append(toast);
    setTimeout(() => toast.remove(), 2500);
  }

  #download() {
    const address = URL.createObjectURL(new Blob([`${this.text}\n`], { type: "text/plain" }));
    make("a", "", { href: address, download: "log.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  /* The line that the keyboard is at */
  #move(by) {
    const top = this.#rows.top?.key;
    const from = this.#current !== null && this.#rows.row(this.#current) ? this.#order.indexOf(this.#current) + by : this.#order.indexOf(top ?? 0);
    const index = Math.max(0, Math.min(this.#order.count - 1, from));
    if (!this.#order.count) return;
    this.#follow(false, false);
    this.#current = this.#order.key(index);
    this.#rows.refresh();
    const row = this.#rows.row(this.#current) ?? this.#rows.show(this.#current);
    this.#rows.reveal(row.getBoundingClientRect());
    for (const link of this.$view.querySelectorAll('a[tabindex="0"]')) link.tabIndex = -1;
    for (const link of row.querySelectorAll("a")) link.tabIndex = 0;
    row.querySelector(".sl-n").focus({ preventScroll: true });
  }

  #leave() {
    if (this.classList.contains("sl-fills")) this.#fill(false);
    else if (this.#target) {
      this.#target = this.#event = null;
      this.#flush();
      this.#putAddress();
    }
  }

  #key(event) {
    const own = this.contains(document.activeElement);
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || this.#panel.isBusy) return;
    if (isEditable(event.target)) return;
    if (event.key === "Escape") this.#leave();
    const inView = own && this.$view.contains(document.activeElement);
    const always = { End: () => this.#follow(true), Home: () => this.#rows.toTop() };
    if (inView && Object.hasOwn(always, event.key)) {
      event.preventDefault();
      return always[event.key]();
    }
    if (event.key === "Enter" && inView && event.shiftKey && document.activeElement.classList.contains("sl-n")) {
      event.preventDefault();
      return this.#link(/** @type {any} */ (document.activeElement.closest(".sl-line")).key, true);
    }
    if (!this.prefs.keys || !(own || (document.activeElement === document.body && this.#draw.anchors))) return;
    const keys = {
      "/": () => this.#panel.query.focus(), n: () => this.#step(1), N: () => this.#step(-1), e: () => this.#stepError(1), E: () => this.#stepError(-1),
      f: () => this.#follow(!this.#following.on), t: () => this.#turnTimes(), w: () => this.#wrap(), z: () => this.#foldAll(), m: () => this.#fill(),
      "?": () => this.#panel.keys.showModal(), G: () => this.#follow(true), l: () => this.#panel.jump.showModal(), j: () => this.#move(1), k: () => this.#move(-1),
      g: () => {
        this.#follow(false, false);
        this.#rows.toTop();
      },
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }
}

/* The name of a group, in words. */
function nameOf({ name, line }) {
  const text = (line.title ?? name).replace(/\x1b\[[0-?]*[ -/]*[@-~]/g, "").trim();
  return text.slice(0, NAMED);
}

/* The highlights of all viewers of the page. */
function highlights() {
  return ["sse-log-match", "sse-log-current"].map((name) => {
    if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
    return CSS.highlights.get(name);
  });
}

if (!customElements.get("sse-log")) customElements.define("sse-log", SSELog);
