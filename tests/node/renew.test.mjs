/* Addresses that are good for a short time: the client gets another one for each attempt that needs it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStream, StreamError, all, cut, first, open, served, state, states, status } from "./serving.mjs";

/** An answer as JSON. */
const json = (about, code = 200) => (request, response) => {
  response.writeHead(code, { "Content-Type": "application/json" });
  response.end(JSON.stringify(about));
};

/** An answer by the path: to the endpoint the one, to the stream the other. */
const asked = ({ seen }) => seen.map(({ url }) => url);

served("an endpoint gives a new address for each attempt but the first", [
  cut("id: 1\ndata: a\n\n"),
  json({ url: "/feed/?sse_signature=second" }),
  cut("id: 2\ndata: b\n\n"),
  json({ url: "/feed/?sse_signature=third" }),
  open("id: 3\ndata: c\n\n"),
], async ({ connect, seen }) => {
  const endpoint = (stream) => new URL("/renew/", stream).href;
  const probe = connect("/", { autoConnect: false });
  const stream = connect("/feed/?sse_signature=first", { renew: endpoint(probe.url) });
  const got = all(stream);
  await first(stream, "message", ({ data }) => data === "c");
  assert.deepEqual(asked({ seen }), [
    "/feed/?sse_signature=first", "/renew/", "/feed/?sse_signature=second", "/renew/", "/feed/?sse_signature=third",
  ]);
  assert.deepEqual(seen.map(({ headers }) => headers["last-event-id"]), [undefined, undefined, "1", undefined, "2"]);
  assert.equal(seen[1].headers.accept, "application/json");
  assert.deepEqual(got.map(([, data]) => data), ["a", "b", "c"]);
});

served("a function does too, and is told where the stream is", [cut("id: 7\ndata: a\n\n"), open("data: b\n\n")], async ({ connect, seen }) => {
  const told = [];
  const renew = async (about) => {
    told.push(about);
    return new URL("/other/?b=1", about.url);
  };
  const stream = connect("/feed/?a=1", { renew });
  const { url } = stream;
  await first(stream, "message", ({ data }) => data === "b");
  assert.deepEqual(told, [{ url, lastEventId: "7" }]);
  assert.deepEqual(asked({ seen }), ["/feed/?a=1", "/other/?b=1"]);
  assert.equal(new URL(stream.url).pathname, "/other/");
});

served("an address that was too old before it was used is renewed at once", [status(401), open("data: x\n\n")], async ({ connect, seen }) => {
  const stream = connect("/old/", { renew: () => "/new/" });
  const changes = states(stream);
  await first(stream, "message");
  assert.deepEqual(asked({ seen }), ["/old/", "/new/"]);
  assert.deepEqual(changes, ["open: connected"]);
});

served("one that was renewed just now and is refused is refused", [status(401)], async ({ connect, seen }) => {
  const stream = connect("/old/", { renew: () => "/new/" });
  await state(stream, "error");
  assert.deepEqual([stream.reason, stream.status, asked({ seen })], ["unauthorized", 401, ["/old/", "/new/"]]);
  stream.reopen();
  await first(stream, "statechange", (event) => event.state === "error");
  assert.deepEqual(asked({ seen }), ["/old/", "/new/", "/new/"]);
});

served("a refusal that is none of the address is not asked twice", [status(403)], async ({ connect, seen }) => {
  const stream = connect("/", { renew: () => assert.fail("not asked for") });
  await state(stream, "error");
  assert.deepEqual([stream.reason, seen.length], ["forbidden", 1]);
});

for (const [code, reason] of [[401, "unauthorized"], [403, "forbidden"], [404, "not_found"], [400, "status"]]) {
  served(`an endpoint that refuses ends it: ${code}`, [cut("data: a\n\n"), status(code)], async ({ connect, seen }) => {
    const stream = connect("/feed/", { renew: new URL("/renew/", connect("/", { autoConnect: false }).url) });
    await state(stream, "error");
    assert.deepEqual([stream.reason, stream.status, asked({ seen })], [reason, code, ["/feed/", "/renew/"]]);
  });
}

served("an endpoint that fails, or says nothing, is asked again", [
  cut("data: a\n\n"),
  status(503, { "Retry-After": "0" }),
  json({ address: "/feed/" }),
  (request, response) => response.destroy(),
  json({ url: "/feed/2" }),
  open("data: b\n\n"),
], async ({ connect, seen }) => {
  const stream = connect("/feed/", { renew: new URL("/renew/", connect("/", { autoConnect: false }).url).href });
  const faults = [];
  stream.addEventListener("error", ({ error }) => faults.push([error.reason, error.status, error.cause?.name]));
  await first(stream, "message", ({ data }) => data === "b");
  assert.deepEqual(faults, [["network", null, "TypeError"], ["renew", 503, undefined], ["renew", null, "TypeError"], ["renew", null, "TypeError"]]);
  assert.deepEqual(asked({ seen }), ["/feed/", "/renew/", "/renew/", "/renew/", "/renew/", "/feed/2"]);
});

served("an endpoint that leads to a page to sign in has nothing to give", [
  cut("data: a\n\n"),
  status(302, { Location: "/login/" }),
  (request, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<form>"),
], async ({ connect }) => {
  const stream = connect("/feed/", { renew: new URL("/renew/", connect("/", { autoConnect: false }).url).href });
  await state(stream, "error");
  assert.equal(stream.reason, "unauthorized");
});

served("a function that fails is a fault", [cut("data: a\n\n"), open("data: b\n\n")], async ({ connect }) => {
  let times = 0;
  const renew = () => {
    times += 1;
    if (times === 1) throw new Error("no address yet");
    return "/feed/";
  };
  const stream = connect("/feed/", { renew });
  const { error } = await first(stream, "error", (event) => event.error.reason === "renew");
  assert.equal(error.cause.message, "no address yet");
  await first(stream, "message", ({ data }) => data === "b");
});

for (const option of ["renew", "headers"]) {
  served(`a function for ${option} that never settles is given up as a silent server is`, [cut("data: a\n\n"), open("data: b\n\n")], async ({ connect }) => {
    let times = 0;
    const settles = { renew: "/feed/", headers: {} };
    const given = () => {
      times += 1;
      return times === 2 ? new Promise(() => {}) : settles[option];
    };
    const renew = option === "renew" ? given : () => "/feed/";
    if (option === "renew") times = 1; // it is not asked for the first address
    const stream = connect("/feed/", { renew, headers: option === "headers" ? given : {}, watchdog: 1000 });
    const { error } = await first(stream, "error", (event) => event.error.reason === option);
    assert.equal(error.cause.name, "AbortError");
    await first(stream, "message", ({ data }) => data === "b");
  });
}

served("no error holds a signature", [status(403)], async ({ connect }) => {
  const stream = connect("/feed/?a=1&sse_signature=planted");
  await state(stream, "error");
  assert.ok(stream.error instanceof StreamError);
  assert.match(stream.error.message, /\/feed\/\?a=1: forbidden \(HTTP 403\)$/);
  assert.ok(!String(stream.error.stack).includes("planted"));
});

test("renew is an address or a function", () => {
  for (const renew of [7, true, {}, null, []]) {
    assert.throws(() => new EventStream("http://127.0.0.1/", { autoConnect: false, renew }), /renew must be the address of an endpoint, or a function/);
  }
});
