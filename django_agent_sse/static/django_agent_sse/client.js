/* Server-Sent Events over fetch: an EventSource with headers, POST, states, back-off, a watchdog and a connection shared by tabs.

One file without imports, so that it can be served under a hashed name. The contract is in client.d.ts. */

const END_ID = "sse.end~";
const HEARTBEAT = "heartbeat "; // a comment before the first event of a route whose heartbeat is not the usual one
const SESSION = "Agent-SSE-Session"; // the response header that says whose stream it is: "<account>.<session>"
const SIGNATURE = "sse_signature"; // the query parameter of a signed address: whoever reads it may use it for a while
const LAST_ID = "last_event_id"; // the query parameter that the server takes instead of the header
const LONGEST_TIMER = 2 ** 31 - 1;
const LONGEST_RETRY = 3_600_000; // the longest wait in milliseconds that a server may ask for
const LONGEST_EVENT = 2 ** 27; // characters of one event
const HEALTHY_MS = 10_000; // a connection that was open for so long counts as a success, though it brought nothing
const ANSWER_MS = 5_000; // how long the leader of a shared connection may take to answer another tab
const GRACE_MS = 500; // how long a tab that is out of step waits for the leader's replay before it asks the server itself
const STALL_MS = 1_000; // how long a tab may read too slowly before it gives its part in a shared connection to others
const WATCHDOG_MS = 45_000; // silence after which a connection is dead: three heartbeats of 15 s, unless the route says otherwise
const HEARTBEATS = 3; // that may be missing
const SHORTEST_WATCHDOG_MS = 5_000; // of those that a route's heartbeat makes
const TURN_MS = 10_000; // how long a tab that catches up may keep others from it; after that it goes on beside them
const SHOWN = 60; // characters of data in an error
const HELD = 1_000; // events of the leader that a tab keeps while it catches up

const FAULTS = new Set([408, 425, 429]);
const REFUSALS = { 401: "unauthorized", 403: "forbidden", 404: "not_found", 410: "gone" };
const REVOCATIONS = new Set(["revoked", "kicked"]);
const BACKOFF = { threshold: 3, baseDelay: 500, factor: 2, maxDelay: 30_000, jitter: 250 };
const DEFAULTS = {
  autoConnect: true,
  body: undefined,
  buffer: 256,
  credentials: undefined,
  fetch: undefined,
  headers: undefined,
  lastEventId: "",
  method: undefined,
  query: undefined,
  reconnect: undefined,
  renew: undefined,
  share: false,
  signal: undefined,
  subpath: "",
  watchdog: undefined,
  withCredentials: false,
};

/** Reads an event stream by the algorithm of the HTML standard, from bytes that are cut anywhere. */
export class Parser {
  /** The id that the stream has set last; it changes with the blank line. */
  lastEventId;
  /** The reconnection time in milliseconds that the stream has set last, or null. */
  retry = null;
  /** The seconds between two heartbeats that a comment has said, `: heartbeat 60`; 0 for none, null where nothing was said. */
  heartbeat = null;
  #decoder = new TextDecoder();
  #rest = "";
  #afterCR = false;
  #data = "";
  #type = "";
  #id;

  constructor(lastEventId = "") {
    this.lastEventId = this.#id = lastEventId;
  }

  /** The events that end in this chunk. `lastEventId` and `retry` are those of the event that was yielded last. */
  *feed(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    const ends = /\r\n?|\n/g;
    let start = 0;
    if (this.#afterCR && text !== "") {
      if (text[0] === "\n") start = 1;
      this.#afterCR = false;
    }
    ends.lastIndex = start;
    for (let found; (found = ends.exec(text)) !== null; ) {
      const line = this.#rest + text.slice(start, found.index);
      this.#rest = "";
      start = ends.lastIndex;
      this.#afterCR = found[0] === "\r" && start === text.length;
      if (line !== "") {
        this.#field(line);
        continue;
      }
      this.lastEventId = this.#id;
      const [data, type] = [this.#data, this.#type];
      this.#data = this.#type = "";
      if (data !== "") yield { type: type || "message", data: data.slice(0, -1), lastEventId: this.#id };
    }
    this.#rest += text.slice(start);
    if (this.#rest.length + this.#data.length > LONGEST_EVENT) throw new TooLarge();
  }

  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data += `${value}\n`;
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Math.min(Number(value), LONGEST_RETRY);
    else if (name === "" && value.startsWith(HEARTBEAT)) this.#comment(value.slice(HEARTBEAT.length));
  }

  #comment(seconds) {
    if (/^[0-9]{1,9}(?:\.[0-9]{1,9})?$/.test(seconds)) this.heartbeat = Number(seconds);
  }
}

class TooLarge extends RangeError {
  constructor() {
    super(`an event has more than ${LONGEST_EVENT} characters; publish smaller ones`);
  }
}

/** Why a stream ended in the state `error`, or why it reconnects: `reason`, `status` where there was an answer, `cause`. */
export class StreamError extends Error {
  /** @param {string} reason @param {{ status?: number | null, url?: string, cause?: unknown }} [about] */
  constructor(reason, { status = null, url = "", cause } = {}) {
    super(`${unsigned(url)}: ${reason}${status === null ? "" : ` (HTTP ${status})`}`, { cause });
    this.name = "StreamError";
    this.reason = reason;
    this.status = status;
  }
}

/** The event `statechange`. */
export class StateChangeEvent extends Event {
  constructor(about) {
    super("statechange");
    Object.assign(this, about);
  }
}

/** An event of the server: its data as text, and read as JSON when that is asked for. */
export class StreamMessage extends MessageEvent {
  #json;
  #read = false;

  /** The data as JSON; a SyntaxError where it is not JSON. */
  get json() {
    if (!this.#read) {
      this.#json = parsed(this);
      this.#read = true;
    }
    return this.#json;
  }
}

const STATES = { CONNECTING: 0, OPEN: 1, CLOSED: 2 };

export class EventStream extends EventTarget {

  #url;
  #options;
  #backoff;
  #about = { state: "idle", reason: "new", status: null, attempt: 0, delay: null };
  #lastEventId;
  #fresh = true; // the address is as the page has given it, or as it was renewed: no attempt was made with it
  #retry = null;
  #driver = null; // aborts this tab's own connection, while it has one
  #share = null;
  #shares = false; // it is to be shared with those who are the same to the server
  #tag = null; // who that is, as the server has said last
  #own = ""; // the headers that the server was asked with then
  #doubting = false;
  #unsaid = null; // the name by which other tabs are still to be told who this is, as the server did not say it
  #error = null;
  #failures = 0;
  #received = 0;
  #heartbeat = null; // in seconds, where the server has said it
  #hurry = null; // ends the wait before the next attempt
  #heard = 0; // when the last byte came
  #silence = null; // ends an attempt that has been silent for too long
  #look = null; // sets the watchdog's timer anew
  #roomless = []; // who waits until no iteration has a full buffer
  #iterations = new Set();
  #anything = new Map();
  #handlers = new Map();
  #listening = null;

  constructor(url, options = {}) {
    super();
    this.#options = checked(options);
    const { method, reconnect, signal } = this.#options;
    this.#backoff = (reconnect ?? method === "GET") && filled(BACKOFF, reconnect === true ? {} : (reconnect ?? {}), "reconnect.");
    this.#url = resolved(url, this.#options);
    this.#lastEventId = this.#options.lastEventId;
    signal?.addEventListener("abort", () => this.#finish("idle", { reason: "aborted" }));
    for (const name of ["open", "message", "error", "statechange"]) this.#handle(name);
    if (this.#options.autoConnect) this.connect();
  }

  get url() {
    return this.#url;
  }

  get withCredentials() {
    return this.#credentials === "include";
  }

  get readyState() {
    return { connecting: 0, reconnecting: 0, open: 1 }[this.state] ?? 2;
  }

  get lastEventId() {
    return this.#lastEventId;
  }

  get state() {
    return this.#about.state;
  }

  get reason() {
    return this.#about.reason;
  }

  get status() {
    return this.#about.status;
  }

  get attempt() {
    return this.#about.attempt;
  }

  get delay() {
    return this.#about.delay;
  }

  get error() {
    return this.#error;
  }

  /** Whether this tab leads a shared connection; null where it has its own. */
  get leads() {
    return this.#share && this.#share.leads;
  }

  connect() {
    if (!["idle", "ended", "error"].includes(this.state)) return;
    if (this.state !== "idle") throw new TypeError(`the stream is over (${this.state}, ${this.reason}); reopen() begins again`);
    if (this.#options.signal?.aborted) return this.#finish("idle", { reason: "aborted" });
    this.#start("connecting", "started");
  }

  /** Stop. The last id stays: reopen() goes on after it. */
  close() {
    this.#finish("idle", { reason: "closed" });
  }

  /** Connect anew, now: after the last id, or from the beginning where the stream had ended. */
  reopen({ lastEventId = undefined } = {}) {
    const changed = this.reason === "session_changed";
    const over = this.state === "ended" || (this.state === "error" && (this.reason === "gone" || changed));
    if (changed) this.#tag = null;
    this.#stop();
    this.#lastEventId = lastEventId ?? (over ? "" : withoutEnd(this.#lastEventId));
    this.#error = null;
    if (this.#options.signal?.aborted) return this.#to("idle", { reason: "aborted" });
    this.#start("connecting", "reopened");
  }

  addEventListener(name, listener, options) {
    if (name !== "*") return super.addEventListener(name, listener, options);
    const { once = false, signal } = typeof options === "object" && options !== null ? options : {};
    if (!listener || signal?.aborted) return undefined;
    if (!this.#anything.has(listener)) this.#anything.set(listener, once);
    signal?.addEventListener("abort", () => this.#anything.delete(listener), { once: true });
    return undefined;
  }

  removeEventListener(name, listener, options) {
    if (name !== "*") return super.removeEventListener(name, listener, options);
    this.#anything.delete(listener);
    return undefined;
  }

  /** Every event of the server from now on. Reading pauses while `buffer` events wait here; none is dropped. */
  [Symbol.asyncIterator]() {
    const owns = this.state === "idle" && this.reason === "new";
    const leave = () => {
      this.#iterations.delete(iteration);
      this.#loosen();
    };
    const iteration = new Iteration(
      () => this.#loosen(),
      () => {
        leave();
        if (owns && this.#iterations.size === 0) this.close();
      },
    );
    if (["ended", "error"].includes(this.state) || (this.state === "idle" && !owns)) iteration.end(this.#error);
    else this.#iterations.add(iteration);
    if (owns) this.connect();
    return iteration;
  }

  // Starting and stopping

  #start(state, reason) {
    this.#failures = 0;
    this.#listen();
    this.#to(state, { reason });
    if (this.state !== state) return;
    const { share } = this.#options;
    this.#shares = Boolean(share && globalThis.navigator?.locks && globalThis.BroadcastChannel && globalThis.crypto?.subtle);
    return this.#drive();
  }

  #stop() {
    this.#park();
    this.#leave();
    this.#listening?.abort();
    this.#listening = null;
  }

  #finish(state, about) {
    if (["ended", "error"].includes(this.state) || (this.state === "idle" && this.reason !== "new")) return;
    this.#error = state === "error" ? new StreamError(about.reason, { url: this.#url, ...about }) : null;
    if (state !== "idle") this.#share?.tell({ status: null, ...about, state });
    this.#stop();
    for (const iteration of this.#iterations) iteration.end(this.#error);
    this.#iterations.clear();
    this.#to(state, about);
    if (this.#error !== null) this.#complain(this.#error);
  }

  #to(state, { reason, status = null, attempt = this.#failures, delay = null }) {
    const previous = this.state;
    this.#about = { state, reason, status, attempt, delay };
    this.#share?.tell();
    this.dispatchEvent(new StateChangeEvent({ ...this.#about, previous }));
  }

  #complain(error) {
    this.dispatchEvent(Object.assign(new Event("error"), { error }));
  }

  #listen() {
    if (typeof globalThis.addEventListener !== "function") return;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const soon = () => {
      if (globalThis.document?.visibilityState === "hidden") return;
      this.#hasten();
    };
    /** @param {any} event */
    const freeze = (event) => {
      if (event.persisted === false || this.state === "idle") return;
      this.#park();
      this.#leave();
      this.#to("reconnecting", { reason: "suspended" });
    };
    const thaw = () => {
      if (this.reason !== "suspended") return;
      this.#listening.abort();
      this.#start("reconnecting", "resumed");
    };
    globalThis.addEventListener("online", soon, { signal });
    globalThis.addEventListener("pagehide", freeze, { signal });
    globalThis.addEventListener("pageshow", thaw, { signal });
    globalThis.document?.addEventListener("visibilitychange", soon, { signal });
    globalThis.document?.addEventListener("freeze", freeze, { signal });
    globalThis.document?.addEventListener("resume", thaw, { signal });
  }

  /** Do not wait any longer: the network is back, or somebody looks. */
  #hasten() {
    this.#hurry?.();
    if (this.#isSilent()) this.#silence?.();
    this.#share?.hasten();
  }

  // This tab's own connection

  #drive() {
    if (this.#driver !== null) return;
    this.#driver = new AbortController();
    this.#run(this.#driver.signal);
  }

  #park() {
    this.#driver?.abort();
    this.#driver = null;
    this.#loosen();
  }

  async #run(signal) {
    await null; // what follows `new EventStream(…)` may add listeners first
    while (!signal.aborted) {
      const outcome = await (this.#shares && this.#share === null ? this.#knock(signal) : this.#attempt(signal));
      if (signal.aborted || outcome === null) return;
      if (!outcome.state && this.#backoff) {
        await this.#retryLater(outcome, signal);
      } else if (outcome.state) {
        this.#finish(outcome.state, outcome);
      } else {
        this.#finish(outcome.reason === "finished" ? "ended" : "error", outcome);
      }
    }
  }

  /** @param {any} outcome of an attempt */
  async #retryLater({ reason, status, cause, after }, signal) {
    const delay = this.#nextDelay(after);
    this.#to("reconnecting", { reason, status, delay });
    if (signal.aborted) return;
    this.#complain(new StreamError(reason, { status, cause, url: this.#url }));
    if (!signal.aborted) await this.#pause(delay, signal, after === undefined);
    if (!signal.aborted) this.#to("reconnecting", { reason, status, delay: 0 });
  }

  /** Milliseconds until the next attempt: the base for `threshold` failures in a row, then more and more. */
  #nextDelay(after = 0) {
    const { threshold, baseDelay, factor, maxDelay, jitter } = this.#backoff;
    this.#failures += 1;
    const base = this.#retry ?? baseDelay;
    const grown = base * factor ** Math.max(0, this.#failures - threshold);
    const delay = Math.max(after, Math.min(grown, Math.max(maxDelay, base)));
    return Math.min(Math.round(delay + Math.random() * jitter), LONGEST_TIMER);
  }

  async #pause(delay, signal, mayHurry) {
    /** @type {any} */
    let over;
    let timer;
    await new Promise((resolve) => {
      over = resolve;
      timer = setTimeout(over, delay);
      if (mayHurry) this.#hurry = over;
      signal.addEventListener("abort", over);
    });
    if (this.#hurry === over) this.#hurry = null; // after reopen() it is that of another pause
    signal.removeEventListener("abort", over);
    clearTimeout(timer);
  }

  async #attempt(signal) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop);
    let silent = false;
    this.#silence = () => {
      silent = true;
      stop();
    };
    const unwatch = this.#watch();
    let opened = null;
    try {
      const headers = await inTime(attempt.signal, this.#headers()).catch((cause) => ({ cause }));
      if ("cause" in headers) return { reason: "headers", cause: headers.cause };
      if (this.#share !== null && said(headers) !== this.#own) this.#goAlone(); // others would get what these headers are given
      const response = await this.#answer(headers, attempt.signal);
      const verdict = "reason" in response ? response : judged(response);
      const tag = verdict ? null : response.headers.get(SESSION);
      if (this.#unsaid && (!verdict || verdict.state)) {
        comes(this.#unsaid, tag);
        this.#unsaid = null;
      }
      if (verdict) return verdict;
      attempt.signal.throwIfAborted();
      if (this.#tag !== null && tag !== this.#tag) {
        if (tag !== null && accountOf(tag) !== accountOf(this.#tag)) return { state: "error", reason: "session_changed" };
        this.#leave(); // this one is for this tab alone
      }
      opened = Date.now();
      if (this.state === "open") this.#share?.tell(); // from a leader that is no more
      else this.#opened(response.status);
      attempt.signal.throwIfAborted();
      return await this.#read(response.body.getReader(), attempt.signal);
    } catch (cause) {
      if (cause instanceof TooLarge) return { state: "error", reason: "too_large", cause };
      return silent ? { reason: "silence" } : { reason: "network", cause };
    } finally {
      if (opened !== null && Date.now() - opened >= HEALTHY_MS) this.#failures = 0;
      unwatch();
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  #opened(status) {
    this.#to("open", { reason: "connected", status, attempt: 0 });
    if (this.state === "open") this.dispatchEvent(new Event("open"));
  }

  /** The response to an address that is good for this attempt, or how the attempt ends where there is none. */
  async #answer(headers, signal, head = false, again = false) {
    const given = this.#fresh && !again;
    const failed = await this.#renew(signal);
    if (failed !== null) return failed;
    this.#fresh = false;
    const response = await this.#fetch(head ? this.#url : this.#resuming(headers), this.#request(headers, signal, head ? "HEAD" : undefined));
    if (response.status !== 401 || !given || this.#options.renew === undefined) {
      this.#fresh = head && response.ok; // it was not opened yet
      return response;
    }
    await response.body?.cancel(); // it may have become too old before it was used
    return (await this.#renew(signal)) ?? this.#answer(headers, signal, head, true);
  }

  /** Get a new address where the present one was used; return how the attempt ends where there is none. */
  async #renew(signal) {
    const { renew } = this.#options;
    if (renew === undefined || this.#fresh) return null;
    try {
      const from = await (typeof renew === "function" ? inTime(signal, renew({ url: this.#url, lastEventId: this.#lastEventId })) : this.#fetched(renew, signal));
      if (typeof from === "object" && "reason" in from) return from;
      this.#url = new URL(from, this.#url).href;
      this.#fresh = true;
      return null;
    } catch (cause) {
      return { reason: "renew", cause };
    }
  }

  /** The address that the page's own endpoint gives as {"url": "…"}, or how the attempt ends. */
  async #fetched(endpoint, signal) {
    const headers = { Accept: "application/json" };
    const credentials = this.#credentials ?? "same-origin";
    const response = await this.#fetch(resolved(endpoint, { subpath: "", query: undefined }), { headers, credentials, cache: "no-store", signal });
    if (!response.ok) return { ...judged(response), ...(response.status >= 500 && { reason: "renew" }) };
    if (response.redirected && !response.headers.get("Content-Type")?.includes("json")) return { state: "error", reason: "unauthorized" };
    const { url } = await response.json();
    if (typeof url !== "string") throw new TypeError('renew: the endpoint answers with JSON, {"url": "…"}');
    return url;
  }

  /** The headers of the page's own, made anew. */
  async #headers() {
    const { headers: given, body } = this.#options;
    const headers = new Headers(typeof given === "function" ? await given() : (given ?? {}));
    if (!headers.has("Accept")) headers.set("Accept", "text/event-stream");
    if (isPlain(body) && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
    return headers;
  }

  /** Put the last id into these headers, or for another origin into the address that is returned: there a header needs a preflight. */
  #resuming(headers) {
    const address = new URL(this.#url);
    if (this.#lastEventId === "") return address.href;
    if (!globalThis.location || address.origin === globalThis.location.origin) headers.set("Last-Event-ID", asHeader(this.#lastEventId));
    else address.searchParams.set(LAST_ID, this.#lastEventId);
    return address.href;
  }

  #request(headers, signal, method = this.#options.method) {
    const body = method === "HEAD" ? undefined : this.#options.body;
    const credentials = this.#credentials ?? "same-origin";
    return { method, headers, credentials, cache: "no-store", signal, body: isPlain(body) ? JSON.stringify(body) : body };
  }

  get #fetch() {
    return this.#options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  get #credentials() {
    return this.#options.credentials ?? (this.#options.withCredentials ? "include" : undefined);
  }

  async #read(reader, signal) {
    const parser = new Parser(this.#lastEventId);
    this.#heartbeat = null; // each connection says it anew
    this.#look?.();
    for (;;) {
      this.#heard = Date.now();
      const { done, value } = await reader.read();
      signal.throwIfAborted(); // what was read before is not taken back by the abort
      if (done) return { reason: "finished" }; // a body that is broken off is rejected instead: "network"
      for (const event of parser.feed(value)) {
        this.#heed(parser);
        const outcome = this.#take(event);
        this.#share?.told(event);
        if (outcome !== null) return outcome;
        if (this.#crowded()) {
          this.#share?.stall();
          await this.#room(signal);
        }
        signal.throwIfAborted();
      }
      this.#heed(parser);
      this.#lastEventId = parser.lastEventId;
    }
  }

  #heed({ retry, heartbeat }) {
    if (retry !== null) this.#retry = retry;
    if (heartbeat === null || heartbeat === this.#heartbeat) return;
    this.#heartbeat = heartbeat;
    this.#look?.();
    this.#share?.tell();
  }

  // Sharing it

  /** Ask the server who this tab is, and join the tabs that are the same; null where that is done. Otherwise it is an attempt. */
  async #knock(signal) {
    const found = await this.#ask(signal);
    const { share } = this.#options;
    const name = share === true ? `${this.#credentials ?? ""} ${unsigned(this.#url)}` : share;
    const group = found?.tag && (await digested(JSON.stringify([name, found.tag, found.own])));
    if (signal.aborted) return null;
    const before = this.#tag;
    if (before === null && found) comes(name, found.tag);
    else if (before === null) this.#unsaid = name;
    if (!group) return this.#attempt(signal);
    if (before !== null && accountOf(before) !== accountOf(found.tag)) return { state: "error", reason: "session_changed" };
    this.#tag = found.tag;
    this.#own = found.own;
    this.#driver = null;
    this.#share = new Share(name, group, this.#host());
    this.#share.join(found.tag);
    return null;
  }

  /** Who this tab is to the server by now: {tag, own}, by its cookies and its headers, through the guards; the tag is null for who is
      refused. Null where there is no answer. */
  async #ask(signal) {
    const patience = this.#patience;
    const within = patience > 0 ? AbortSignal.any([signal, AbortSignal.timeout(patience)]) : signal;
    try {
      const headers = await inTime(within, this.#headers());
      const own = said(headers);
      const { ok, state, status, headers: told } = await this.#answer(headers, within, true);
      if (status ? status >= 500 || FAULTS.has(status) : !state) return null; // a fault says nothing of who this is
      return { tag: ok ? told.get(SESSION) : null, own };
    } catch {
      return null;
    }
  }

  /** Another tab is somebody else: the cookies of this browser have changed, maybe under this tab too. */
  async #doubt() {
    const share = this.#share;
    if (this.#doubting || share === null) return;
    this.#doubting = true;
    const found = await this.#ask(share.signal);
    this.#doubting = false;
    if (share !== this.#share || found?.tag === this.#tag) return;
    this.#park();
    this.#leave();
    this.#drive(); // as whoever it is by now
  }

  #leave() {
    this.#share?.leave();
    this.#share = null;
  }

  #goAlone() {
    this.#shares = false;
    this.#leave();
  }

  #host() {
    return {
      silence: () => this.#patience,
      id: () => this.#lastEventId,
      about: () => ({ ...this.#about, retry: this.#retry, heartbeat: this.#heartbeat, received: this.#received > 0 }),
      take: (event, retry) => {
        this.#retry = retry ?? this.#retry;
        return this.#take(event);
      },
      adopt: (about) => this.#share && this.#adopt(about), // not where a listener has closed the stream, or opened it anew
      crowded: () => this.#crowded(),
      room: (signal) => this.#room(signal),
      doubt: () => this.#doubt(),
      hasten: () => this.#hasten(),
      drive: () => this.#drive(),
      park: () => this.#park(),
      alone: () => {
        this.#goAlone();
        this.#drive();
      },
    };
  }

  // The watchdog

  /** Milliseconds of silence after which the connection is dead; 0 for never. */
  get #patience() {
    if (this.#options.watchdog !== undefined) return this.#options.watchdog;
    if (this.#heartbeat === null) return WATCHDOG_MS;
    return this.#heartbeat && Math.min(Math.max(HEARTBEATS * 1000 * this.#heartbeat, SHORTEST_WATCHDOG_MS), LONGEST_TIMER);
  }

  #watch() {
    this.#heard = Date.now();
    let timer;
    const look = () => {
      clearTimeout(timer);
      if (this.#isSilent()) return void this.#silence();
      const patience = this.#patience;
      if (patience > 0) timer = setTimeout(look, Math.max(1, this.#heard + patience - Date.now()));
    };
    this.#look = look;
    look();
    return () => {
      clearTimeout(timer);
      if (this.#look === look) this.#silence = this.#look = null; // after reopen() they are those of the next attempt
    };
  }

  #isSilent() {
    if (this.#roomless.length > 0) this.#heard = Date.now(); // it is this side that does not read
    const patience = this.#patience;
    return patience > 0 && this.#silence !== null && Date.now() - this.#heard >= patience;
  }

  // Events

  /** Give an event to everybody; return how the stream goes on where it says so, otherwise null. */
  #take(event) {
    const { type, data, lastEventId } = event;
    this.#lastEventId = lastEventId;
    this.#received += 1;
    const control = type.startsWith("sse.");
    if (!control) this.#failures = 0;
    const message = new StreamMessage(type, { data, lastEventId, origin: new URL(this.#url).origin });
    for (const iteration of this.#iterations) iteration.push(message);
    if (type !== "statechange" && type !== "*") this.dispatchEvent(message);
    for (const [listener, once] of this.#anything) {
      if (once) this.#anything.delete(listener);
      try {
        if (typeof listener === "function") listener.call(this, message);
        else listener.handleEvent(message);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
    return control ? this.#told(type, data) : null;
  }

  #told(type, data) {
    const over = this.#lastEventId.startsWith(END_ID);
    const reason = reasonIn(data) ?? type;
    const after = this.#retry ?? 0;
    if (type === "sse.end") return over ? { state: REVOCATIONS.has(reason) ? "error" : "ended", reason } : { reason, after };
    if (type === "sse.error") return over ? { state: "error", reason } : { reason, after };
    return type === "sse.overloaded" ? { reason: "overloaded", after } : null;
  }

  #adopt({ state, reason, status, attempt, delay, retry, heartbeat = null }) {
    this.#retry = retry;
    this.#heartbeat = heartbeat;
    if (state === "ended" || state === "error") this.#finish(state, { reason, status });
    else if (state !== this.state || reason !== this.reason || delay !== this.delay) {
      this.#follow(state, { reason, status, attempt, delay });
    }
  }

  #follow(state, about) {
    const previous = this.state;
    this.#to(state, about);
    if (this.state !== state) return; // a listener has closed the stream, or opened it anew
    if (state === "open" && previous !== "open") this.dispatchEvent(new Event("open"));
    if (state === "reconnecting" && about.delay > 0) this.#complain(new StreamError(about.reason, { ...about, url: this.#url }));
  }

  #crowded() {
    for (const iteration of this.#iterations) if (iteration.size >= this.#options.buffer) return true;
    return false;
  }

  async #room(signal) {
    while (this.#crowded() && !signal.aborted) await new Promise((resolve) => this.#roomless.push(resolve));
    this.#heard = Date.now();
  }

  #loosen() {
    for (const resolve of this.#roomless.splice(0)) resolve();
  }

  #handle(name) {
    const handlers = this.#handlers;
    Object.defineProperty(this, `on${name}`, {
      get: () => handlers.get(name) ?? null,
      set: (handler) => {
        const first = !handlers.has(name);
        if (typeof handler === "function") handlers.set(name, handler);
        else handlers.delete(name);
        if (first && handlers.has(name)) this.addEventListener(name, (event) => handlers.get(name)?.call(this, event));
      },
    });
  }
}

for (const [name, value] of Object.entries(STATES)) {
  for (const target of [EventStream, EventStream.prototype]) Object.defineProperty(target, name, { value, enumerable: true });
}

/** What one `for await` reads from. */
class Iteration {
  #queue = [];
  #first = 0; // of those in the queue that were not taken yet
  #waiting = [];
  #over = false;
  #error = null;
  #taken;
  #left;

  constructor(taken, left) {
    this.#taken = taken;
    this.#left = left;
  }

  get size() {
    return this.#queue.length - this.#first;
  }

  push(event) {
    if (this.#waiting.length > 0) this.#waiting.shift().resolve({ done: false, value: event });
    else this.#queue.push(event);
  }

  end(error) {
    this.#over = true;
    this.#error = error;
    for (const { resolve, reject } of this.#waiting.splice(0)) this.#last(resolve, reject);
  }

  #last(resolve, reject) {
    const error = this.#error;
    this.#error = null;
    if (error === null) resolve({ done: true, value: undefined });
    else reject(error);
  }

  next() {
    return new Promise((resolve, reject) => {
      if (this.size > 0) resolve({ done: false, value: this.#shift() });
      else if (this.#over) this.#last(resolve, reject);
      else this.#waiting.push({ resolve, reject });
      this.#taken();
    });
  }

  /* shift() of an array moves all that follows, where that is much. */
  #shift() {
    const event = this.#queue[this.#first];
    this.#queue[this.#first] = undefined;
    this.#first += 1;
    if (this.#first * 2 >= this.#queue.length) {
      this.#queue.splice(0, this.#first);
      this.#first = 0;
    }
    return event;
  }

  async return(value) {
    this.#queue.length = this.#first = 0;
    this.#left();
    this.end(null);
    return { done: true, value };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

/* One connection for the tabs of an origin that are the same to the server: each has asked it with its own cookies and headers, and a
group's name is made of the answer. So nobody gets what another session was given. A tab that comes says at the door who it is; those
who are not the same ask again. The tab that holds the lock leads: it has the connection, and posts each event with the id before it. A tab takes an event only where that id is its own last one. One that is out of step (it joined late, was frozen, reads
too slowly) asks the server on a connection of its own, one tab at a time, until it meets the leader; so nothing is lost or doubled.
Whatever is posted may be late, missing or from a leader that is no more: only ids are believed. */
class Share {
  leads = false;
  #name;
  #turn;
  #host;
  #door;
  #channel;
  #left = new AbortController();
  #request = null; // aborts the pending request for the lock
  #resign = () => {};
  #rides = false; // in step, without a connection of its own
  #told; // the id of the last event that this tab has posted as leader
  #leaderId = null;
  #held = [];
  #heard = Date.now();
  #asked = false;
  #behind = false; // out of step, and something is done about it
  #about = null; // what the leader has said of its state
  #stalled = null;
  #watch = null;
  #met = () => {};

  constructor(name, group, host) {
    this.#door = doorOf(name);
    this.#name = `django-agent-sse ${group}`;
    this.#turn = `django-agent-sse catching up ${group}`;
    this.#host = host;
  }

  /** Aborts when this tab leaves. */
  get signal() {
    return this.#left.signal;
  }

  join(tag) {
    const door = new BroadcastChannel(this.#door);
    door.onmessage = ({ data }) => data !== tag && !this.signal.aborted && this.#host.doubt();
    this.signal.addEventListener("abort", () => door.close());
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#queue(false);
    this.#post({ ask: true });
    this.#asked = true;
    this.#listen(ANSWER_MS);
  }

  leave() {
    this.#left.abort();
    this.#request?.abort();
    this.#resign();
    this.#met();
    clearTimeout(this.#watch);
    clearTimeout(this.#stalled);
    this.#channel.close();
    this.leads = false;
  }

  /** The leader's state has changed. */
  tell(change = {}) {
    if (this.leads) this.#post({ about: { ...this.#host.about(), ...change }, id: this.#host.id() });
  }

  /** An event has come on this tab's own connection. */
  told(event) {
    if (this.leads) this.#post({ event, before: this.#told, retry: this.#host.about().retry });
    else this.#meet();
    this.#told = event.lastEventId;
  }

  #post(message) {
    if (!this.#left.signal.aborted) this.#channel.postMessage(message);
  }

  async #queue(steal) {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    const lead = () => {
      if (request.signal.aborted) return undefined;
      this.#lead();
      return new Promise((resolve) => {
        this.#resign = () => resolve(undefined);
      });
    };
    const failed = await navigator.locks.request(this.#name, steal ? { steal } : { signal: request.signal }, lead).catch((error) => error);
    if (request.signal.aborted || this.#left.signal.aborted) return;
    if (failed && failed.name !== "AbortError") return void this.#host.alone(); // locks are there, but not for this document
    this.leads = false; // another tab has taken the lock, since this one did not answer; or this one has given it up
    this.#heard = Date.now();
    this.#asked = false;
    this.#listen(this.#host.silence());
    this.#host.park();
    this.#fallBehind();
    this.#queue(false);
  }

  #lead() {
    this.leads = true;
    this.#rides = false;
    clearTimeout(this.#watch);
    this.#told = this.#host.id();
    this.#held.length = 0;
    this.#met();
    this.#host.drive();
    this.tell();
  }

  #hear(message) {
    if (this.#left.signal.aborted) return;
    if (message.ask) {
      if (message.hasten && this.leads) this.#host.hasten();
      return this.tell();
    }
    if (this.leads) return; // what the leader before this one has posted
    this.#heard = Date.now();
    this.#asked = false;
    this.#listen(this.#host.silence());
    if (message.event) this.#event(message);
    else this.#state(message);
  }

  #event(posted) {
    this.#leaderId = posted.event.lastEventId;
    this.#follow(posted);
  }

  /** Take an event that was posted where it follows this tab's last one; two leaders may have posted the same. */
  #follow(posted) {
    const { event, before } = posted;
    if (this.#rides && before === this.#host.id()) return this.#ride(posted);
    if (this.#rides && event.lastEventId === this.#host.id()) return;
    this.#held.push(posted);
    if (this.#held.length > HELD) this.#held.shift();
    if (!this.#meet()) this.#fallBehind();
  }

  #ride({ event, retry }) {
    const outcome = this.#host.take(event, retry);
    if (outcome?.state) return this.#host.adopt({ status: null, ...outcome });
    if (this.#host.crowded()) this.#fallBehind();
    return undefined;
  }

  #state({ about, id }) {
    this.#leaderId = id;
    if (about.state === "error") return this.#host.adopt(about);
    if (this.#host.id() === "" && id === "" && about.received && !this.#rides) {
      this.#host.take({ type: "sse.gap", data: '{"reason":"shared","asked":null,"missed":null}', lastEventId: "" });
    }
    this.#about = about;
    if (this.#meet() || this.#rides) this.#host.adopt(about);
    else this.#fallBehind();
    return undefined;
  }

  /** Go over to the leader's events where they follow this tab's last one. */
  #meet() {
    const id = this.#host.id();
    if (this.leads || this.#left.signal.aborted || this.#about === null || this.#host.crowded()) return false;
    const place = this.#held.findIndex((held) => held.before === id);
    if (place < 0 && this.#leaderId !== id) return false;
    const rest = place < 0 ? [] : this.#held.slice(place);
    this.#held.length = 0;
    this.#rides = true;
    this.#host.park();
    this.#met();
    const over = this.#about.state === "ended";
    if (!over) this.#host.adopt(this.#about);
    for (const held of rest) {
      if (this.#left.signal.aborted) return true;
      this.#follow(held);
    }
    if (over && this.#rides) this.#host.adopt(this.#about);
    return true;
  }

  /** Be out of step, and do something about it: wait for the leader, then for room, then for this tab's turn to ask the server. */
  async #fallBehind() {
    this.#rides = false;
    if (this.#behind) return;
    this.#behind = true;
    const { signal } = this.#left;
    while (!this.#rides && !this.leads && !signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
      await this.#host.room(signal);
      await navigator.locks.request(this.#turn, { signal }, () => this.#catchUp()).catch(() => {});
    }
    this.#behind = false;
  }

  #catchUp() {
    if (this.#left.signal.aborted || this.leads || this.#rides || this.#meet()) return undefined;
    this.#host.drive();
    return new Promise((resolve) => {
      this.#met = () => resolve(undefined);
      setTimeout(resolve, TURN_MS);
    });
  }

  /** Reading pauses. Where that lasts, others need not wait: one of them leads, or catches up. */
  stall() {
    clearTimeout(this.#stalled);
    this.#stalled = setTimeout(async () => {
      const { pending } = await navigator.locks.query();
      if (this.#left.signal.aborted || this.#rides || !this.#host.crowded()) return;
      if (!pending.some(({ name }) => name === this.#name || name === this.#turn)) return void this.stall();
      this.#host.park();
      if (this.leads) this.#resign();
      else this.#met();
    }, STALL_MS);
  }

  /** Somebody looks at this tab: its leader, which may be hidden, need not wait; where it does not answer, this one leads. */
  hasten() {
    if (this.leads || !this.#rides) return;
    this.#asked = true;
    this.#post({ ask: true, hasten: true });
    this.#listen(ANSWER_MS + Math.random() * 1000); // "online" comes to all at once
  }

  /** Ask for the leader after so long a silence, and take its place where it does not answer. */
  #listen(silence) {
    clearTimeout(this.#watch);
    if (!(silence > 0) || this.#left.signal.aborted) return;
    this.#watch = setTimeout(() => {
      if (this.leads) return;
      if (this.#asked && Date.now() - this.#heard >= ANSWER_MS) return this.#queue(true);
      this.#asked = true;
      this.#post({ ask: true });
      this.#listen(ANSWER_MS + Math.random() * 1000);
    }, silence);
  }
}

/** The options with their defaults; TypeError where one does not exist or cannot be. */
function checked(given) {
  const options = filled(DEFAULTS, given);
  const { body, renew, share, watchdog } = options;
  if (!["undefined", "string", "function"].includes(typeof renew) && !(renew instanceof URL)) {
    throw new TypeError("renew must be the address of an endpoint, or a function");
  }
  if (watchdog !== undefined && !(watchdog >= 0)) throw new TypeError(`watchdog must be a number from 0, not ${watchdog}`);
  options.method = (options.method ?? (body === undefined ? "GET" : "POST")).toUpperCase();
  if (share && options.method !== "GET") throw new TypeError("share is for GET only");
  if (body instanceof globalThis.ReadableStream) throw new TypeError("body cannot be a ReadableStream: it could be sent once only");
  if (!(options.buffer >= 1)) throw new TypeError(`buffer must be a number from 1, not ${options.buffer}`);
  return options;
}

function filled(defaults, given, where = "") {
  const all = { ...defaults };
  for (const [name, value] of Object.entries(given)) {
    if (!(name in defaults)) throw new TypeError(`no option ${where}${name}; there are ${Object.keys(defaults).join(", ")}`);
    const number = typeof defaults[name] === "number";
    if (number && value !== undefined && !(value >= 0)) throw new TypeError(`${where}${name} must be a number from 0, not ${value}`);
    if (value !== undefined) all[name] = value;
  }
  return all;
}

/** Null where the response is an event stream to be read, otherwise how to go on. */
function judged(response) {
  const { status } = response;
  const type = (response.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  if (status === 200 && type === "text/event-stream" && response.body) return null;
  if (status === 204) return { state: "ended", reason: "no_content", status };
  if (status === 200) return { state: "error", reason: "content_type", status };
  if (status < 500 && !FAULTS.has(status)) return { state: "error", reason: REFUSALS[status] ?? "status", status };
  return { reason: status === 503 || status === 429 ? "overloaded" : "status", status, after: retryAfter(response) };
}

/** `Retry-After` in milliseconds: seconds or a date. */
function retryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (value === null) return undefined;
  const wait = /^\s*\d+\s*$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.min(Math.max(0, wait), LONGEST_RETRY) : undefined;
}

function resolved(url, { subpath, query }) {
  const whole = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (subpath) whole.pathname = `${withoutSlashes(whole.pathname)}/${subpath.replace(/^\/+/, "")}`;
  const pairs = query && (Symbol.iterator in query ? [...query] : Object.entries(query));
  for (const [name, value] of pairs ?? []) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) whole.searchParams.append(name, one);
  }
  return whole.href;
}

/** An address without what lets its reader in, for errors and names. */
function unsigned(url) {
  if (!url.includes(SIGNATURE)) return url;
  const whole = new URL(url);
  whole.searchParams.delete(SIGNATURE);
  return whole.href;
}

function withoutSlashes(path) {
  let end = path.length;
  while (path[end - 1] === "/") end -= 1;
  return path.slice(0, end);
}

function isPlain(body) {
  if (body === null || typeof body !== "object") return false;
  return [Object.prototype, Array.prototype, null].includes(Object.getPrototypeOf(body));
}

/** An id as its UTF-8 bytes: header values are byte strings, and an EventSource sends UTF-8. */
function asHeader(id) {
  return Array.from(new TextEncoder().encode(id), (byte) => String.fromCharCode(byte)).join("");
}

/** What a function of the page's gives; rejected where the attempt is over before. */
function inTime(signal, given) {
  const over = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  return Promise.race([given, over]);
}

/** Headers as one text. */
function said(headers) {
  return JSON.stringify([...headers]);
}

function doorOf(name) {
  return `django-agent-sse door ${name}`;
}

/** Say at the door who comes. Who only asks again says nothing: others would, in turn. */
function comes(name, tag) {
  const door = new BroadcastChannel(doorOf(name));
  door.postMessage(tag);
  door.close();
}

function accountOf(tag) {
  return tag.split(".")[0];
}

async function digested(text) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function withoutEnd(id) {
  return id.startsWith(END_ID) ? id.slice(END_ID.length) : id;
}

function parsed({ type, data }) {
  try {
    return JSON.parse(data);
  } catch (cause) {
    const start = data.length > SHOWN ? `${data.slice(0, SHOWN)}…` : data;
    throw new SyntaxError(`the data of the event "${type}" is not JSON: ${JSON.stringify(start)}; use event.data`, { cause });
  }
}

function reasonIn(data) {
  try {
    const { reason } = JSON.parse(data);
    return typeof reason === "string" ? reason : null;
  } catch {
    return null;
  }
}
