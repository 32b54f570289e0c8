/* <sse-log src="…">: a log as it is written. See docs/reference/live-log.rst for its attributes and events.

   What comes is in source.js and connection.js, what is held in pages.js, what of it is shown in folds.js and order.js, what is in the page in
   rows.js and draw.js; what the reader does in finder.js, navigation.js, clipboard.js and keyboard.js, and how the log goes in outcome.js. They
   are given `log`, an object of all these parts, which also has `later()` and `flush()`, to show what is new; and this is what holds them
   together. Its modules
   are imported by the addresses that {% sse_script %} puts on the script's tag, so that hashed names of ManifestStaticFilesStorage
   hold; without the tag they are looked for beside this one. None of them imports another: what they need is given to them. */

const tag = document.querySelector("script[data-agent-sse][data-rows]") ?? document.querySelector("script[data-agent-sse]");
/* Written out, so that a bundler finds them too. */
const FILES = {
  "search-worker": () => new URL("./search-worker.js", import.meta.url),
  passed: () => new URL("./passed.svg", import.meta.url),
  failed: () => new URL("./failed.svg", import.meta.url),
  ended: () => new URL("./ended.svg", import.meta.url),
};
const addressOf = (name) => {
  const given = tag?.dataset[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())];
  return (given ? new URL(given, document.baseURI) : FILES[name]()).href;
};
const BESIDE = {
  sgr: () => import("./sgr.js"),
  look: () => import("./look.js"),
  lines: () => import("./lines.js"),
  levels: () => import("./levels.js"),
  words: () => import("./words.js"),
  client: () => import("./client.js"),
  pages: () => import("./pages.js"),
  folds: () => import("./folds.js"),
  failures: () => import("./failures.js"),
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
  outcome: () => import("./outcome.js"),
  source: () => import("./source.js"),
  finder: () => import("./finder.js"),
  navigation: () => import("./navigation.js"),
  selected: () => import("./selected.js"),
  clipboard: () => import("./clipboard.js"),
  keyboard: () => import("./keyboard.js"),
  viewport: () => import("./viewport.js"),
  beside: () => import("./beside.js"),
};
const load = (name) => (tag?.dataset[name] ? import(/* webpackIgnore: true */ /* @vite-ignore */ addressOf(name)) : BESIDE[name]());
const modules = Object.fromEntries(await Promise.all(Object.keys(BESIDE).map(async (name) => [name, await load(name)])));
const { sgr, look, lines: model, levels, words: speech, client, pages: store, rows: dom, events } = modules;
const { make } = dom;
const { pageOf } = store;

const PRINTED = 20_000; // lines that are printed
const REMEMBERED = "django-agent-sse.log";
const MODES = ["off", "elapsed", "clock"];
const TIMES_MS = 1500; // after the opening of a stream the times of what came in a burst are asked for
const OWN = ":scope > :is(.sl-bar, .sl-tools, .sl-main, .sl-said, .sl-sheet)";

function remembered() {
  try {
    return { wrap: true, times: "off", keys: true, ...JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}") };
  } catch {
    return { wrap: true, times: "off", keys: true };
  }
}

export class SSELog extends HTMLElement {
  /** @type {any} The parts that the modules share. */
  #log = null;
  #finish = new modules.finish.Finish(addressOf);
  #connection = null;
  #leaving = null; // an AbortController while this is in a page
  #frame = null; // takes the next flush back
  #state = "connecting";
  #clock = 0;
  #isPrinted = false;

  /** How many lines there are, as far as known. */
  get count() {
    return this.#log ? this.#log.pages.count - this.#log.pages.floor : 0;
  }

  /** The text that is held here, a line each. */
  get text() {
    return this.#log?.clipboard.held ?? "";
  }

  /** "connecting", "open", "reconnecting", "hidden", "ended" or "error", as the connection is. */
  get state() {
    return this.#state;
  }

  connectedCallback() {
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    if (!this.#log) this.#build();
    this.#log.signal = signal;
    window.addEventListener("hashchange", () => this.#log.navigation.readAddress(), { signal });
    document.addEventListener("keydown", (event) => modules.keyboard.press(event, this.#log, this.#actions()), { signal });
    document.addEventListener("visibilitychange", () => this.#looked(), { signal });
    window.addEventListener("beforeprint", () => this.#print(true), { signal });
    window.addEventListener("afterprint", () => this.#print(false), { signal });
    this.#log.following.listen(signal);
    this.#clock = setInterval(() => this.#tick(), 500);
    if (!this.#log.ended) this.#start();
    if (this.#log.opened) this.#later(); // what came while this was in no page
  }

  disconnectedCallback() {
    this.#leaving.abort();
    if (this.classList.contains("sl-fills")) this.#fill(false);
    this.#connection?.close();
    this.#log.patterns.close();
    this.#log.finder.unpaint();
    clearInterval(this.#clock);
    this.#frame?.();
    this.#frame = null;
  }

  /* The page */

  #build() {
    const words = speech.words(this);
    const { t, number } = words;
    const [actions, fallback] = [this.querySelector(".sse-log-actions"), this.querySelector(".sse-log-fallback")];
    for (const one of this.querySelectorAll(OWN)) one.remove(); // of a copy that a library kept of the page
    const raw = this.getAttribute("raw");
    const dialects = this.getAttribute("groups")?.split(/[\s,]+/).filter(Boolean) ?? model.DIALECTS;
    /** @type {any} */
    const log = {
      element: this, words, raw, prefs: remembered(), signal: null,
      opened: false, // what there was is here
      ended: false, // nothing follows
      finished: false, // and all of it is shown
      unseen: 0, // lines that came while the end was not followed
      later: () => this.#later(), flush: () => this.#flush(), follow: (on, scroll) => this.#follow(on, scroll), flash: (text) => log.viewport.flash(text),
    };
    this.#log = log;
    const read = events.reader({ ...store, ...levels, t, number });
    log.source = new modules.source.Source(log, { ...events, ...store });
    log.pages = new store.Pages((from, count) => log.source.range({ from, count }), read, (page) => this.#changed(page));
    log.pages.readable = Boolean(this.getAttribute("range"));
    log.folds = new modules.folds.Folds(log.pages, { ...model, ...levels, ...store, dialects });
    log.failures = new modules.failures.Failures(log.pages, { ...store, ...levels });
    log.order = new modules.order.Order(log.pages, log.folds, store);
    log.draw = new modules.draw.Draw(log.pages, { ...sgr, ...look, ...model, ...levels, ...store, dialects, make, t, number, raw });
    log.draw.anchors = document.querySelector("sse-log") === this;
    log.patterns = new modules.search.Patterns(addressOf("search-worker"));
    log.outcome = new modules.outcome.Outcome(log, events);
    log.navigation = new modules.navigation.Navigation(log, { ...modules.place, ...store });
    log.finder = new modules.finder.Finder(log, { ...modules.search, ...store, ...dom, ...levels });
    log.clipboard = new modules.clipboard.Clipboard(log, { ...model, ...store, make });
    this.#furnish(actions, fallback);
    log.outcome.show(this.getAttribute("status") || "waiting");
    log.navigation.readAddress();
    this.#tick();
  }

  #furnish(actions, fallback) {
    const log = this.#log;
    const { words, prefs, raw } = log;
    const { t, number, status } = words;
    const viewport = (log.viewport = new modules.viewport.Viewport(log, { ...modules.folds, make }, fallback));
    const { view } = viewport;
    const panel = (log.panel = new modules.panel.Panel({ make, t, number, status }, this.#actions(), { raw, prefs, notifies: log.draw.anchors && this.#finish.canNotify }));
    if (actions) panel.bar.append(actions);
    this.prepend(panel.bar, panel.toolbar, viewport.main, viewport.said, ...panel.sheets);
    const draw = (key, known) => log.draw.row(key, modules.beside.beside(key, log, { ...store, ...modules.folds }), known);
    log.rows = new dom.Rows(view, log.order, draw, (keys) => log.pages.want(new Set(Array.from(keys, pageOf))));
    log.rows.selected = log.selected = new modules.selected.Selected(log.rows);
    view.append(viewport.drafts);
    log.following = new modules.following.Following(view, log.rows, (on) => this.#follow(on, false), () => log.navigation.stay());
    this.classList.toggle("sl-nowrap", !prefs.wrap);
    view.classList.toggle("sl-times", prefs.times !== "off");
    panel.nameTimes(prefs.times);
    view.addEventListener("click", (event) => this.#clicked(event));
    view.addEventListener("copy", (event) => log.clipboard.copy(event));
    view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(view);
  }

  #actions() {
    const { finder, clipboard, navigation } = this.#log;
    return {
      find: () => finder.seek(),
      enter: (by) => finder.step(by),
      leave: () => this.#log.viewport.view.focus(),
      step: (by) => finder.step(by),
      follow: () => this.#follow(!this.#log.following.on),
      wrap: () => this.#wrap(),
      times: () => this.#turnTimes(),
      fill: () => this.#fill(),
      foldAll: () => this.#foldAll(),
      notify: async () => this.#log.panel.notify.setAttribute("aria-pressed", String(await this.#finish.ask(!this.#finish.wanted))),
      download: () => clipboard.download(),
      copy: () => clipboard.copyLines(),
      list: () => finder.list(),
      jump: (line) => navigation.jump({ first: line, last: line }),
      remember: (change) => this.#remember(change),
      escape: () => (this.classList.contains("sl-fills") ? this.#fill(false) : navigation.clear()),
    };
  }

  #remember(change) {
    Object.assign(this.#log.prefs, change);
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(this.#log.prefs));
    } catch { /* a private window */ }
  }

  /* What there is: the end first, then the stream from there on, and what is before the end while nothing else is to do */

  async #start() {
    const log = this.#log;
    const { source, outcome, pages } = log;
    const { signal } = this.#leaving;
    if (!log.opened && pages.readable) {
      try {
        await source.open();
        await this.#toFailure();
      } catch (error) {
        if (error.name !== "AbortError") console.debug("sse-log: the range endpoint failed, the stream goes on", error);
      }
    }
    if (signal.aborted || log.ended) return;
    log.opened = true;
    this.#flush();
    if (source.closed !== null) { // nothing follows
      this.#logEnded(source.closed);
      outcome.askCounts();
      await source.loadAhead();
      await this.#toFailure();
      this.#later();
      return;
    }
    const isOver = pages.readable ? async () => (await source.range({ from: -1, count: 1 }))?.closed != null : null;
    this.#connection = new modules.connection.Connection(this, { EventStream: client.EventStream, t: log.words.t, make, isOver }, {
      event: (name, data, id) => source.came(name, data, id, this.#connection.openedAt),
      open: () => setTimeout(() => { if (log.prefs.times !== "off") source.correctTimes(); }, TIMES_MS),
      word: (state, words) => this.#word(state, words),
      over: (state, words) => this.#over(state, words),
      ended: (reason) => this.#logEnded(reason),
      hasOutcome: () => outcome.isKnown,
    });
    this.#connection.open(source.id);
    source.loadAhead();
    outcome.askCounts();
  }

  /* A log that failed opens where it failed first. */
  async #toFailure() {
    const { source, outcome, pages, navigation, following } = this.#log;
    if (source.closed === null || !following.on || navigation.moved || navigation.isGoing || !outcome.hasFailed(source.closed)) return;
    const event = outcome.firstError;
    let key = event ? pages.findEvent(event) : null;
    if (key !== null && !pages.all[pageOf(key)].entries) {
      await pages.load(pageOf(key));
      key = pages.findEvent(event);
    }
    if (key === null) {
      const page = pages.all.find(({ errors, entries }) => entries && errors);
      if (page) key = store.keyOf(page.index, page.entries.findIndex(({ severity }) => severity === "error"));
    }
    if (key !== null && following.on && !navigation.moved && pages.entry(key)) navigation.aim(key);
  }

  /* Once a frame; a tab that nobody looks at has none, and yet its title says when the log ends. */
  #later() {
    if (this.#frame || !this.isConnected) return;
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
    this.#log.folds.note(page);
    this.#log.failures.note(page);
    this.#log.finder.note(page);
    this.#later();
  }

  #flush() {
    this.#frame?.();
    this.#frame = null;
    if (this.#isPrinted || !this.isConnected) return;
    const { pages, folds, failures, finder, order, rows, following, navigation, outcome, viewport, panel } = this.#log;
    const { tail } = pages;
    if (tail?.entries) {
      for (const page of pages.all.slice(-2)) for (const part of [folds, failures]) part.note(page);
      finder.note(tail);
      pages.release();
    }
    for (const group of folds.update()) this.#closedGroup(group);
    viewport.enclose(this.#state === "error" ? panel.connection.firstChild?.textContent : null);
    order.changed();
    viewport.widen();
    if (following.pinned && !navigation.isGoing) rows.toEnd();
    else if (!navigation.arrive()) rows.refresh();
    if (this.#log.ended) this.#finishUp();
    outcome.showFacts();
    finder.show();
    viewport.show();
    finder.paint();
  }

  #closedGroup(group) {
    const { words, folds, following, ended, opened } = this.#log;
    const { t, duration } = words;
    if (ended || !opened || !this.#connection) return;
    if (!following.on && folds.around(group.key) === null) folds.turn(group, true); // not under the reader's eyes
    const name = modules.folds.nameOf(group);
    if (group.failed) this.#log.viewport.say(t("{name} failed", { name }));
    else this.#log.viewport.say(group.duration === null ? t("{name} finished", { name }) : t("{name} finished after {time}", { name, time: duration(group.duration) }));
  }

  /* Following the end */

  #follow(on, scroll = true) {
    const { following, navigation, rows, viewport } = this.#log;
    following.on = on;
    if (on) navigation.stay();
    this.#log.unseen = 0;
    if (on && scroll) rows.toEnd();
    viewport.showFollowing();
    this.#later();
    navigation.place();
  }

  #scrolled() {
    this.#log.navigation.place();
    this.#later();
  }

  #resized() {
    if (this.#isPrinted) return;
    const { rows, following, viewport } = this.#log;
    viewport.measure();
    if (following.pinned) rows.toEnd();
    else rows.resized();
  }

  #clicked(event) {
    const fold = event.target.closest?.(".sl-turn") ?? (event.target.closest?.(".sl-title > .sl-t") && document.getSelection().isCollapsed ? event.target : null);
    const row = event.target.closest?.(".sl-line");
    if (fold && row && !event.target.closest("a, .sl-next")) this.#turnGroup(row.key);
    else this.#log.navigation.click(event);
  }

  #turnGroup(key) {
    const { folds, following, navigation } = this.#log;
    const group = folds.titled(key);
    if (!group) return;
    folds.turn(group);
    navigation.stay();
    if (following.on) this.#follow(false, false);
    this.#flush();
  }

  #tick() {
    const { outcome, panel, words } = this.#log;
    this.#connection?.tick();
    if (this.#log.ended) return;
    outcome.showFacts();
    if (this.count && this.#state === "open") this.#log.viewport.say(`${panel.status.textContent}, ${words.t("{count} line", "{count} lines", { count: this.count })}`, true);
  }

  /* The connection, in words */

  #word(state, words) {
    this.#state = state;
    const { connection } = this.#log.panel;
    if (connection.dataset.state !== state) this.#log.viewport.say(words.map((word) => word.textContent ?? word).join(""));
    connection.dataset.state = state;
    connection.replaceChildren(...words);
    this.dispatchEvent(new CustomEvent("sse-log:state", { bubbles: true, detail: { state } }));
    this.#later();
  }

  /* Ends */

  #logEnded(reason) {
    this.#log.outcome.close(reason);
    this.#over("ended", [this.#log.words.t("Ended")]);
  }

  #over(state, words) {
    if (this.#log.ended) return;
    this.#log.ended = true;
    this.#state = state;
    this.#connection?.close();
    this.#word(state, words);
  }

  /* When everything that came is shown */
  #finishUp() {
    const { outcome, panel, folds, words, navigation, draw } = this.#log;
    if (this.#log.finished) return;
    this.#log.finished = true;
    panel.progress.hidden = true;
    if (document.activeElement === panel.notify) this.#log.viewport.view.focus({ preventScroll: true });
    panel.notify.hidden = true;
    if (this.#state !== "ended") return; // it may go on, where this reader may not see it
    const { status, code, failed, at } = outcome.end();
    folds.finish(at, failed);
    outcome.show(status);
    const { t } = words;
    const said = [panel.status.textContent, ...(code === null ? [] : [t("exit code {code}", { code: String(code) })]), t("{count} line", "{count} lines", { count: this.count })].join(", ");
    this.#log.viewport.say(said);
    const tone = failed ? "bad" : events.toneOf(status) === "good" ? "good" : "other";
    if (draw.anchors && this.#connection) this.#finish.tell(tone, document.title, said);
    this.dispatchEvent(new CustomEvent("sse-log:end", { bubbles: true, detail: { status, code, lines: this.count } }));
    navigation.finish();
    this.#later();
  }

  /* Buttons */

  #wrap() {
    const { prefs, panel } = this.#log;
    this.#remember({ wrap: !prefs.wrap });
    panel.wrap.setAttribute("aria-pressed", String(prefs.wrap));
    this.classList.toggle("sl-nowrap", !prefs.wrap);
    this.#resized();
  }

  #turnTimes() {
    const { prefs, panel, source } = this.#log;
    this.#remember({ times: MODES[(MODES.indexOf(prefs.times) + 1) % MODES.length] });
    panel.nameTimes(prefs.times);
    this.#log.viewport.view.classList.toggle("sl-times", prefs.times !== "off");
    this.#resized();
    if (prefs.times !== "off") source.correctTimes();
  }

  #fill(on = !this.classList.contains("sl-fills")) {
    this.classList.toggle("sl-fills", on);
    document.documentElement.classList.toggle("sl-behind", on);
    this.#log.panel.full.setAttribute("aria-pressed", String(on));
  }

  #foldAll() {
    this.#log.folds.turnAll();
    this.#flush();
  }

  #print(on) {
    const { folds, order, pages, rows, viewport } = this.#log;
    this.#isPrinted = on; // what is in the page stays as it is made for paper
    folds.spread = on;
    order.changed();
    viewport.leaveOut(on ? rows.all(PRINTED, (key) => pages.all[pageOf(key)].entries !== null) : null);
    if (!on) this.#flush();
  }
}

if (!customElements.get("sse-log")) customElements.define("sse-log", SSELog);
