/** How the connection of a log is. */
export type LogState = "connecting" | "open" | "reconnecting" | "hidden" | "ended" | "error";

/** `<sse-log src="…">`: a log as it is written. What else it has is its own. */
export class SSELog extends HTMLElement {
  /** How many lines there are, as far as known. */
  readonly count: number;
  /** The text that is held here, a line each. */
  readonly text: string;
  readonly state: LogState;
}

declare global {
  interface HTMLElementTagNameMap {
    "sse-log": SSELog;
  }
  interface GlobalEventHandlersEventMap {
    /** The connection is another by now. */
    "sse-log:state": CustomEvent<{ state: LogState }>;
    /** The log is over: its outcome in a word, what it ended with, and how many lines it has. */
    "sse-log:end": CustomEvent<{ status: string; code: number | null; lines: number }>;
  }
}
