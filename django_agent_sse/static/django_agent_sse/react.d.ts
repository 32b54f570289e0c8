import type { EventStream, EventStreamOptions, Reason, State, StreamError, StreamMessage } from "./client.js";

export interface UseEventStreamOptions<Data = any, Value = Data> extends Omit<EventStreamOptions, "autoConnect"> {
  /** Render at most once a frame, however many events come. Default true. */
  batch?: boolean;
  /** Connected or not; a URL of null is the same as false. Default true. */
  enabled?: boolean;
  /** The names of the events to take. Default: all but control events. */
  events?: readonly string[];
  /** `data` before the first event. */
  initialData?: Data;
  /** Whether events are rendered at all, or only given to `onEvent`. Default true. */
  lastEvent?: boolean;
  /** Called for every event, whether rendered or not. */
  onEvent?: (value: Value, event: StreamMessage<any>) => void;
  /** What an event's data means. Default: objects and arrays are JSON, everything else is text. */
  parse?: (event: StreamMessage<any>) => Value;
  /** Makes `data` from the `data` before and an event. Default: the last event's value. */
  reduce?: (data: Data | undefined, value: Value, event: StreamMessage<any>) => Data;
}

export interface UseEventStreamResult<Data = any> {
  readonly isConnected: boolean;
  readonly data: Data | undefined;
  readonly error: StreamError | null;
  readonly isError: boolean;
  readonly readyState: 0 | 1 | 2;
  /** The last event as it came. */
  readonly event: StreamMessage<any> | null;
  readonly lastEventId: string;
  readonly state: State;
  readonly reason: Reason;
  readonly attempt: number;
  readonly delay: number | null;
  close(): void;
  /** Forget the error. */
  reset(): void;
  reopen(options?: { lastEventId?: string }): void;
}

export type UseEventStream = <Data = any, Value = Data>(
  url: string | URL | null | undefined,
  options?: UseEventStreamOptions<Data, Value>,
) => UseEventStreamResult<Data>;

/** What is needed of React 18 or newer. */
export interface ReactHooks {
  useEffect(effect: () => void | (() => void), dependencies?: readonly unknown[]): void;
  useMemo<T>(make: () => T, dependencies: readonly unknown[]): T;
  useRef<T>(initial: T): { current: T };
  useSyncExternalStore<T>(subscribe: (changed: () => void) => () => void, snapshot: () => T, serverSnapshot?: () => T): T;
}

export function createUseEventStream(React: ReactHooks, client: { EventStream: typeof EventStream }): UseEventStream;
