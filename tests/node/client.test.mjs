/* The client against a real server: what it sends, what it hears, and how each answer is told from the others. */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";

import { EventStream, STREAM, StreamError, StreamMessage, all, cut, ended, first, open, served, state, states, status } from "./serving.mjs";

const END = 'event: sse.end\nid: sse.end~2\ndata: {"reason":"completed"}\n\n';

// What an EventSource has

served("it is used as an EventSource is", [open("data: a\n\nevent: named\nid: 1\ndata: b\n\n")], async ({ connect, seen }) => {
  const stream = connect("/x?a=1");
  assert.equal(stream.readyState, EventStream.CONNECTING);
  const got = [];
  stream.onopen = (event) => got.push([event.type, stream.readyState]);
  stream.onmessage = ({ data, lastEventId, origin }) => got.push([data, lastEventId, origin]);
  const { data, lastEventId } = await first(stream, "named");
  assert.deepEqual([data, lastEventId], ["b", "1"]);
  assert.deepEqual(got, [["open", 1], ["a", "", new URL(stream.url).origin]]);
  stream.close();
  assert.deepEqual([stream.readyState, stream.state, stream.reason], [EventStream.CLOSED, "idle", "closed"]);
  assert.equal(stream.withCredentials, false);
  assert.equal(seen[0].headers.accept, "text/event-stream");
  assert.equal(seen[0].headers["last-event-id"], undefined);
  assert.equal(seen[0].url, "/x?a=1");
});

served("a handler can be exchanged and taken away", [open("data: a\n\n")], async ({ connect }) => {
  const stream = connect();
  assert.equal(stream.onmessage, null);
  const got = [];
  stream.onmessage = () => got.push("first");
  stream.onmessage = () => got.push("second");
  await first(stream, "message");
  assert.deepEqual(got, ["second"]);
  stream.onmessage = null;
  assert.equal(stream.onmessage, null);
});

served("events named open, error and statechange are told from the client's own", [
  open("event: open\ndata: 1\n\nevent: error\ndata: 2\n\nevent: statechange\ndata: 3\n\nevent: *\ndata: 4\n\n"),
], async ({ connect }) => {
  const stream = connect();
  const [got, changes, errors] = [all(stream), [], []];
  stream.addEventListener("statechange", (event) => changes.push(event.state));
  stream.addEventListener("error", (event) => errors.push(event.data));
  await first(stream, "*", (event) => event.type === "*");
  assert.deepEqual(got.map(([type]) => type), ["open", "error", "statechange", "*"]);
  assert.deepEqual([changes, errors], [["open"], ["2"]]);
});

served("a listener for everything may be an object, may listen once, may be taken away", [open("data: 1\n\ndata: 2\n\n")], async ({ connect }) => {
  const stream = connect();
  const got = [];
  const signal = AbortSignal.abort();
  const gone = () => got.push("gone");
  stream.addEventListener("*", { handleEvent: ({ data }) => got.push(data) });
  stream.addEventListener("*", () => got.push("once"), { once: true });
  stream.addEventListener("*", () => got.push("aborted"), { signal });
  stream.addEventListener("*", gone);
  stream.removeEventListener("*", gone);
  await first(stream, "message", ({ data }) => data === "2");
  await setImmediate();
  assert.deepEqual(got, ["1", "once", "2"]);
});

served("data is read as JSON where that is asked for, and once", [open('event: tick\ndata: {"price": 42}\n\nevent: text\ndata: up\n\nevent: none\ndata: null\n\n')], async ({ connect }) => {
  const stream = connect();
  const [tick, text, none] = await Promise.all(["tick", "text", "none"].map((name) => first(stream, name)));
  assert.deepEqual([tick.data, tick.json], ['{"price": 42}', { price: 42 }]);
  assert.equal(tick.json, tick.json);
  assert.throws(() => text.json, { name: "SyntaxError", message: 'the data of the event "text" is not JSON: "up"; use event.data' });
  assert.equal(text.data, "up");
  assert.equal(none.json, null);
  assert.ok(tick instanceof MessageEvent && tick instanceof StreamMessage);
});

test("an instance has the constants of an EventSource, and nobody changes them", () => {
  const stream = new EventStream("http://127.0.0.1/", { autoConnect: false });
  for (const source of [stream, EventStream]) assert.deepEqual([source.CONNECTING, source.OPEN, source.CLOSED], [0, 1, 2]);
  assert.throws(() => { stream.OPEN = 5; }, TypeError);
});

// What is sent

served("headers come from an object or anew from a function for each attempt", [cut("data: x\n\n"), open()], async ({ connect, seen }) => {
  let token = 0;
  const stream = connect("/", { headers: async () => ({ Authorization: `Bearer ${(token += 1)}`, Accept: "text/event-stream; q=1" }) });
  await first(stream, "open");
  await first(stream, "open");
  assert.deepEqual(seen.map(({ headers }) => headers.authorization), ["Bearer 1", "Bearer 2"]);
  assert.equal(seen[0].headers.accept, "text/event-stream; q=1");
});

served("a headers function that fails is tried again", [open()], async ({ connect }) => {
  const answers = [() => Promise.reject(new Error("no token yet")), () => ({ "X-Key": "k" })];
  const stream = connect("/", { headers: () => answers.shift()() });
  const { error } = await first(stream, "error");
  assert.deepEqual([error.reason, error.cause.message], ["headers", "no token yet"]);
  await state(stream, "open");
});

served("query and subpath are joined to the address", [open()], async ({ connect, seen }) => {
  const query = { since: 5, tag: ["a", "b&c"], none: null, un: undefined };
  await state(connect("/api/?x=1", { query, subpath: "/builds/4 2" }), "open");
  assert.equal(seen[0].url, "/api/builds/4%202?x=1&since=5&tag=a&tag=b%26c");
  await state(connect("/api", { query: new URLSearchParams("a=1&a=2"), subpath: "b" }), "open");
  assert.equal(seen[1].url, "/api/b?a=1&a=2");
});

served("a body makes a POST, and an object is sent as JSON", [open("data: x\n\n")], async ({ connect, seen }) => {
  await first(connect("/", { body: { prompt: "hé" } }), "message");
  await first(connect("/", { body: "plain", method: "put", headers: [["X-A", "b"]] }), "message");
  await first(connect("/", { body: new URLSearchParams("a=1") }), "message");
  assert.deepEqual(seen.map(({ method, body }) => [method, body]), [["POST", '{"prompt":"hé"}'], ["PUT", "plain"], ["POST", "a=1"]]);
  assert.equal(seen[0].headers["content-type"], "application/json");
  assert.equal(seen[1].headers["x-a"], "b");
  assert.match(seen[2].headers["content-type"], /x-www-form-urlencoded/);
});

served("the last id is sent as its UTF-8 bytes", [cut("id: seven ü 7 …\ndata: x\n\n"), open()], async ({ connect, seen }) => {
  const stream = connect();
  await first(stream, "message");
  await first(stream, "open");
  assert.equal(Buffer.from(seen[1].headers["last-event-id"], "latin1").toString(), "seven ü 7 …");
});

served("it begins after an id that it is given", [open("data: x\n\n")], async ({ connect, seen }) => {
  const { lastEventId } = await first(connect("/", { lastEventId: "abc.7" }), "message");
  assert.equal(seen[0].headers["last-event-id"], "abc.7");
  assert.equal(lastEventId, "abc.7");
});

// Coming back

served("whatever cuts a stream, it goes on after the last id", [
  cut("id: 1\ndata: a\n\nid: 9\ndata: lost"),
  ended("id: 2\ndata: b\n\n"),
  ended(""),
  status(500),
  status(429, { "Retry-After": "0" }),
  ended("id: 3\n\n"),
  open("data: c\n\n"),
], async ({ connect, seen }) => {
  const stream = connect();
  const got = all(stream);
  const faults = [];
  stream.addEventListener("error", ({ error }) => faults.push(`${error.reason} ${error.status}`));
  await first(stream, "message", ({ data }) => data === "c");
  assert.deepEqual(seen.map(({ headers }) => headers["last-event-id"]), [undefined, "1", "2", "2", "2", "2", "3"]);
  assert.deepEqual(got, [["message", "a", "1"], ["message", "b", "2"], ["message", "c", "3"]]);
  assert.deepEqual(faults, ["network null", "finished null", "finished null", "status 500", "overloaded 429", "finished null"]);
});

served("a server that is away is a fault", [open("data: x\n\n")], async ({ connect }) => {
  const stream = connect("/", { fetch: () => Promise.reject(new TypeError("no route")) });
  const { error } = await first(stream, "error");
  assert.ok(error instanceof StreamError);
  assert.deepEqual([error.reason, error.cause.message, stream.readyState], ["network", "no route", 0]);
});

served("silence is a fault, in an answer and before it", [open("id: 1\ndata: x\n\n"), () => {}, open("data: y\n\n")], async ({ connect, seen }) => {
  const stream = connect("/", { watchdog: 5_000 }); // longer than a machine stands still: each silence here is the server's
  const got = states(stream);
  await first(stream, "message", ({ data }) => data === "y");
  assert.deepEqual(got.filter((one) => /silence|open/.test(one)), [
    "open: connected", "reconnecting: silence", "reconnecting: silence", "reconnecting: silence", "reconnecting: silence", "open: connected",
  ]);
  assert.equal(seen.at(-1).headers["last-event-id"], "1");
});

served("comments are no silence", [(request, response) => {
  response.writeHead(200, STREAM);
  let left = 60;
  const beat = setInterval(() => {
    response.write(left > 0 ? ":\n" : "data: x\n\n");
    if ((left -= 1) < 0) clearInterval(beat);
  }, 100);
}], async ({ connect, seen }) => {
  await first(connect("/", { watchdog: 5_000 }), "message");
  assert.equal(seen.length, 1);
});

for (const [comment, patience] of [["", 45_000], [": heartbeat 15\n", 45_000], [": heartbeat 60\n", 180_000], [": heartbeat 0.5\n", 5_000], [": heartbeat 0\n", Infinity]]) {
  test(`the watchdog waits as the route's first comment says: ${JSON.stringify(comment)}`, async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    let asked = 0;
    const body = (signal) => new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(`${comment}data: x\n\n`));
        signal.addEventListener("abort", () => controller.error(signal.reason));
      },
    });
    const fetch = async (url, { signal }) => {
      asked += 1;
      return new Response(body(signal), { headers: STREAM });
    };
    const stream = new EventStream("http://127.0.0.1/", { fetch, reconnect: { baseDelay: 0, jitter: 0 } });
    const got = states(stream);
    await first(stream, "message");
    await setImmediate();
    const most = Math.min(patience, 86_400_000);
    context.mock.timers.tick(most - 1);
    await setImmediate();
    assert.deepEqual([asked, got], [1, ["open: connected"]]);
    const silence = first(stream, "statechange", ({ reason }) => reason === "silence");
    context.mock.timers.tick(1);
    if (patience < Infinity) await silence;
    assert.equal(got.includes("reconnecting: silence"), patience < Infinity);
    stream.close();
  });
}

served("a watchdog that was chosen stays, whatever the route says", [(request, response) => {
  response.writeHead(200, STREAM);
  response.write(": heartbeat 600\ndata: x\n\n");
}], async ({ connect }) => {
  const stream = connect("/", { watchdog: 300 });
  await first(stream, "statechange", ({ reason }) => reason === "silence");
});

test("the waits grow after the threshold, up to the maximum, with jitter; an event of the stream makes them small again", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  context.mock.method(Math, "random", () => 0.5);
  const answers = [];
  const fetch = async () => answers.shift() ?? new Response("", { status: 502 });
  const stream = new EventStream("http://127.0.0.1/", { fetch, watchdog: 0, reconnect: { threshold: 2, baseDelay: 100, factor: 3, maxDelay: 1000, jitter: 10 } });
  const waits = [];
  stream.addEventListener("statechange", ({ delay }) => delay > 0 && waits.push(delay));
  const settle = async () => {
    for (let turn = 0; turn < 40; turn++) await setImmediate();
  };
  const pass = async () => {
    await settle();
    const before = waits.length;
    context.mock.timers.tick(waits.at(-1) - 1);
    await settle();
    assert.equal(waits.length, before, "not before its time");
    context.mock.timers.tick(1);
    await settle();
  };
  for (let attempt = 0; attempt < 6; attempt++) await pass();
  assert.deepEqual(waits, [105, 105, 305, 905, 1005, 1005, 1005]);
  assert.equal(stream.attempt, 7);
  answers.push(new Response("event: sse.position\ndata: {}\n\n", { headers: STREAM }));
  await pass();
  assert.equal(waits.at(-1), 1005, "a control event is no success");
  answers.push(new Response("retry: 40\ndata: x\n\n", { headers: STREAM }));
  await pass();
  await pass();
  await pass();
  assert.deepEqual(waits.slice(-3), [45, 45, 125], "the server's retry is the base");
  answers.push(new Response("", { status: 503, headers: { "Retry-After": "7" } }));
  await pass();
  assert.equal(waits.at(-1), 7005);
  answers.push(new Response("", { status: 503, headers: { "Retry-After": new Date(Date.now() + 60_000).toUTCString() } }));
  await pass();
  assert.ok(waits.at(-1) > 45_000, `a date is understood: ${waits.at(-1)}`);
  answers.push(new Response('event: sse.overloaded\nretry: 12000\ndata: {"reason":"busy"}\n\n', { headers: STREAM }));
  await pass();
  assert.ok(waits.at(-1) >= 12_000);
  stream.close();
});

// Ends and refusals

served("sse.end is the end: nothing more is asked", [open(`id: 2\ndata: x\n\n${END}`)], async ({ connect, seen }) => {
  const stream = connect();
  const [got, changes] = [all(stream), states(stream)];
  stream.onerror = () => assert.fail("an end is no error");
  await state(stream, "ended");
  assert.deepEqual(got, [["message", "x", "2"], ["sse.end", '{"reason":"completed"}', "sse.end~2"]]);
  assert.deepEqual(changes, ["open: connected", "ended: completed"]);
  assert.deepEqual([stream.readyState, stream.reason, stream.error], [2, "completed", null]);
  assert.equal(seen.length, 1);
});

served("after an end reopen() begins anew, and connect() says so", [open(END)], async ({ connect, seen }) => {
  const stream = connect("/", { lastEventId: "1" });
  await state(stream, "ended");
  assert.throws(() => stream.connect(), /reopen\(\) begins again/);
  stream.close();
  assert.equal(stream.state, "ended");
  stream.reopen();
  await state(stream, "ended");
  stream.reopen({ lastEventId: "5" });
  await state(stream, "ended");
  assert.deepEqual(seen.map(({ headers }) => headers["last-event-id"]), ["1", undefined, "5"]);
});

for (const [reason, now] of [["topic_closed", "ended"], ["deleted", "ended"], ["revoked", "error"], ["kicked", "error"]]) {
  served(`sse.end says why: ${reason}`, [open(END.replace("completed", reason)), open()], async ({ connect, seen }) => {
    const stream = connect();
    await state(stream, now);
    assert.equal(stream.reason, reason);
    stream.reopen();
    await state(stream, "open");
    assert.equal(seen[1].headers["last-event-id"], now === "ended" ? undefined : "2", "who was sent away goes on where that was");
  });
}

served("sse.end without an id is a break", [open('event: sse.end\nretry: 5\ndata: {"reason":"kicked"}\n\n'), open()], async ({ connect, seen }) => {
  const stream = connect();
  const { reason } = await first(stream, "statechange", ({ delay }) => delay > 0);
  assert.equal(reason, "kicked");
  await state(stream, "open");
  assert.equal(seen.length, 2);
});

served("sse.error is tried again, unless its id says that it is final", [
  open('event: sse.error\nretry: 5\ndata: {"reason":"handler_error","message":"m"}\n\n'),
  open('event: sse.error\nid: sse.end~4\nretry: 5\ndata: {"reason":"handler_error","message":"m"}\n\n'),
], async ({ connect, seen }) => {
  const stream = connect();
  const got = all(stream);
  await state(stream, "error");
  assert.deepEqual(got.map(([type]) => type), ["sse.error", "sse.error"]);
  assert.deepEqual([stream.reason, seen.length], ["handler_error", 2]);
});

served("gaps and positions are events of their own, and their ids count", [
  open('event: sse.gap\nid: e.7\ndata: {"reason":"trimmed"}\n\nevent: sse.position\nid: e.8\ndata: {}\n\n'),
], async ({ connect }) => {
  const stream = connect();
  const gap = first(stream, "sse.gap");
  await first(stream, "sse.position");
  assert.equal(JSON.parse((await gap).data).reason, "trimmed");
  assert.equal(stream.lastEventId, "e.8");
});

served("204 is an end", [status(204)], async ({ connect, seen }) => {
  const stream = connect("/", { lastEventId: "sse.end~1" });
  await state(stream, "ended");
  assert.deepEqual([stream.reason, stream.status, seen[0].headers["last-event-id"]], ["no_content", 204, "sse.end~1"]);
});

for (const [code, reason] of [[401, "unauthorized"], [403, "forbidden"], [404, "not_found"], [410, "gone"], [400, "status"], [405, "status"], [201, "status"]]) {
  served(`${code} is final`, [status(code), open("data: x\n\n")], async ({ connect, seen }) => {
    const stream = connect("/", { lastEventId: "1" });
    const { error } = await first(stream, "error");
    assert.deepEqual([error.reason, error.status, stream.state, stream.reason, stream.status], [reason, code, "error", reason, code]);
    assert.equal(stream.error, error);
    assert.match(error.message, new RegExp(`${stream.url}: ${reason} \\(HTTP ${code}\\)`));
    stream.reopen();
    await first(stream, "message");
    assert.equal(seen[1].headers["last-event-id"], code === 410 ? undefined : "1");
    assert.equal(seen.length, 2);
  });
}

served("what is no event stream is final", [
  (request, response) => response.writeHead(302, { Location: "/login/" }).end(),
  (request, response) => response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end("sign in"),
], async ({ connect }) => {
  const stream = connect();
  await state(stream, "error");
  assert.deepEqual([stream.reason, stream.status], ["content_type", 200]);
});

served("a content type may have parameters", [
  (request, response) => response.writeHead(200, { "Content-Type": "TEXT/event-stream ; charset=utf-8" }).write("data: x\n\n"),
], async ({ connect }) => {
  await first(connect(), "message");
});

served("a POST is not sent twice: its end is the end, what breaks it an error", [ended("data: x\n\n"), cut("data: y\n\n")], async ({ connect, seen }) => {
  const options = { method: "POST", reconnect: undefined };
  const one = connect("/", options);
  await state(one, "ended");
  assert.equal(one.reason, "finished");
  const other = connect("/", options);
  await state(other, "error");
  assert.equal(other.reason, "network");
  assert.equal(seen.length, 2);
});

served("a POST is sent again where that is wanted", [cut("id: 1\ndata: x\n\n"), open("data: y\n\n")], async ({ connect, seen }) => {
  await first(connect("/", { body: "same", reconnect: { baseDelay: 1 } }), "message", ({ data }) => data === "y");
  assert.deepEqual(seen.map(({ body, headers }) => [body, headers["last-event-id"]]), [["same", undefined], ["same", "1"]]);
});

// close, AbortSignal, reopen

served("an aborted signal closes the stream for good, also before it began", [open("data: x\n\n")], async ({ connect, seen }) => {
  const abort = new AbortController();
  const stream = connect("/", { signal: abort.signal });
  await first(stream, "message");
  const gone = new Promise((resolve) => seen[0].response.on("close", resolve));
  abort.abort();
  assert.deepEqual([stream.state, stream.reason], ["idle", "aborted"]);
  await gone;
  stream.reopen();
  const never = connect("/", { signal: AbortSignal.abort() });
  await setImmediate();
  assert.deepEqual([never.state, never.reason, stream.state, seen.length], ["idle", "aborted", "idle", 1]);
});

served("close() keeps the last id, and reopen() goes on after it", [open("id: 4\ndata: x\n\n")], async ({ connect, seen }) => {
  const stream = connect();
  await first(stream, "message");
  stream.close();
  stream.close();
  stream.reopen();
  await first(stream, "message");
  stream.reopen();
  await first(stream, "message");
  assert.deepEqual(seen.map(({ headers }) => headers["last-event-id"]), [undefined, "4", "4"]);
});

served("a listener may close the stream in the middle of a chunk", [open("data: 1\n\ndata: 2\n\n")], async ({ connect }) => {
  const stream = connect();
  const got = all(stream);
  stream.onmessage = () => stream.close();
  await state(stream, "idle");
  await setImmediate();
  assert.deepEqual(got.map(([, data]) => data), ["1"]);
});

served("with autoConnect off nothing is asked before connect()", [open("data: x\n\n")], async ({ connect, seen }) => {
  const stream = connect("/", { autoConnect: false });
  await setImmediate();
  assert.deepEqual([stream.state, stream.reason, stream.readyState, seen.length], ["idle", "new", 2, 0]);
  stream.connect();
  await first(stream, "message");
  stream.connect();
  assert.equal(seen.length, 1);
});

test("options are checked", () => {
  const make = (options) => () => new EventStream("http://127.0.0.1/", { autoConnect: false, ...options });
  assert.throws(make({ header: {} }), /no option header; there are autoConnect, body/);
  assert.throws(make({ share: true, method: "POST" }), /share is for GET/);
  assert.throws(make({ body: new ReadableStream() }), /could be sent once only/);
  assert.throws(make({ reconnect: { base: 1 } }), /no option reconnect.base; there are threshold/);
  assert.throws(make({ watchdog: -1 }), /watchdog/);
  assert.throws(make({ buffer: 0 }), /buffer/);
});

// for await

served("for await has every event, and ends with the stream", [
  cut("id: 1\ndata: a\n\n"),
  open(`event: b\nid: 2\ndata: b\n\n${END}`),
], async ({ connect }) => {
  const got = [];
  for await (const { type, data } of connect("/", { autoConnect: false })) got.push([type, data]);
  assert.deepEqual(got, [["message", "a"], ["b", "b"], ["sse.end", '{"reason":"completed"}']]);
});

served("for await throws where the stream was refused", [status(403)], async ({ connect }) => {
  await assert.rejects(async () => {
    for await (const event of connect()) assert.fail(event);
  }, { name: "StreamError", reason: "forbidden", status: 403 });
});

served("for await that began a stream closes it when it is left", [open("data: 1\n\ndata: 2\n\n")], async ({ connect }) => {
  const own = connect("/", { autoConnect: false });
  for await (const event of own) if (event.data === "1") break;
  assert.equal(own.state, "idle");
  const other = connect();
  for await (const event of other) if (event.data === "1") break;
  assert.equal(other.state, "open");
});

served("a slow for await makes the server wait, and loses nothing", [(request, response) => {
  response.writeHead(200, STREAM);
  let number = 0;
  const more = () => {
    while (number < 20_000) if (!response.write(`data: ${(number += 1)} ${"x".repeat(1000)}\n\n`)) return response.once("drain", more);
    return response.end(END);
  };
  response.sent = () => number;
  more();
}], async ({ connect, seen }) => {
  const stream = connect("/", { buffer: 8, watchdog: 2_000, autoConnect: false });
  let heard = 0;
  stream.addEventListener("message", () => (heard += 1));
  const [numbers, { now }] = [[], Date];
  const begun = now();
  Date.now = () => begun; // a machine that stands still would be a silence
  try {
    for await (const { type, data } of stream) {
      if (type !== "message") continue;
      numbers.push(parseInt(data, 10));
      if (numbers.length === 3) {
        const stood = now() - begun;
        Date.now = () => now() - stood;
        await new Promise((resolve) => setTimeout(resolve, 3_000));
        assert.ok(heard <= 12, `paused after ${heard} events`);
        assert.ok(seen[0].response.sent() < 20_000, "the server waits");
        assert.equal(stream.state, "open", "the watchdog does not count the time that nobody reads");
        const at = Date.now();
        Date.now = () => at;
      }
    }
  } finally {
    Date.now = now;
  }
  assert.deepEqual(numbers, Array.from({ length: 20_000 }, (_, index) => index + 1));
});

served("two loops each get everything", [open(`data: 1\n\ndata: 2\n\n${END}`)], async ({ connect }) => {
  const stream = connect();
  const read = async () => {
    const got = [];
    for await (const { data } of stream) got.push(data);
    return got.length;
  };
  assert.deepEqual(await Promise.all([read(), read()]), [3, 3]);
});

// What a server may ask for

for (const [name, answer] of Object.entries({
  "a retry of 24.8 days": () => new Response("retry: 2147483647\ndata: x\n\n", { headers: STREAM }),
  "a retry within sse.overloaded": () => new Response('event: sse.overloaded\nretry: 2147483647\ndata: {"reason":"busy"}\n\n', { headers: STREAM }),
  "a retry that no timer takes": () => new Response("retry: 99999999999999999999\ndata: x\n\n", { headers: STREAM }),
  "Retry-After of a year": () => new Response("", { status: 503, headers: { "Retry-After": "31536000" } }),
  "Retry-After in the year 9999": () => new Response("", { status: 503, headers: { "Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT" } }),
})) {
  test(`${name} keeps the client away for an hour, not longer`, async () => {
    const stream = new EventStream("http://a.test/", { fetch: async () => answer(), reconnect: { jitter: 0 } });
    const { delay } = await first(stream, "statechange", (event) => event.state === "reconnecting");
    stream.close();
    assert.equal(delay, 3_600_000);
  });
}

test("an id of a mebibyte is sent back", async () => {
  const id = "é".repeat(2 ** 19);
  const sent = [];
  const fetch = async (url, { headers }) => {
    sent.push(headers.get("Last-Event-ID"));
    return new Response(`id: ${id}\ndata: x\n\n`, { headers: STREAM });
  };
  const stream = new EventStream("http://a.test/", { fetch, reconnect: { baseDelay: 1, jitter: 0 } });
  await first(stream, "open");
  await first(stream, "open");
  stream.close();
  assert.equal(Buffer.from(sent[1], "latin1").toString(), id);
});

// What comes at another moment than it was asked for

const HEADERS = { headers: STREAM };
const bytes = (text) => new TextEncoder().encode(text);

/** A fetch whose bodies begin with these chunks, and stay open; `asked` counts. */
function opens(...chunks) {
  const fetch = async (url, { signal }) => {
    fetch.asked += 1;
    const start = (body) => {
      for (const chunk of chunks) body.enqueue(bytes(chunk));
      signal.addEventListener("abort", () => body.error(signal.reason));
    };
    return new Response(new ReadableStream({ start }), HEADERS);
  };
  fetch.asked = 0;
  return fetch;
}

test("a connection is watched after reopen() too", { timeout: 60_000 }, async () => {
  const fetch = opens("data: x\n\n");
  const stream = new EventStream("http://a.test/", { fetch, watchdog: 100, reconnect: { baseDelay: 1, jitter: 0 } });
  await first(stream, "message");
  stream.reopen();
  const silent = await first(stream, "statechange", ({ reason }) => reason === "silence");
  assert.equal(silent.state, "reconnecting");
  await first(stream, "statechange", ({ state }) => state === "open");
  assert.ok(fetch.asked >= 3);
  stream.close();
});

for (const leave of ["close", "reopen"]) {
  test(`what has been read already is not heard after ${leave}()`, { timeout: 60_000 }, async () => {
    const stream = new EventStream("http://a.test/", { fetch: opens("id: 1\ndata: 1\n\n", "id: 2\ndata: 2\n\n", "id: 3\ndata: 3\n\n") });
    const got = [];
    stream.addEventListener("message", ({ data }) => got.push([data, stream.state]));
    await first(stream, "message");
    if (leave === "close") stream.close();
    else stream.reopen({ lastEventId: "0" });
    for (let turns = 0; turns < 5; turns += 1) await null;
    assert.deepEqual([got, stream.lastEventId], [[["1", "open"]], leave === "close" ? "1" : "0"]);
    stream.close();
  });
}

test("a loop over a stream whose signal was aborted before ends at once", { timeout: 60_000 }, async () => {
  const stream = new EventStream("http://a.test/", { fetch: opens(), autoConnect: false, signal: AbortSignal.abort() });
  for await (const event of stream) assert.fail(event);
  assert.deepEqual([stream.state, stream.reason], ["idle", "aborted"]);
});

test("a stream that is closed by the listener of its error leaves no timer behind", { timeout: 60_000 }, async () => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  const stream = new EventStream("http://a.test/", { fetch: async () => new Response(null, { status: 503, headers: { "Retry-After": "3000" } }) });
  stream.onerror = () => stream.close();
  await first(stream, "statechange", ({ reason }) => reason === "closed");
  for (let turns = 0; turns < 5; turns += 1) await setImmediate();
  assert.ok(timers() <= before);
});
