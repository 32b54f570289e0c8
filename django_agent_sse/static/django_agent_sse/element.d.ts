import type { EventStream, EventStreamOptions, StateChangeEvent, State, StreamMessage } from "./client.js";

/** The module of the client, at its hashed address where there is one. */
export const client: Promise<typeof import("./client.js")>;

/** `<event-stream src="…" events="…" last-event-id="…" renew="…" share with-credentials>`. */
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
    "sse:message": CustomEvent<StreamMessage<any>>;
    [name: `sse:${string}`]: CustomEvent<StreamMessage<any>>;
    "sse.end": CustomEvent<StreamMessage<any>>;
    "sse.error": CustomEvent<StreamMessage<any>>;
    "sse.gap": CustomEvent<StreamMessage<any>>;
    "sse.position": CustomEvent<StreamMessage<any>>;
    "sse.overloaded": CustomEvent<StreamMessage<any>>;
    "sse.statechange": CustomEvent<StateChangeEvent>;
  }
}
