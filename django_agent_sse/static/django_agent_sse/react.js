/* useEventStream for React 18 or newer, made from your React and the client: no build step, no second React.

The contract is in react.d.ts. */

const OWN = new Set(["batch", "enabled", "events", "initialData", "lastEvent", "onEvent", "parse", "reduce", "signal"]);
const UNSEEN_MS = 1000; // after which a hidden tab, which has no frames, renders what came
const SIGNATURE = /\bsse_signature=[^&#]*/; // a page that is rendered again may have another one of the same address

export function createUseEventStream(React, { EventStream }) {
  return function useEventStream(url, options = {}) {
    const latest = React.useRef(options);
    React.useEffect(() => {
      latest.current = options;
    });
    const { enabled = true, signal } = options;
    const key = url === null || url === undefined ? null : keyOf(url, options);
    const store = React.useMemo(() => new Store(EventStream, url, latest, options), [key, signal]);
    React.useEffect(() => (enabled && key !== null ? store.use() : undefined), [store, enabled, key]);
    return React.useSyncExternalStore(store.subscribe, store.snapshot, store.snapshot);
  };
}

/** What a connection is made for: where it changes, so does the connection. Functions are not in it, the latest one is called. */
function keyOf(url, options) {
  const about = { ...options };
  for (const name of [...OWN, "headers", "fetch"]) delete about[name];
  if (options.query) about.query = [...(Symbol.iterator in options.query ? options.query : Object.entries(options.query))];
  return JSON.stringify([options.renew === undefined ? String(url) : String(url).replace(SIGNATURE, ""), about]);
}

/** Objects and arrays are read as JSON; everything else stays the text that it is. */
function parsed({ data }) {
  if (!/^\s*[{[]/.test(data)) return data;
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/** One stream and what is rendered of it. The stream is open while somebody uses it. */
class Store {
  #make;
  #latest;
  #stream = null;
  #users = 0;
  #listeners = new Set();
  #frame = null;
  #timer;
  #shown;
  #next;

  /** `options` are those of the render that has made it: with another URL `latest` has those of the one before until that is over.
      @param {any} options */
  constructor(EventStream, url, latest, options) {
    const { initialData, lastEventId = "", signal } = options;
    this.#latest = latest;
    this.#make = () => this.#made(EventStream, url, signal);
    this.#shown = this.#next = {
      isConnected: false,
      data: initialData,
      event: null,
      lastEventId,
      error: null,
      isError: false,
      readyState: 2,
      state: "idle",
      reason: "new",
      attempt: 0,
      delay: null,
      close: () => this.#stream?.close(),
      reset: () => this.#put({ error: null, isError: false }),
      reopen: (options) => {
        if (this.#users) this.#stream?.reopen(options); // else nobody would close it
      },
    };
  }

  snapshot = () => this.#shown;

  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Keep the stream open until the function that this returns is called. StrictMode's second mount finds it open still. */
  use() {
    this.#users += 1;
    if (this.#stream === null) this.#stream = this.#make();
    else if (this.#stream.state === "idle" && this.#stream.reason === "closed") this.#stream.reopen();
    return () => {
      this.#users -= 1;
      queueMicrotask(() => {
        if (this.#users === 0) this.#stream.close();
      });
    };
  }

  #made(EventStream, url, signal) {
    const given = Object.fromEntries(Object.entries(this.#latest.current).filter(([name]) => !OWN.has(name)));
    const headers = () => {
      const { headers: now } = this.#latest.current;
      return typeof now === "function" ? now() : now;
    };
    const renew = typeof given.renew === "function" ? (about) => this.#latest.current.renew(about) : given.renew;
    const fetch = given.fetch && ((...asked) => (this.#latest.current.fetch ?? globalThis.fetch)(...asked));
    const stream = new EventStream(url, { ...given, fetch, headers, renew, signal, autoConnect: false });
    stream.addEventListener("statechange", ({ state, reason, attempt, delay }) => {
      const error = state === "open" || state === "ended" ? null : (stream.error ?? this.#next.error);
      const about = { state, reason, attempt, delay, readyState: stream.readyState, isConnected: state === "open" };
      this.#put({ ...about, error, isError: error !== null });
    });
    stream.addEventListener("error", ({ error }) => error && this.#put({ error, isError: true }));
    stream.addEventListener("*", (event) => this.#take(event));
    stream.connect();
    return stream;
  }

  #take(event) {
    const { batch = true, events, lastEvent = true, onEvent, parse = parsed, reduce } = this.#latest.current;
    if (events ? !events.includes(event.type) : event.type.startsWith("sse.")) return;
    const value = parse(event);
    onEvent?.(value, event);
    if (!lastEvent) return;
    const data = reduce ? reduce(this.#next.data, value, event) : value;
    this.#put({ data, event, lastEventId: event.lastEventId }, batch);
  }

  #put(change, later = false) {
    this.#next = { ...this.#next, ...change };
    if (!later) this.#show();
    else if (this.#frame === null) {
      this.#frame = requestAnimationFrame(() => this.#show());
      this.#timer = setTimeout(() => this.#show(), UNSEEN_MS);
    }
  }

  #show() {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = null;
    this.#shown = this.#next;
    for (const listener of this.#listeners) listener();
  }
}
