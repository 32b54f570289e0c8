/* The stream of a log, and how it stands in words. A tab that nobody looks at gives its connection back, since browsers have six for
   all tabs of a site on HTTP/1.1; it asks at times whether the log is over, and catches up when somebody looks again. */

const HIDDEN_MS = 5_000; // after which a hidden tab lets go
const ASK_MS = 15_000; // how often it asks then
const REFUSED = [401, 403, 404, 410];

function closedIn(data) {
  try {
    const { closed } = Object(JSON.parse(data));
    return typeof closed === "string" ? closed : null;
  } catch {
    return null;
  }
}

export class Connection {
  #element;
  #tools;
  #on;
  #source = null;
  #id = "";
  #retryAt = 0;
  #hiding = 0;
  #asking = 0;
  #over = false;
  #away = false; // the connection was given back
  #closed = null; // what the topic was closed with

  /** `element` has the attributes. `tools`: {EventStream} of client.js, {t} of words.js, {make} of rows.js, `isOver()`: a promise of
      whether the log was closed. `on`: {event(type, data, id), open(), word(state, words), over(state, words), ended(reason)}. */
  constructor(element, tools, on) {
    this.#element = element;
    this.#tools = tools;
    this.#on = on;
    this.state = "connecting";
    this.openedAt = -Infinity;
  }

  get #address() {
    return new URL(this.#element.getAttribute("src"), document.baseURI).href;
  }

  open(lastEventId) {
    this.#id = lastEventId;
    if (document.hidden && this.#tools.isOver) this.#letGo();
    else this.#connect();
  }

  #connect() {
    this.#away = false;
    clearInterval(this.#asking);
    const source = (this.#source = new this.#tools.EventStream(this.#address, { credentials: "same-origin", lastEventId: this.#id }));
    source.addEventListener("*", ({ type, data, lastEventId }) => {
      if (source !== this.#source) return;
      if (lastEventId) this.#id = lastEventId;
      if (type === "sse.end") this.#closed = closedIn(data);
      this.#on.event(type, data, lastEventId);
    });
    source.addEventListener("statechange", ({ delay }) => {
      this.#retryAt = Date.now() + (delay ?? 0);
      this.#turned(source);
    });
    this.#turned(source);
  }

  close() {
    this.#over = true;
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#hiding);
    clearInterval(this.#asking);
  }

  /** Somebody looks, or nobody does any more. */
  look() {
    if (this.#over) return;
    clearTimeout(this.#hiding);
    if (!document.hidden) {
      if (this.#away) this.#connect();
    } else if (this.#source && this.#tools.isOver) {
      this.#hiding = setTimeout(() => this.#letGo(), HIDDEN_MS);
    }
  }

  #letGo() {
    const source = this.#source;
    this.#source = null;
    source?.close();
    this.#away = true;
    this.state = "hidden";
    this.#on.word("hidden", [this.#tools.t("Paused in the background")]);
    this.#asking = setInterval(async () => {
      if (this.#away && (await this.#tools.isOver().catch(() => false)) && this.#away) this.#connect(); // the rest comes, and the end
    }, ASK_MS);
  }

  #turned(source) {
    if (this.#over || source !== this.#source) return;
    const { t } = this.#tools;
    const { state } = source;
    if (state === "open" && this.state !== "open") {
      this.openedAt = performance.now();
      this.#on.open();
    }
    this.state = state;
    if (state === "open") this.#on.word("open", [t("Live")]);
    else if (state === "reconnecting") this.tick();
    else if (state === "connecting") this.#on.word("connecting", [t("Connecting…")]);
    else if (state === "ended") this.#ended(source.reason);
    else if (state === "error") this.#refused(source.reason === "content_type" ? "page" : source.status, source.reason);
  }

  /** Every half second. */
  tick() {
    if (!this.#over && this.state === "reconnecting") this.#showWait();
  }

  #showWait() {
    const { t } = this.#tools;
    const left = Math.ceil((this.#retryAt - Date.now()) / 1000);
    const status = this.#source?.error?.status ?? this.#source?.status ?? null;
    const said = left > 0 ? t("Reconnecting in {seconds} s…", { seconds: left }) : t("Reconnecting…");
    const why = status === 429 ? t("Too many requests.") : status >= 500 ? t("The server has a problem ({status}).", { status: String(status) }) : "";
    this.#on.word("reconnecting", [why ? `${why} ${said}` : said]);
  }

  async #refused(status, reason = null) {
    const { t } = this.#tools;
    const asked = status ?? (await this.#ask());
    const words = {
      401: [t("Signed out."), ...this.#signIn()],
      403: [t("You may not see this log.")],
      404: [t("There is no such log.")],
      410: [t("This log is gone.")],
      page: [t("The server sent a page instead of a log."), ...this.#signIn()],
    };
    if (words[asked]) this.#on.over("error", words[asked], asked);
    else if (reason !== null && status === null && asked !== 204) this.#on.over("error", [t("This page’s stream was closed. Reload the page to open another.")]);
    else if (asked === 204 || asked === 200 || asked === null) this.#on.ended("no_content");
    else this.#on.over("error", [t("The server refused ({status}). Reload to try again.", { status: String(asked) })], asked);
  }

  async #ask() {
    try {
      return (await fetch(this.#address, { method: "HEAD", credentials: "same-origin" })).status;
    } catch {
      return null;
    }
  }

  #signIn() {
    const login = this.#element.getAttribute("login");
    if (!login) return [];
    const address = new URL(login, document.baseURI);
    address.searchParams.set("next", location.pathname + location.search);
    return [" ", this.#tools.make("a", "", { href: address.href }, this.#tools.t("Sign in again"))];
  }

  async #ended(reason) {
    const status = this.#on.hasOutcome() ? 200 : await this.#ask(); // an end without a result: is it the log's, or the session's?
    if (REFUSED.slice(0, 2).includes(status)) return this.#refused(status);
    return this.#on.ended(reason === "topic_closed" && this.#closed ? this.#closed : reason);
  }
}
