import type { EventStream, EventStreamOptions, StateChangeEvent, State } from "./client.js";

/** The module of the client, at its hashed address where there is one. */
export const client: Promise<typeof import("./client.js")>;

/** `<event-stream src="…" events="…" last-event-id="…" share with-credentials>`. */
export class EventStreamElement extends HTMLElement {
  src: string;
  /** Options of the client that attributes cannot say, such as `headers`. Counts from the next connection on. */
  options: EventStreamOptions;
  readonly stream: EventStream | null;
  readonly state: State;
  close(): void;
  reopen(options?: { lastEventId?: string }): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "event-stream": EventStreamElement;
  }
  interface GlobalEventHandlersEventMap {
    "sse:message": CustomEvent<MessageEvent<string>>;
    [name: `sse:${string}`]: CustomEvent<MessageEvent<string>>;
    "sse.end": CustomEvent<MessageEvent<string>>;
    "sse.error": CustomEvent<MessageEvent<string>>;
    "sse.gap": CustomEvent<MessageEvent<string>>;
    "sse.position": CustomEvent<MessageEvent<string>>;
    "sse.overloaded": CustomEvent<MessageEvent<string>>;
    "sse.statechange": CustomEvent<StateChangeEvent>;
  }
}
