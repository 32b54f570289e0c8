/* <sse-log src="…">: a log as it is written. See docs/reference/live-log.rst for its attributes and events.

   Modules import each other by the addresses that {% sse_script %} puts on the script's tag, so that hashed names of
   ManifestStaticFilesStorage hold; without the tag they are looked for beside this one. */

const tag = document.querySelector("script[data-agent-sse][data-rows]") ?? document.querySelector("script[data-agent-sse]");
const load = (name) => import(new URL(tag?.dataset[name] ?? `./${name}.js`, tag?.dataset[name] ? document.baseURI : import.meta.url).href);
const [sgr, model, dom, client] = await Promise.all(["sgr", "lines", "rows", "client"].map(load));
const { Lines, SHOWN, cutAt, spoken, lineRange, pattern, matches, whole } = model;
const { Rows, make, rangeOf } = dom;

const FRAME = 24; // milliseconds of a frame that go into rows
const BACKLOG = 1000; // lines that wait: with more of them a frame takes longer, and the view is laid out less often
const BACKLOG_FRAME = 60;
const BACKLOG_SHOWN = 400; // milliseconds between two of those
const AT_ONCE = 200; // lines at the beginning that are rows at once, however many follow
const NEAR_END = 24; // pixels
const HANDLING = 1000; // milliseconds after which a scroll is not the reader's
const FIRST_PAGE = 500;
const PAGE = 5000; // lines of one answer of the range endpoint
const CHECK = 60; // seconds after which it is asked whether the reader may still see the log
const QUIET = 4000; // milliseconds between two words for screen readers
const MARKED = 1000; // matches that are painted at a time
const WORD = 200; // characters of a status or a step
const REMEMBERED = "django-agent-sse.log";

const LEVELS = ["debug", "info", "warning", "error", "critical"]; // of Python's logging, as contrib.logging.TopicHandler names its events
const LINE_EVENTS = ["message", "log", "stdout", "stderr", ...LEVELS];
const END_EVENTS = ["exit", "complete"];
const TONES = {
  good: ["passed", "succeeded", "success", "completed", "ok", "done"],
  bad: ["failed", "error", "errored", "failure", "lost", "timeout"],
  busy: ["running", "started"],
  idle: ["queued", "waiting", "pending"],
};
const KEYS = [
  ["/", "Search"], ["n  N", "Next match, previous match"], ["f", "Follow the end"], ["g  G", "Top, bottom"], ["t", "Times: off, elapsed, clock"],
  ["w", "Wrap long lines"], ["z", "Fold or unfold all groups"], ["m", "Fill the window"], ["?", "These keys"], ["Esc", "Leave search or the full window"],
];
const ICONS = {
  previous: "M4 10l4-4 4 4", next: "M4 6l4 4 4-4", only: "M2 4h12M4 8h8M6 12h4", follow: "M8 2v9M4 8l4 4 4-4M3 14h10", fold: "M3 3h10M3 13h10M8 5v6M6 7l2-2 2 2M6 9l2 2 2-2",
  wrap: "M2 4h12M2 8h9a2.5 2.5 0 0 1 0 5H8M9.5 11L8 13l1.5 2M2 12h3", times: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v3l2 2", full: "M6 2H2v4M10 2h4v4M6 14H2v-4M10 14h4v-4",
  raw: "M4 2h5l3 3v9H4zM9 2v3h3M6 8h4M6 11h4", download: "M8 2v8M5 7l3 3 3-3M3 13h10", copy: "M5 5h8v9H5zM3 11V2h8", keys: "M6 6a2 2 0 1 1 3 1.7c-.7.4-1 .8-1 1.6M8 12v.5",
};

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.appendChild(document.createElementNS(space, "path")).setAttribute("d", ICONS[name]);
  return svg;
}

function button(name, label, on, { text, pressed } = {}) {
  const made = make("button", `sl-button sl-${name}`, { type: "button", title: label, "aria-label": label, "aria-pressed": pressed === undefined ? null : String(pressed) });
  made.append(text ?? icon(name));
  made.addEventListener("click", on);
  return made;
}

function remembered() {
  try {
    return { wrap: true, times: "off", keys: true, ...JSON.parse(localStorage.getItem(REMEMBERED) ?? "{}") };
  } catch {
    return { wrap: true, times: "off", keys: true };
  }
}

const numbers = new Intl.NumberFormat("en");
const plural = (count, word) => `${numbers.format(count)} ${word}${count === 1 ? "" : "s"}`;
const TYPED = "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, [contenteditable]";
const isEditable = (target) => target instanceof Element && target.closest(TYPED) !== null; // a checkbox keeps the focus for a moment after its dialog is gone
const json = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

/* What may stand in the header: text or a number, and not too much of it. */
const word = (value) => (["string", "number"].includes(typeof value) ? String(value).slice(0, WORD) : "");
const isSpan = ({ first, last }) => Number.isSafeInteger(first) && Number.isSafeInteger(last) && 0 < first && first <= last;
const secondsOf = (text) => (Number.isNaN(Date.parse(text ?? "")) ? null : Date.parse(text) / 1000);

export class SSELog extends HTMLElement {
  #lines = new Lines();
  #pending = []; // what came and is in no row yet
  #taken = 0; // how much of it is
  #closed = null; // why nothing follows what was loaded
  #loading = false; // much of what there was before is still to come
  #shown = -Infinity; // when the view was last laid out
  #frame = null; // takes the next flush back
  #following = true;
  #unseen = 0;
  #reached = 0; // where the view was scrolled to
  #handled = -Infinity; // when the reader last did what can scroll it
  #target = null; // the lines that the address names
  #sought = false; // they are still to be gone to
  #search = { expression: null, hits: [], lines: new Set(), at: -1 };
  #late = []; // lines that came in a burst: their times are the server's to say
  #source = null;
  #id = null; // of the last event
  #state = "connecting";
  #ended = false;
  #exit = null;
  #clock = 0;
  #checked = 0; // when it was last known that the reader may see the log
  #said = 0;
  #saying = 0;
  #built = false;
  #leaving = null; // an AbortController while this is in a page

  /** How many lines there are. */
  get count() {
    return this.#lines.count;
  }

  /** The text as it is shown, a line each. */
  get text() {
    return this.#lines.all.map(whole).join("\n");
  }

  /** "connecting", "open", "reconnecting", "ended" or "error", as the connection is. */
  get state() {
    return this.#state;
  }

  connectedCallback() {
    this.#leaving = new AbortController();
    if (!this.#built) this.#build();
    const { signal } = this.#leaving;
    window.addEventListener("hashchange", () => this.#seekAddress(), { signal });
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    document.addEventListener("visibilitychange", () => {
      if (!this.#frame) return;
      this.#frame();
      this.#frame = null;
      this.#later();
    }, { signal });
    window.addEventListener("beforeprint", () => this.#rows.all(), { signal });
    window.addEventListener("pointerup", () => { this.#handled = performance.now(); }, { signal });
    this.#clock = setInterval(() => this.#tick(), 500);
    if (!this.#ended) this.#start();
  }

  disconnectedCallback() {
    this.#leaving.abort();
    this.#source?.close();
    clearInterval(this.#clock);
    this.#frame?.();
    this.#frame = null;
  }

  /* The page */

  #build() {
    this.#built = true;
    this.prefs = remembered();
    this.#started = secondsOf(this.getAttribute("started"));
    if (this.getAttribute("exit-code")) this.#exit = Number(this.getAttribute("exit-code"));
    const label = this.getAttribute("label") || "Log";
    const actions = this.querySelector(":scope > .sse-log-actions");
    this.$before = this.querySelector(":scope > .sse-log-fallback") ?? make("p", "sl-empty", {}, "Nothing has been printed yet.");
    this.$view = make("div", "sl-view", { role: "log", "aria-live": "off", "aria-label": label, tabindex: "0" });
    this.$news = make("button", "sl-news", { type: "button", hidden: true });
    this.$status = make("span", "sl-status");
    this.$facts = make("span", "sl-facts");
    this.$progress = make("span", "sl-progress", { hidden: true }, make("progress", "", { max: "1", "aria-label": "Progress" }), make("span", "sl-step"));
    this.$connection = make("span", "sl-connection", { "data-state": "connecting" }, "Connecting…");
    this.$say = make("p", "sl-said", { role: "status" });
    this.$keys = this.#sheet();
    const bar = make("div", "sl-bar", {}, this.$status, this.$facts, this.$progress, this.$connection);
    if (actions) bar.append(actions);
    this.prepend(bar, this.#toolbar(), make("div", "sl-main", {}, this.$view, this.$news), this.$say, this.$keys);
    this.$view.append(this.$before);
    const primary = document.querySelector("sse-log") === this;
    this.#rows = new Rows(this.$view, { Terminal: sgr.Terminal, linked: sgr.linked, spoken, cutAt, raw: this.getAttribute("raw") }, primary, (line) => this.#made(line));
    this.classList.toggle("sl-nowrap", !this.prefs.wrap);
    this.$view.classList.toggle("sl-times", this.prefs.times !== "off");
    this.#watchScrolling();
    this.$view.addEventListener("click", (event) => this.#clicked(event));
    for (const kind of ["pointerover", "focusin"]) {
      this.$view.addEventListener(kind, ({ target }) => {
        const number = target.closest?.(".sl-n[data-n]");
        if (number) this.#rows.link(number);
      });
    }
    this.$news.addEventListener("click", () => this.#follow(true));
    this.#showStatus(this.getAttribute("status") || "waiting");
    this.#seekAddress();
    this.#tick();
  }

  #toolbar() {
    this.$query = make("input", "sl-query", { type: "search", placeholder: "Search", "aria-label": "Search the log", autocomplete: "off", spellcheck: "false" });
    this.$found = make("span", "sl-found", { "aria-live": "polite" });
    let typing = 0;
    this.$query.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#find(), 120);
    });
    this.$query.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault(); // it may stand in a form
        this.#step(event.shiftKey ? -1 : 1);
      } else if (event.key === "Escape") {
        event.stopPropagation();
        this.$query.value = "";
        this.#find();
        this.$view.focus();
      }
    });
    const option = (name, label, text) => {
      const made = button(name, label, () => {
        made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true"));
        this.#find();
      }, { text, pressed: false });
      return made;
    };
    this.$case = option("case", "Match case", "Aa");
    this.$regex = option("regex", "Regular expression", ".*");
    this.$only = option("only", "Only matching lines");
    this.$follow = button("follow", "Follow the end (f)", () => this.#follow(!this.#following), { pressed: true });
    this.$wrap = button("wrap", "Wrap long lines (w)", () => this.#wrap(), { pressed: this.prefs.wrap });
    this.$times = button("times", "", () => this.#turnTimes());
    this.$full = button("full", "Fill the window (m)", () => this.#fill(), { pressed: false });
    const raw = this.getAttribute("raw");
    const links = [];
    if (raw) {
      const address = new URL(raw, document.baseURI);
      address.searchParams.set("download", "1");
      links.push(make("a", "sl-button sl-raw", { href: raw, title: "Raw text", "aria-label": "Raw text", target: "_blank", rel: "noopener" }, icon("raw")));
      links.push(make("a", "sl-button sl-download", { href: address.href, title: "Download", "aria-label": "Download", download: true }, icon("download")));
    } else {
      links.push(button("download", "Download", () => this.#download()));
    }
    this.#nameTimes();
    const find = make("span", "sl-find", { role: "search" }, this.$query, this.$found, button("previous", "Previous match (N)", () => this.#step(-1)), button("next", "Next match (n)", () => this.#step(1)), this.$case, this.$regex, this.$only);
    const more = make("span", "sl-more", { role: "group", "aria-label": "View" }, this.$follow, button("fold", "Fold or unfold all groups (z)", () => this.#foldAll()), this.$wrap, this.$times, this.$full, ...links, button("copy", "Copy", () => this.#copy()), button("keys", "Keys (?)", () => this.$keys.showModal()));
    return make("div", "sl-tools", {}, find, more);
  }

  #sheet() {
    const list = make("dl", "");
    for (const [key, what] of KEYS) list.append(make("div", "", {}, make("dt", "", {}, ...key.split("  ").flatMap((one, at) => [at ? " " : "", make("kbd", "", {}, one)])), make("dd", "", {}, what)));
    const box = make("input", "", { type: "checkbox" });
    box.checked = this.prefs.keys;
    box.addEventListener("change", () => this.#remember({ keys: box.checked }));
    const close = make("button", "sl-close", { type: "button" }, "Close");
    const sheet = make("dialog", "sl-keys-sheet", { "aria-label": "Keys" }, make("h2", "", {}, "Keys"), list, make("label", "", {}, box, " Single keys work while nothing else has the focus"), close);
    close.addEventListener("click", () => sheet.close());
    return sheet;
  }

  #remember(change) {
    Object.assign(this.prefs, change);
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify(this.prefs));
    } catch { /* a private window */ }
  }

  /* What comes: first what there is, in pages, then the stream from there on */

  async #start() {
    const range = this.getAttribute("range");
    if (range && this.#id === null) await this.#replay(range);
    if (this.#leaving.signal.aborted || this.#ended) return;
    if (this.#closed === null) this.#connect();
    else this.#logEnded(this.#closed); // all of it is here, and nothing follows
  }

  async #replay(range) {
    const stop = Number(/\.(\d+)$/.exec(this.getAttribute("position") ?? "")?.[1] ?? 0);
    let epoch = null;
    let from = 1;
    try {
      for (let next = this.#page(range, from, FIRST_PAGE); next;) {
        const page = await next;
        next = null;
        if (!page || (epoch !== null && page.epoch !== epoch)) return; // refused, or another log by now: the stream says which
        if (epoch === null && page.floor > 0) {
          this.#push({ skip: page.floor, note: `Lines 1 to ${numbers.format(page.floor)} are no longer kept.` });
        }
        epoch = page.epoch;
        if (page.records.length) {
          from = page.records[page.records.length - 1].offset + 1;
          const rest = page.top - from + 1;
          if (rest <= 0) this.#closed = page.closed;
          this.#loading = rest > BACKLOG;
          if (rest > 0 && !(page.closed === null && from > stop && rest < PAGE / 10)) {
            next = this.#page(range, from); // while this one becomes rows
            next.catch(() => {}); // it is told where it is awaited
          }
        }
        for (const { id, event, data, at } of page.records) this.#event(event ?? "message", data, id, at);
      }
    } catch (error) {
      if (error.name !== "AbortError") console.debug("sse-log: the range endpoint failed, the stream goes on", error);
    } finally {
      this.#loading = false;
      if (!this.#leaving.signal.aborted) this.#later();
    }
  }

  async #page(range, from, count = PAGE) {
    const address = new URL(range, document.baseURI);
    address.searchParams.set("from", from);
    address.searchParams.set("count", count);
    const answer = await fetch(address, { credentials: "same-origin", headers: { Accept: "application/json" }, signal: this.#leaving.signal });
    return answer.ok ? answer.json() : null;
  }

  #connect() {
    const options = { credentials: "same-origin", lastEventId: this.#id ?? "" };
    const source = (this.#source = new client.EventStream(new URL(this.getAttribute("src"), document.baseURI).href, options));
    source.addEventListener("*", ({ type, data, lastEventId }) => this.#event(type, data, lastEventId, null));
    source.addEventListener("statechange", ({ delay }) => {
      this.#retryAt = Date.now() + (delay ?? 0);
      this.#connection(source);
    });
    this.#connection(source);
  }

  /* `at` is null for what comes by the stream: it was published now, but for what had to be caught up with. */
  #event(name, data, id, at) {
    if (name.startsWith("sse.") && name !== "sse.gap") return;
    if (id) this.#id = id;
    if (LINE_EVENTS.includes(name)) {
      const source = name === "stderr" ? "stderr" : "stdout";
      const late = at === null && performance.now() - this.#opened < 1000;
      const offset = late ? Number(/\.(\d+)$/.exec(id ?? "")?.[1]) : null;
      const level = LEVELS.includes(name) ? name : null;
      const texts = data.includes("\n") ? data.split("\n") : [data];
      texts.forEach((text, index) => this.#push({ source, text, at: at ?? Date.now() / 1000, late: offset, level, label: index ? null : level }));
      if (this.#status === "waiting" || this.#status === "queued") this.#showStatus("running");
      return;
    }
    const told = Object(json(data) ?? {});
    if (END_EVENTS.includes(name)) this.#exited(told, at);
    else if (name === "status" && word(told.status)) this.#showStatus(word(told.status));
    else if (name === "progress") this.#showProgress(told);
    else if (name === "missing" && isSpan(told)) this.#push({ skip: told.last - told.first + 1, note: `Lines ${told.first} to ${told.last} are no longer kept.` });
    else if (name === "sse.gap") this.#gap(told);
  }

  #gap({ reason, missed }) {
    const lost = Number.isSafeInteger(missed) && missed >= 0 ? missed : null;
    const texts = {
      trimmed: lost === null ? "Some lines are missing here: they are no longer kept." : `${plural(lost, "line")} ${lost === 1 ? "is" : "are"} missing here, no longer kept.`,
      epoch: "The log starts again here. Earlier lines are gone.",
      fork: "The log starts again here. Earlier lines are gone.",
    };
    this.#push({ skip: reason === "trimmed" ? lost ?? 0 : 0, note: texts[reason] ?? "The server could not resume the log. It is repeated from here on." });
  }

  #push(entry) {
    this.#pending.push(entry);
    this.#later();
  }

  /* Once a frame; a tab that nobody looks at has none, and yet its title says when the log ends. */
  #later() {
    if (this.#frame) return;
    const flush = () => this.#flush();
    const [call, cancel] = document.hidden ? [setTimeout, clearTimeout] : [requestAnimationFrame, cancelAnimationFrame];
    const id = call(flush, 250);
    this.#frame = () => cancel(id);
  }

  /* Into rows, as much as a frame takes */
  #flush() {
    this.#frame = null;
    const until = performance.now() + (this.#pending.length - this.#taken > BACKLOG ? BACKLOG_FRAME : FRAME);
    if (this.$before && this.#pending.length) {
      this.$before.remove();
      this.$before = null;
    }
    const before = this.#taken;
    while (this.#taken < this.#pending.length) {
      const entry = this.#pending[this.#taken];
      this.#show(entry);
      this.#taken += 1;
      if (((this.#taken & 63) === 0 || entry.text?.length > SHOWN / 20) && performance.now() > until) break;
    }
    this.#unseen += this.#taken - before;
    if (this.#taken === this.#pending.length) {
      this.#pending = [];
      this.#taken = 0;
      if (this.#ended) this.#finish();
    } else {
      this.#later();
    }
    const now = performance.now();
    const much = this.#isMuch();
    if (much && now - this.#shown < BACKLOG_SHOWN) return;
    this.#shown = now;
    this.#rows.settle();
    if (!much && (this.#ended || ["open", "reconnecting"].includes(this.#state))) this.#rows.rest(); // how it stands comes first
    this.#showFacts();
    this.#count();
    this.#seek();
    this.#showFollowing();
  }

  #isMuch() {
    return this.#loading || this.#pending.length - this.#taken > BACKLOG;
  }

  #show({ skip, note, source, text, at, late, level, label }) {
    if (note !== undefined) {
      this.#lines.skip(skip);
      this.#rows.note(note, this.#lines.group);
      return;
    }
    for (const change of this.#lines.add(source, text, at, level, label)) this.#apply(change);
    const line = this.#lines.all[this.#lines.all.length - 1];
    if (late) this.#late.push([late, line]);
  }

  #apply({ line, open, close }) {
    if (close) {
      this.#rows.close(close, this.#following && !close.failed && !close.keepOpen && !this.#isSought(close));
      if (!this.#ended) this.#say(`${close.line.plain} ${close.failed ? "failed" : "finished"}${close.duration === null ? "" : ` after ${spoken(close.duration)}`}`);
      return;
    }
    if (open) this.#rows.open(open, !open.collapsed);
    else this.#rows.add(line, this.count > AT_ONCE && this.#isMuch());
    const shown = open ? open.line : line;
    if (this.#started === null) this.#started = shown.at;
    if (open) this.#made(shown);
    if (this.#search.expression) this.#match(shown);
  }

  /* A line has become a row */
  #made(line) {
    if (this.prefs.times !== "off") this.#time(line);
    if (this.#target && line.number >= this.#target.first && line.number <= this.#target.last) line.row.classList.add("sl-target");
    if (!this.#search.lines.has(line)) return;
    line.row.classList.add("sl-hit");
    this.#repaint ??= requestAnimationFrame(() => this.#paint());
  }

  #repaint = null;

  #isSought(group) {
    if (!this.#target) return false;
    const line = this.#lines.numbered(this.#target.first);
    return line !== undefined && inside(line, group);
  }

  /* Following the end, until the reader scrolls up from it. Scrolling alone is no sign of the reader: rows turn out taller or
     lower than was assumed before they were first laid out. */

  #watchScrolling() {
    const view = this.$view;
    for (const kind of ["wheel", "touchmove", "keydown"]) view.addEventListener(kind, () => { this.#handled = performance.now(); }, { passive: true });
    view.addEventListener("pointerdown", () => { this.#handled = Infinity; });
    view.addEventListener("scroll", () => {
      const atEnd = view.scrollHeight - view.scrollTop - view.clientHeight <= NEAR_END;
      const up = view.scrollTop < this.#reached && performance.now() - this.#handled < HANDLING;
      this.#reached = view.scrollTop;
      if (this.#following ? up && !atEnd : atEnd && performance.now() - this.#handled < HANDLING) this.#follow(!this.#following, false);
    }, { passive: true });
    new ResizeObserver(() => { if (this.#following) this.#toEnd(); }).observe(view);
  }

  #follow(on, scroll = true) {
    this.#following = on;
    if (on) this.#sought = false;
    this.#unseen = 0;
    if (on && !scroll) this.#reached = this.$view.scrollTop;
    this.#showFollowing();
  }

  #toEnd() {
    this.$view.scrollTop = this.$view.scrollHeight;
    this.#reached = this.$view.scrollTop;
  }

  #showFollowing() {
    if (this.#following) {
      this.#toEnd();
      this.#unseen = 0;
    }
    this.$follow.setAttribute("aria-pressed", String(this.#following));
    this.$news.hidden = this.#following || !this.#unseen;
    this.$news.textContent = `↓ ${plural(this.#unseen, "new line")}`;
  }

  /* Links to lines */

  #seekAddress() {
    const target = lineRange(location.hash);
    if (!target) return;
    this.#aim(target);
    this.#sought = true;
    this.#follow(false);
    this.#seek();
  }

  #aim(target) {
    for (const row of this.$view.querySelectorAll(".sl-target")) row.classList.remove("sl-target");
    this.#target = target;
    if (!target) return;
    for (const line of this.#lines.between(target)) line.row?.classList.add("sl-target");
  }

  #seek() {
    if (!this.#sought || !this.#target) return;
    const line = this.#lines.numbered(this.#target.first);
    if (!line) return;
    this.#sought = false;
    this.#goTo(line);
    this.#unseen = 0;
  }

  #goTo(line) {
    for (let group = line.group; group; group = group.parent) group.details.open = true;
    this.#following = false;
    const row = this.#rows.row(line);
    row.scrollIntoView({ block: "center" });
    requestAnimationFrame(() => row.scrollIntoView({ block: "center" })); // what was laid out on the way was taller or lower
  }

  #clicked(event) {
    const number = event.target.closest?.(".sl-n[data-n]");
    if (!number || !this.#rows.anchors || event.ctrlKey || event.metaKey || event.button !== 0) return;
    event.preventDefault();
    const clicked = Number(number.dataset.n);
    const from = event.shiftKey && this.#target ? this.#target.first : clicked;
    const hash = from === clicked ? `#L${clicked}` : `#L${Math.min(from, clicked)}-L${Math.max(from, clicked)}`;
    history.replaceState(history.state, "", hash);
    this.#follow(false);
    this.#aim(lineRange(hash));
  }

  /* Search */

  #find() {
    const search = this.#search;
    for (const line of search.lines) line.row?.classList.remove("sl-hit");
    this.#search = { expression: null, hits: [], lines: new Set(), at: -1 };
    const pressed = (option) => option.getAttribute("aria-pressed") === "true";
    this.$query.setCustomValidity("");
    try {
      this.#search.expression = pattern(this.$query.value, { regex: pressed(this.$regex), sensitive: pressed(this.$case) });
    } catch {
      this.$query.setCustomValidity("This is not a valid regular expression.");
    }
    this.$view.classList.toggle("sl-only-hits", pressed(this.$only) && this.#search.expression !== null);
    if (this.#search.expression) for (const line of this.#lines.all) this.#match(line);
    if (this.#search.hits.length) this.#step(1);
    this.#count();
    this.#paint();
  }

  #match(line) {
    const found = line.plain ? matches(this.#search.expression, line.plain) : [];
    if (!found.length) return;
    this.#search.lines.add(line);
    if (this.$view.classList.contains("sl-only-hits")) this.#rows.row(line);
    line.row?.classList.add("sl-hit");
    for (const [from, to] of found) this.#search.hits.push({ line, from, to });
  }

  #step(by) {
    const search = this.#search;
    if (!search.hits.length) return;
    search.at = search.at === -1 ? (by > 0 ? 0 : search.hits.length - 1) : (search.at + by + search.hits.length) % search.hits.length;
    this.#goTo(search.hits[search.at].line);
    this.#showFollowing();
    this.#count();
    this.#paint();
  }

  #count() {
    const { hits, at, expression } = this.#search;
    const total = numbers.format(hits.length);
    const text = !this.$query.validity.valid ? "Invalid pattern" : !expression ? "" : hits.length ? `${numbers.format(at + 1)} of ${total}` : "No match";
    if (this.$found.textContent !== text) this.$found.textContent = text;
  }

  /* The matches around the current one, without touching the rows */
  #paint() {
    this.#repaint = null;
    if (!globalThis.Highlight) return;
    const { hits, at } = this.#search;
    const from = Math.max(0, at - MARKED / 2);
    const ranges = hits.slice(from, from + MARKED).map(({ line, from, to }) => line.row && rangeOf(line.row, from, to));
    const current = ranges[at - from];
    CSS.highlights.set("sse-log-match", new Highlight(...ranges.filter((range) => range && range !== current)));
    CSS.highlights.set("sse-log-current", new Highlight(...(current ? [current] : [])));
  }

  /* Times */

  #turnTimes() {
    const modes = ["off", "elapsed", "clock"];
    this.#remember({ times: modes[(modes.indexOf(this.prefs.times) + 1) % modes.length] });
    this.#nameTimes();
    this.$view.classList.toggle("sl-times", this.prefs.times !== "off");
    if (this.prefs.times === "off") return;
    for (const line of this.#lines.all) this.#time(line);
    this.#mendTimes();
  }

  #nameTimes() {
    const label = `Times: ${this.prefs.times} (t)`;
    this.$times.title = label;
    this.$times.setAttribute("aria-label", label);
    this.$times.classList.toggle("sl-on", this.prefs.times !== "off");
  }

  #time(line) {
    if (!line.row || line.at === null) return;
    const text = this.prefs.times === "clock" ? new Date(line.at * 1000).toLocaleTimeString("en-GB") : `+${spoken(Math.max(0, line.at - this.#started))}`;
    line.row.firstChild.dataset.t = text;
  }

  /* What came in a burst, after a reconnection, has the time of its arrival until the server is asked. */
  async #mendTimes() {
    const range = this.getAttribute("range");
    const late = this.#late;
    this.#late = [];
    if (!range || !late.length) return;
    try {
      const byOffset = new Map();
      for (let from = late[0][0]; from <= late[late.length - 1][0];) {
        const page = await this.#page(range, from);
        if (!page?.records.length) break;
        for (const { offset, at } of page.records) byOffset.set(offset, at);
        from = page.records[page.records.length - 1].offset + 1;
      }
      for (const [offset, line] of late) {
        line.at = byOffset.get(offset) ?? line.at;
        this.#time(line);
      }
    } catch { /* they keep what they have */ }
  }

  /* The header */

  #status = "";
  #started = null;
  #opened = -Infinity;
  #rows = null;
  #retryAt = 0;

  #showStatus(status) {
    this.#status = status;
    const tone = Object.keys(TONES).find((name) => TONES[name].includes(status.toLowerCase())) ?? "other";
    this.$status.dataset.tone = tone;
    this.$status.textContent = status.charAt(0).toUpperCase() + status.slice(1);
    const phase = this.#ended ? "ended" : tone === "idle" ? (status === "waiting" ? "new" : "running") : "running";
    for (const part of this.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").includes(phase);
  }

  #showFacts() {
    const parts = [];
    const elapsed = this.#elapsed();
    if (elapsed !== null) parts.push(["sl-elapsed", spoken(elapsed)]);
    if (this.#exit !== null) parts.push(["sl-exit", this.#exit < 0 ? `signal ${-this.#exit}` : `exit code ${this.#exit}`]);
    parts.push(["sl-count", plural(this.#lines.next - 1, "line")]);
    if (this.#lines.errors) parts.push(["sl-errors", `${numbers.format(this.#lines.errors)} on stderr`]);
    const text = parts.map(([, one]) => one).join(" · ");
    if (this.$facts.dataset.text === text) return;
    this.$facts.dataset.text = text;
    this.$facts.replaceChildren(...parts.map(([name, one]) => make("span", name, {}, one)));
  }

  #elapsed() {
    if (this.#seconds !== null) return this.#seconds;
    if (this.#started === null) return null;
    const until = secondsOf(this.getAttribute("ended")) ?? (this.#ended ? this.#lastAt() : Date.now() / 1000);
    return Math.max(0, until - this.#started);
  }

  #seconds = null; // as the log itself said

  #lastAt() {
    for (let at = this.#lines.all.length - 1; at >= 0; at -= 1) if (this.#lines.all[at].at !== null) return this.#lines.all[at].at;
    return this.#started;
  }

  #tick() {
    if (this.#state === "reconnecting") this.#showWait();
    this.#showFacts();
    this.#recheck();
    if (!this.#ended && this.count && this.#state === "open") this.#say(`${this.$status.textContent}, ${plural(this.count, "line")}`, true);
  }

  #showProgress({ fraction = null, step = "" }) {
    const bar = this.$progress.firstChild;
    this.$progress.hidden = this.#ended;
    const known = Number.isFinite(fraction);
    if (known) bar.value = fraction;
    else bar.removeAttribute("value");
    bar.title = known ? `${Math.round(fraction * 100)} %` : "";
    this.$progress.lastChild.textContent = word(step);
  }

  /* The connection, in words */

  #connection(source) {
    if (this.#ended || source !== this.#source) return;
    const { state } = source;
    if (state === "open" && this.#state !== "open") {
      this.#opened = this.#checked = performance.now();
      setTimeout(() => { if (this.prefs.times !== "off") this.#mendTimes(); }, 1500);
    }
    this.#state = state;
    this.#later();
    if (state === "open") this.#word("open", "Live");
    else if (state === "reconnecting") this.#showWait();
    else if (state === "connecting") this.#word("connecting", "Connecting…");
    else if (state === "ended") this.#streamEnded(source.reason);
    else if (state === "error") this.#refused(source.reason === "content_type" ? "page" : source.status);
  }

  #showWait() {
    const left = Math.ceil((this.#retryAt - Date.now()) / 1000);
    this.#word("reconnecting", left > 0 ? `Reconnecting in ${left} s…` : "Reconnecting…");
  }

  #word(state, ...words) {
    if (this.$connection.dataset.state !== state) this.#say(words.map((word) => word.textContent ?? word).join(""));
    this.$connection.dataset.state = state;
    this.$connection.replaceChildren(...words);
    this.dispatchEvent(new CustomEvent("sse-log:state", { bubbles: true, detail: { state } }));
  }

  async #refused(status) {
    const asked = status ?? (await this.#ask());
    if (asked === 401) this.#over("error", "Signed out. ", ...this.#signIn());
    else if (asked === 403) this.#over("error", "You may not see this log.");
    else if (asked === 404) this.#over("error", "There is no such log.");
    else if (asked === "page") this.#over("error", "The server sent a page instead of a log. ", ...this.#signIn());
    else if (asked === 204 || asked === 200 || asked === null) this.#over("ended", "Ended");
    else this.#over("error", `The server refused (${asked}). Reload to try again.`);
  }

  /* A session can end while the stream is open: ask at times, unless nobody looks. */
  async #recheck() {
    const every = Number(this.getAttribute("check") ?? CHECK);
    if (!every || this.#state !== "open" || document.hidden || performance.now() - this.#checked < every * 1000) return;
    this.#checked = performance.now();
    const status = await this.#ask();
    if (this.#state === "open" && (status === 401 || status === 403)) this.#refused(status);
  }

  async #ask() {
    try {
      return (await fetch(new URL(this.getAttribute("src"), document.baseURI), { method: "HEAD", credentials: "same-origin" })).status;
    } catch {
      return null;
    }
  }

  #signIn() {
    const login = this.getAttribute("login");
    if (!login) return [];
    const address = new URL(login, document.baseURI);
    address.searchParams.set("next", location.pathname + location.search);
    return [make("a", "", { href: address.href }, "Sign in again")];
  }

  /* Ends */

  #exited(told, at) {
    const code = told.code ?? told.exit_code ?? null;
    const before = this.#exit;
    this.#exit = Number.isInteger(code) ? code : null;
    const seconds = told.seconds ?? told.duration;
    if (Number.isFinite(seconds)) this.#seconds = seconds;
    const said = word(told.status);
    const again = this.#outcome !== null && this.#exit === before; // by the log and by its stream, of which one has a word for it
    if (said || !again) {
      this.#outcome = said || (this.#exit === null ? null : this.#exit === 0 ? "succeeded" : "failed");
      this.#inWords = Boolean(said);
    }
    this.#endedAt = at ?? Date.now() / 1000;
  }

  #outcome = null;
  #inWords = false; // not only by an exit code
  #endedAt = null;

  async #streamEnded(reason) {
    const status = this.#outcome === null ? await this.#ask() : 200; // an end without a result: is it the log's, or the session's?
    if (status === 401 || status === 403) return this.#refused(status);
    return this.#logEnded(reason);
  }

  #logEnded(reason) {
    const said = ["completed", "topic_closed", "no_content"].includes(reason) ? null : reason;
    if (!this.#inWords) this.#outcome = said ?? this.#outcome; // "cancelled" says more than an exit code
    this.#over("ended", "Ended");
  }

  #over(state, ...words) {
    if (this.#ended) return;
    this.#ended = true;
    this.#state = state;
    this.#source?.close();
    this.#word(state, ...words);
    if (state === "error" && this.$before && !this.$before.querySelector("pre")?.textContent.trim()) this.$before.replaceChildren(make("span", "sl-empty", {}, ...words.filter((word) => typeof word === "string")));
    if (!this.#frame) this.#flush();
  }

  #finished = false;

  /* When everything that came is in rows */
  #finish() {
    if (this.#finished) return;
    this.#finished = true;
    this.$progress.hidden = true;
    if (this.#state !== "ended") return; // it may go on, where this reader may not see it
    const attribute = this.getAttribute("status");
    const known = attribute && !["running", "queued", "waiting"].includes(attribute) ? attribute : null;
    const agrees = known !== null && this.#exit !== null && (this.#exit === 0) === TONES.good.includes(known);
    const outcome = (!this.#inWords && agrees ? known : null) ?? this.#outcome ?? known ?? "ended";
    const failed = (this.#exit ?? 0) !== 0 || TONES.bad.includes(outcome);
    for (const change of this.#lines.finish(this.#endedAt ?? this.#lastAt(), failed)) this.#apply(change);
    this.#showStatus(outcome);
    this.#showFacts();
    this.#say(`${this.$status.textContent}${this.#exit === null ? "" : `, exit code ${this.#exit}`}, ${plural(this.count, "line")}`);
    const mark = failed ? "✗" : TONES.good.includes(outcome) ? "✓" : "■";
    if (this.#rows.anchors && this.#wasRunning) document.title = `${mark} ${document.title}`;
    this.dispatchEvent(new CustomEvent("sse-log:end", { bubbles: true, detail: { status: outcome, code: this.#exit, lines: this.count } }));
  }

  get #wasRunning() {
    return !this.hasAttribute("ended");
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
    this.$wrap.setAttribute("aria-pressed", String(this.prefs.wrap));
    this.classList.toggle("sl-nowrap", !this.prefs.wrap);
    this.#showFollowing();
  }

  #fill(on = !this.classList.contains("sl-fills")) {
    this.classList.toggle("sl-fills", on);
    document.documentElement.classList.toggle("sl-behind", on);
    this.$full.setAttribute("aria-pressed", String(on));
    this.#showFollowing();
  }

  #foldAll() {
    const groups = [...this.$view.querySelectorAll(".sl-group")];
    const open = !groups.some((group) => group.open);
    for (const group of groups) group.open = open;
    this.#showFollowing();
  }

  #chosen() {
    const lines = this.#target ? this.#lines.between(this.#target) : this.#lines.all;
    return lines.map(whole).join("\n");
  }

  async #copy() {
    const text = this.#chosen();
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
    this.#flash(`Copied ${plural(count, "line")}`);
  }

  #flash(text) {
    this.$say.textContent = text;
    this.#said = performance.now();
    const toast = make("span", "sl-flash", { "aria-hidden": "true" }, text);
    this.$view.parentElement.append(toast);
    setTimeout(() => toast.remove(), 1500);
  }

  #download() {
    const address = URL.createObjectURL(new Blob([`${this.text}\n`], { type: "text/plain" }));
    make("a", "", { href: address, download: "log.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  #key(event) {
    const own = this.contains(document.activeElement);
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isEditable(event.target) || this.$keys.open) return;
    if (event.key === "Escape" && this.classList.contains("sl-fills")) this.#fill(false);
    if (!this.prefs.keys || !(own || (document.activeElement === document.body && this.#rows.anchors))) return;
    const keys = {
      "/": () => this.$query.focus(), n: () => this.#step(1), N: () => this.#step(-1), f: () => this.#follow(!this.#following), t: () => this.#turnTimes(),
      w: () => this.#wrap(), z: () => this.#foldAll(), m: () => this.#fill(), "?": () => this.$keys.showModal(), G: () => this.#follow(true),
      g: () => { this.#follow(false); this.$view.scrollTop = 0; },
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }
}

function inside(line, group) {
  for (let one = line.group; one; one = one.parent) if (one === group) return true;
  return false;
}

if (!customElements.get("sse-log")) customElements.define("sse-log", SSELog);
