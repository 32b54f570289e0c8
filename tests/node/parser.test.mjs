/* The parser against the cases of the Python decoder, read by the standard's algorithm; cut in every way. CASES is their file. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Parser } from "./serving.mjs";

const cases = JSON.parse(readFileSync(process.env.CASES, "utf8"));

function read(chunks) {
  const parser = new Parser();
  const events = [];
  for (const chunk of chunks) {
    for (const { type, data, lastEventId } of parser.feed(chunk)) {
      assert.equal(parser.lastEventId, lastEventId);
      events.push([type.replaceAll("\0", "\ufffd"), data, lastEventId]);
    }
  }
  return { events, lastEventId: parser.lastEventId, retry: parser.retry };
}

function* cuttings(stream) {
  yield [stream];
  for (let place = 1; place < stream.length; place++) yield [stream.subarray(0, place), stream.subarray(place)];
  for (const size of [3, 2, 1]) {
    const chunks = [];
    for (let start = 0; start < stream.length; start += size) chunks.push(stream.subarray(start, start + size), stream.subarray(0, 0));
    yield chunks;
  }
}

test("there are cases", () => assert.ok(cases.length > 200));

for (const { name, stream, ...expected } of cases) {
  test(`a stream means the same however it is cut: ${name}`, () => {
    for (const chunks of cuttings(new Uint8Array(Buffer.from(stream, "base64")))) assert.deepEqual(read(chunks), expected);
  });
}

for (const end of ["\n\n", "\r\r", "\r\n\r", "\n\r"]) {
  test(`an event is dispatched with the last byte that it needs: ${JSON.stringify(end)}`, () => {
    const parser = new Parser();
    const bytes = new TextEncoder().encode(`data: x${end}`);
    assert.deepEqual([...parser.feed(bytes.subarray(0, -1))], []);
    assert.equal([...parser.feed(bytes.subarray(-1))].length, 1);
  });
}

test("a mebibyte byte by byte takes linear time", () => {
  const parser = new Parser();
  const bytes = new TextEncoder().encode(`data: ${"x".repeat(2 ** 20)}\n\n`);
  const events = [];
  for (let place = 0; place < bytes.length; place++) events.push(...parser.feed(bytes.subarray(place, place + 1)));
  assert.equal(events[0].data.length, 2 ** 20);
});

test("the id that a parser begins with stays until the stream sets another", () => {
  const parser = new Parser("7");
  const bytes = new TextEncoder().encode("data: x\n\nid\ndata: y\n\n");
  assert.deepEqual(Array.from(parser.feed(bytes), (event) => event.lastEventId), ["7", ""]);
});

test("a comment of the first bytes says the route's heartbeat, however it is cut; other comments say nothing", () => {
  const said = (text) => [...cuttings(new TextEncoder().encode(text))].map((chunks) => {
    const parser = new Parser();
    for (const chunk of chunks) for (const { type } of parser.feed(chunk)) assert.equal(type, "message");
    return parser.heartbeat;
  });
  assert.deepEqual(new Set(said(": heartbeat 60\ndata: x\n\n")), new Set([60]));
  assert.deepEqual(new Set(said(": heartbeat 0.25\n")), new Set([0.25]));
  for (const text of [":\n", ": heartbeat\n", ": heartbeat -1\n", ": heartbeat 1e9\n", ": heartbeat 60 s\n", "heartbeat: 60\n", ": a heartbeat 60\n"]) {
    assert.deepEqual(new Set(said(text)), new Set([null]), text);
  }
});
