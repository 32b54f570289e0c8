/** How a stream is: not started or closed by the page; on its way; over; or refused. */
export type State = "idle" | "connecting" | "open" | "reconnecting" | "ended" | "error";

/** Why it is so. Reasons that the server gives in `sse.end` and `sse.error` come as they are. */
export type Reason =
  | "new"
  | "started"
  | "reopened"
  | "connected"
  | "closed"
  | "aborted"
  | "suspended"
  | "resumed"
  | "network"
  | "finished"
  | "silence"
  | "headers"
  | "renew"
  | "overloaded"
  | "status"
  | "no_content"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "gone"
  | "session_changed"
  | "too_large"
  | "content_type"
  | "completed"
  | "topic_closed"
  | "deleted"
  | "revoked"
  | "kicked"
  | "handler_error"
  | (string & {});

export type QueryValue = string | number | boolean | null | undefined;
export type Query = URLSearchParams | Iterable<[string, QueryValue]> | Record<string, QueryValue | readonly QueryValue[]>;

/** When to come back. Milliseconds. */
export interface Reconnect {
  /** So many failures in a row wait `baseDelay` only. Default 3. */
  threshold?: number;
  /** The first wait, until the server says another one with `retry`. Default 500. */
  baseDelay?: number;
  /** Each further wait is so many times longer. Default 2. */
  factor?: number;
  /** The longest wait, unless the server asks for a longer one, an hour at most. Default 30,000. */
  maxDelay?: number;
  /** Up to so much is added at random. Default 250. */
  jitter?: number;
}

export interface EventStreamOptions {
  /** Connect at once, as an EventSource does. Default true. */
  autoConnect?: boolean;
  /** The body of the request; it makes the method POST. A plain object or array is sent as JSON. */
  body?: Exclude<BodyInit, ReadableStream> | Record<string, unknown> | readonly unknown[];
  /** Events that may wait for a slow `for await` before reading pauses. Default 256. */
  buffer?: number;
  /** As for fetch. Default "same-origin". */
  credentials?: RequestCredentials;
  /** Used instead of the global fetch. */
  fetch?: typeof globalThis.fetch;
  /** Headers, or a function that makes them anew for each attempt. */
  headers?: HeadersInit | (() => HeadersInit | undefined | Promise<HeadersInit | undefined>);
  /** Begin after this id. */
  lastEventId?: string;
  /** Default "GET", or "POST" where there is a body. */
  method?: string;
  /** Added to the address; null and undefined are left out, a list gives several. */
  query?: Query;
  /** Where to get a new address before each attempt but the first, and after a 401 to that: an endpoint that answers with JSON,
      `{"url": "…"}`, or a function. For signed addresses, which are good for a short time. What it gives is used as it is. */
  renew?: string | URL | ((about: { url: string; lastEventId: string }) => string | URL | Promise<string | URL>);
  /** Whether and when to come back. Default true for GET, false for other methods, which are not sent twice. */
  reconnect?: boolean | Reconnect;
  /** Share one connection with the tabs of this origin that are of the same session: those with the same address, or with this name.
      Default false. */
  share?: boolean | string;
  /** Closes the stream for good when it aborts. */
  signal?: AbortSignal;
  /** Joined to the path of the address. */
  subpath?: string;
  /** Come back after so many milliseconds without a byte, heartbeats included; 0 for never. Default: three heartbeats of the route,
      which are 45,000 unless it says otherwise. */
  watchdog?: number;
  /** As of EventSource: the same as `credentials: "include"`. */
  withCredentials?: boolean;
}

/** Why a stream was refused (the state `error`), or why it reconnects. */
export class StreamError extends Error {
  constructor(reason: Reason, about?: { status?: number | null; url?: string; cause?: unknown });
  readonly name: "StreamError";
  readonly reason: Reason;
  /** The HTTP status, where there was an answer. */
  readonly status: number | null;
}

/** The event `statechange`. */
export class StateChangeEvent extends Event {
  constructor(about: { state: State; previous: State; reason: Reason; status: number | null; attempt: number; delay: number | null });
  readonly state: State;
  readonly previous: State;
  readonly reason: Reason;
  readonly status: number | null;
  /** Failures in a row. */
  readonly attempt: number;
  /** Milliseconds until the next attempt; 0 where that begins now, null where there is none. */
  readonly delay: number | null;
}

/** The event `error`: after a fault, before the next attempt, and after a refusal. A server's own `error` is a MessageEvent. */
export interface StreamErrorEvent extends Event {
  readonly error: StreamError;
}

/** What the data of your events is as JSON, by their names: `{ tick: { price: number }; message: string }`. */
export type Events = object;

/** An event of the server. */
export interface StreamMessage<T = unknown> extends MessageEvent<string> {
  /** The data read as JSON; a SyntaxError where it is not JSON. */
  readonly json: T;
}

export const StreamMessage: {
  new <T = unknown>(type: string, about?: MessageEventInit<string>): StreamMessage<T>;
  readonly prototype: StreamMessage;
};

/** The control events of the server, and what their data is as JSON. */
export interface ControlEvents {
  /** It is over: `closed` is what the topic was closed with. */
  "sse.end": { reason: string; closed?: string };
  "sse.error": { reason?: string; message?: string };
  /** Events were missed: how many, where that is known. */
  "sse.gap": { reason: "trimmed" | "epoch" | "unknown" | "ahead" | "fork" | "shared" | (string & {}); asked: string | null; missed: number | null };
  "sse.position": unknown;
  "sse.overloaded": { reason: string };
}

export type ControlEvent = keyof ControlEvents;

export interface EventStreamEventMap {
  open: Event;
  error: StreamErrorEvent;
  statechange: StateChangeEvent;
  /** Every event of the server, whatever its name. */
  "*": StreamMessage;
}

/** The type of the listener's event, by its name. */
export type EventOf<E, K> = K extends keyof EventStreamEventMap
  ? EventStreamEventMap[K]
  : K extends keyof E
    ? StreamMessage<E[K]>
    : K extends keyof ControlEvents
      ? StreamMessage<ControlEvents[K]>
      : StreamMessage;

/** The names that are known; any other one is a string too. */
type NameOf<E> = (keyof EventStreamEventMap | keyof ControlEvents | (keyof E & string)) | (string & {});
type Listener<T> = (this: any, event: T) => unknown;
type Handler<T> = Listener<T> | { handleEvent(event: T): unknown };

/** An EventSource over fetch. `EventStream<{ tick: Price }>` says what the JSON of its events is. */
export class EventStream<E extends Events = Record<string, any>> extends EventTarget implements AsyncIterable<StreamMessage> {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSED: 2;

  constructor(url: string | URL, options?: EventStreamOptions);

  readonly url: string;
  readonly withCredentials: boolean;
  /** 0 while it connects or reconnects, 1 while it is open, otherwise 2. */
  readonly readyState: 0 | 1 | 2;
  readonly lastEventId: string;
  readonly state: State;
  readonly reason: Reason;
  readonly status: number | null;
  readonly attempt: number;
  readonly delay: number | null;
  /** The error in the state `error`, otherwise null. */
  readonly error: StreamError | null;
  /** Whether this tab holds the shared connection; null where it has its own, or has not yet joined. */
  readonly leads: boolean | null;

  // What is read takes any event: so a stream can be given where an EventSource is wanted.
  get onopen(): Listener<any> | null;
  set onopen(listener: Listener<Event> | null);
  get onmessage(): Listener<any> | null;
  set onmessage(listener: Listener<EventOf<E, "message">> | null);
  get onerror(): Listener<any> | null;
  set onerror(listener: Listener<StreamErrorEvent> | null);
  get onstatechange(): Listener<any> | null;
  set onstatechange(listener: Listener<StateChangeEvent> | null);

  /** Begin, where `autoConnect` is off. */
  connect(): void;
  /** Stop. The last id stays. */
  close(): void;
  /** Connect anew, now: after the last id, or from the beginning where the stream had ended. */
  reopen(options?: { lastEventId?: string }): void;

  addEventListener<K extends NameOf<E>>(
    name: K,
    listener: Handler<EventOf<E, K>>,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(name: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends NameOf<E>>(
    name: K,
    listener: Handler<EventOf<E, K>>,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(name: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;

  /** Every event of the server from now on, until the end; throws a StreamError where the stream is refused. */
  [Symbol.asyncIterator](): AsyncIterableIterator<StreamMessage>;
}

/** Reads an event stream by the algorithm of the HTML standard; throws a RangeError for an event of more than 2^27 characters. */
export class Parser {
  constructor(lastEventId?: string);
  lastEventId: string;
  retry: number | null;
  /** Seconds between two heartbeats, as a comment of the server has said; 0 for none, null where it has not. */
  heartbeat: number | null;
  feed(bytes: Uint8Array): Generator<{ type: string; data: string; lastEventId: string }, void, void>;
}
