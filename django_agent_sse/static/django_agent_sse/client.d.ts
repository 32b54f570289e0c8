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
  /** Whether and when to come back. Default true for GET, false for other methods, which are not sent twice. */
  reconnect?: boolean | Reconnect;
  /** Share one connection with the tabs of this origin that are of the same session: those with the same address, or with this name.
      Default false. */
  share?: boolean | string;
  /** Closes the stream for good when it aborts. */
  signal?: AbortSignal;
  /** Joined to the path of the address. */
  subpath?: string;
  /** Come back after so many milliseconds without a byte, heartbeats included; 0 for never. Default 45,000. */
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

/** The control events of the server. Their data is JSON. */
export type ControlEvent = "sse.end" | "sse.error" | "sse.gap" | "sse.position" | "sse.overloaded";

export interface EventStreamEventMap {
  open: Event;
  error: StreamErrorEvent;
  statechange: StateChangeEvent;
  /** Every event of the server, whatever its name. */
  "*": MessageEvent<string>;
}

type Handler<E> = ((this: EventStream, event: E) => unknown) | { handleEvent(event: E): unknown };

/** An EventSource over fetch. */
export class EventStream extends EventTarget implements AsyncIterable<MessageEvent<string>> {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;

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

  onopen: ((this: EventStream, event: Event) => unknown) | null;
  onmessage: ((this: EventStream, event: MessageEvent<string>) => unknown) | null;
  onerror: ((this: EventStream, event: StreamErrorEvent) => unknown) | null;
  onstatechange: ((this: EventStream, event: StateChangeEvent) => unknown) | null;

  /** Begin, where `autoConnect` is off. */
  connect(): void;
  /** Stop. The last id stays. */
  close(): void;
  /** Connect anew, now: after the last id, or from the beginning where the stream had ended. */
  reopen(options?: { lastEventId?: string }): void;

  addEventListener<K extends keyof EventStreamEventMap>(
    name: K,
    listener: Handler<EventStreamEventMap[K]>,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(name: string, listener: Handler<MessageEvent<string>>, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<K extends keyof EventStreamEventMap>(
    name: K,
    listener: Handler<EventStreamEventMap[K]>,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(name: string, listener: Handler<MessageEvent<string>>, options?: boolean | EventListenerOptions): void;

  /** Every event of the server from now on, until the end; throws a StreamError where the stream is refused. */
  [Symbol.asyncIterator](): AsyncIterableIterator<MessageEvent<string>>;
}

/** Reads an event stream by the algorithm of the HTML standard; throws a RangeError for an event of more than 2^27 characters. */
export class Parser {
  constructor(lastEventId?: string);
  lastEventId: string;
  retry: number | null;
  feed(bytes: Uint8Array): Generator<{ type: string; data: string; lastEventId: string }, void, void>;
}
