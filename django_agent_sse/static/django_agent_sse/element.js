/* <event-stream src="…">: a stream whose events are DOM events. The contract is in element.d.ts. */

/** @type {HTMLElement | null | undefined} */
const tag = globalThis.document?.querySelector("script[data-agent-sse][data-client]");
const address = tag?.dataset.client;

/** The module of the client: at the address on the tag of `{% sse_script %}`, which may be a hashed one, or else beside this file,
    where a bundler finds it too. */
export const client = address ? import(/* webpackIgnore: true */ /* @vite-ignore */ new URL(address, document.baseURI).href) : import("./client.js");

/** Where there is no document, as on a server that renders pages, there is nothing to extend.
    @type {any} */
const Nothing = class {};
const Base = globalThis.HTMLElement ?? Nothing;
const SIGNATURE = /\bsse_signature=[^&#]*/;

export class EventStreamElement extends Base {
  static observedAttributes = ["src"];

  /** Options of the client that attributes cannot say, such as `headers`. Counts from the next connection on. */
  options = {};
  #stream = null;
  #turn = 0;

  /** The EventStream, or null where there is none. */
  get stream() {
    return this.#stream;
  }

  get state() {
    return this.#stream?.state ?? "idle";
  }

  get src() {
    return this.getAttribute("src") ?? "";
  }

  set src(address) {
    this.setAttribute("src", address);
  }

  close() {
    this.#stream?.close();
  }

  reopen(options) {
    this.#stream?.reopen(options);
  }

  connectedCallback() {
    this.#open(this.#stream?.lastEventId);
  }

  disconnectedCallback() {
    this.#turn += 1;
    this.close();
  }

  attributeChangedCallback(name, before, now) {
    if (before === null || before === now || !this.isConnected || (name === "src" && this.#renews(before, now))) return;
    this.close();
    this.#stream = null;
    this.#open();
  }

  /** Whether this is the same address with another signature, as in a page that is rendered again: the stream gets its own. */
  #renews(before, now) {
    return (this.hasAttribute("renew") || this.options.renew) && now?.replace(SIGNATURE, "") === before.replace(SIGNATURE, "");
  }

  async #open(lastEventId) {
    const turn = (this.#turn += 1);
    const { EventStream } = await client;
    if (turn !== this.#turn) return; // taken out, or given another address, while the client was loading
    if (!this.hasAttribute("src")) return void this.#show({ state: "idle", reason: "new" });
    const stream = new EventStream(this.src, {
      withCredentials: this.hasAttribute("with-credentials"),
      share: this.getAttribute("share") || this.hasAttribute("share"),
      renew: this.getAttribute("renew") ?? undefined,
      ...this.options,
      lastEventId: lastEventId || this.getAttribute("last-event-id") || this.options.lastEventId,
      autoConnect: false,
    });
    this.#stream = stream;
    stream.addEventListener("statechange", (event) => this.#tell(stream, "sse.statechange", event));
    stream.addEventListener("*", (event) => this.#tell(stream, event.type.startsWith("sse.") ? event.type : `sse:${event.type}`, event));
    stream.connect();
  }

  #tell(stream, name, event) {
    if (stream !== this.#stream) return;
    if (name === "sse.statechange") this.#show(event);
    const wanted = this.getAttribute("events");
    if (name.startsWith("sse:") && wanted !== null && !wanted.split(/\s+/).includes(event.type)) return;
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, composed: true, detail: event }));
  }

  #show({ state, reason }) {
    this.dataset.state = state;
    this.dataset.reason = reason;
  }
}

if (globalThis.customElements && !customElements.get("event-stream")) customElements.define("event-stream", /** @type {any} */ (EventStreamElement));
