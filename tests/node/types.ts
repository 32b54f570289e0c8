/* Uses every member of the type declarations; checked by tsc, never run. */

import * as React from "react";

import {
  EventStream,
  Parser,
  StateChangeEvent,
  StreamError,
  StreamMessage,
  type ControlEvent,
  type ControlEvents,
  type EventOf,
  type Events,
  type EventStreamEventMap,
  type EventStreamOptions,
  type Query,
  type QueryValue,
  type Reason,
  type Reconnect,
  type State,
  type StreamErrorEvent,
} from "django_agent_sse/client.js";
import { EventStreamElement, client } from "django_agent_sse/element.js";
import { SSELog, type LogState } from "django_agent_sse/log.js";
import {
  createUseEventStream,
  type ReactHooks,
  type UseEventStream,
  type UseEventStreamOptions,
  type UseEventStreamResult,
} from "django_agent_sse/react.js";

const reconnect: Required<Reconnect> = { threshold: 3, baseDelay: 500, factor: 2, maxDelay: 30_000, jitter: 250 };
const value: QueryValue = 5;
const query: Query = { since: value, tag: ["a", "b"], none: null };
const whole: Required<EventStreamOptions> = {
  autoConnect: false,
  body: { prompt: "x" },
  buffer: 16,
  credentials: "include",
  fetch,
  headers: async () => ({ Authorization: "Bearer x" }),
  lastEventId: "7",
  method: "POST",
  query,
  reconnect,
  renew: "/address/",
  share: "builds",
  signal: new AbortController().signal,
  subpath: "logs",
  watchdog: 0,
  withCredentials: true,
};
const stream = new EventStream(new URL("https://example.com/"), whole);
new EventStream("/x/", { headers: [["a", "b"]], body: "text", query: new URLSearchParams("a=1"), reconnect: false, share: true });

new EventStream("/x/", { renew: async ({ url, lastEventId }) => new URL(`?after=${lastEventId}`, url) });
// @ts-expect-error: there is no such option
new EventStream("/x/", { header: {} });
// @ts-expect-error: an address, or a function that returns one
new EventStream("/x/", { renew: { url: "/x/" } });
// @ts-expect-error: a body that can be sent once only
new EventStream("/x/", { body: new ReadableStream() });

const state: State = stream.state;
const reason: Reason = stream.reason;
const numbers: (number | null)[] = [stream.readyState, stream.status, stream.attempt, stream.delay];
const texts: string[] = [stream.url, stream.lastEventId, state, reason];
const flags: (boolean | null)[] = [stream.withCredentials, stream.leads];
const constants: [0, 1, 2][] = [EventStream, stream].map(({ CONNECTING, OPEN, CLOSED }) => [CONNECTING, OPEN, CLOSED]);
const error: StreamError | null = stream.error;

stream.onopen = (event) => event.type;
stream.onmessage = ({ data }) => data.length;
stream.onerror = ({ error: why }: StreamErrorEvent) => [why.name, why.reason, why.status, why.message, why.cause];
stream.onstatechange = ({ state: now, previous, reason: why, status, attempt, delay }) => [now, previous, why, status, attempt, delay];
stream.addEventListener("statechange", (event: StateChangeEvent) => event.state === "ended");
stream.addEventListener("error", ({ error: why }) => why.reason === "network");
stream.addEventListener("*", ({ type, lastEventId }) => [type, lastEventId], { once: true });
stream.addEventListener("tick", { handleEvent: ({ data }) => JSON.parse(data) });
const control: ControlEvent[] = ["sse.end", "sse.error", "sse.gap", "sse.position", "sse.overloaded"];
for (const name of control) stream.removeEventListener(name, ({ data }) => data);
const listener = (event: EventStreamEventMap["open"]) => event;
stream.removeEventListener("open", listener);
stream.connect();
stream.close();
stream.reopen();
stream.reopen({ lastEventId: "9" });

export async function loop(): Promise<string | undefined> {
  for await (const event of stream) return event.data;
  throw new StreamError("gone", { status: 410, url: "/x/", cause: null });
}
new StateChangeEvent({ state: "open", previous: "connecting", reason: "connected", status: 200, attempt: 0, delay: null });

// Events of which it is known what their JSON is
interface Build {
  message: { text: string };
  progress: { done: number; total: number };
}
const build = new EventStream<Build>("/builds/42/");
build.addEventListener("progress", ({ json, data }) => [json.done / json.total, data.length]);
build.addEventListener("sse.gap", ({ json }) => [json.reason, json.asked, json.missed]);
build.addEventListener("sse.end", ({ json }) => json.closed?.length);
build.addEventListener("another", ({ data }) => data.length);
build.onmessage = ({ json }) => json.text.length;
// @ts-expect-error: there is no such member in the JSON of this event
build.addEventListener("progress", ({ json }) => json.doone);
// @ts-expect-error: of an event that is not declared nothing is known
build.addEventListener("progres", ({ json }) => json.done);
// @ts-expect-error: a number is not a text
const wrong: string = new StreamMessage<number>("tick", { data: "1" }).json;
const end: ControlEvents["sse.end"] = { reason: "completed" };
const heard: EventOf<Build, "progress">[] = [];
const declared: Events = { tick: 1 };
stream.addEventListener("untyped", ({ json }) => json.whatever.it.is);

// Where an EventSource is wanted, a stream will do
const sources: EventSource[] = [stream, build];
const made: typeof EventSource = EventStream;
export const over = sources.filter((source) => source.readyState === source.CLOSED);
export const known = [wrong, end, heard, declared, made];

const log: SSELog = document.createElement("sse-log");
const logged: [number, string, LogState] = [log.count, log.text, log.state];
log.addEventListener("sse-log:state", ({ detail }) => detail.state === "open");
log.addEventListener("sse-log:end", ({ detail }) => [detail.status, detail.code, detail.lines]);

const parser = new Parser("1");
for (const { type, data, lastEventId } of parser.feed(new Uint8Array())) texts.push(type, data, lastEventId);
numbers.push(parser.retry, parser.heartbeat);
texts.push(parser.lastEventId);

const element: EventStreamElement = document.createElement("event-stream");
element.src = "/x/";
element.options = { headers: { a: "b" } };
element.close();
element.reopen({ lastEventId: "" });
element.addEventListener("sse:message", ({ detail }) => detail.data.length);
element.addEventListener("sse:line", ({ detail }) => detail.lastEventId);
element.addEventListener("sse.statechange", ({ detail }) => detail.state);
element.addEventListener("sse.end", ({ detail }) => detail.lastEventId);
const own: EventStream | null = element.stream;
const now: State = element.state;
export const loaded: Promise<typeof EventStream> = client.then((module) => module.EventStream);

interface Line {
  text: string;
}

const hooks: ReactHooks = React;
const useEventStream: UseEventStream = createUseEventStream(hooks, { EventStream });

export function Lines(): string {
  const options: UseEventStreamOptions<Line[], Line> = {
    batch: false,
    enabled: true,
    events: ["line"],
    initialData: [],
    lastEvent: true,
    onEvent: (line, event) => [line.text, event.type],
    parse: (event) => ({ text: event.data }),
    reduce: (lines = [], line, event) => (event.lastEventId ? [...lines, line] : lines),
    headers: () => undefined,
    query: { a: 1 },
    subpath: "x",
    signal: AbortSignal.timeout(1),
  };
  const result: UseEventStreamResult<Line[]> = useEventStream("/x/", options);
  const { data, event, error: why, isConnected, isError, readyState, state: at, reason: because, attempt, delay, lastEventId } = result;
  result.close();
  result.reset();
  result.reopen();
  useEventStream<number>(null);
  // @ts-expect-error: there is no such option
  useEventStream("/x/", { autoConnect: true });
  return `${data?.length}${event?.data}${why?.reason}${isConnected}${isError}${readyState}${at}${because}${attempt}${delay}${lastEventId}`;
}

export { constants, error, flags, logged, now, own };
