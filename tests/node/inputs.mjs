/*
 * Streams from standard input, one a line as JSON, through two parsers: the one of client.js, and eventsource-parser, which is not
 * ours and is what most clients of npm read with. At the end it prints how much it read, and what was read otherwise than was meant.
 *
 * A line: {stream: base64, cuts: [bytes of each chunk], events: [[type, data, own id or null, last id]], retry: number or null}.
 */

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { createParser } from "eventsource-parser";

const { Parser } = await import(pathToFileURL(join(process.env.STATIC, "client.js")));
const LONGEST_RETRY = 3_600_000;
const told = { streams: 0, events: 0, wrong: { "client.js": [], "eventsource-parser": [] } };
const shown = (type) => (type || "message").replaceAll("\0", "\ufffd");

function* chunks({ stream, cuts }) {
  const bytes = new Uint8Array(Buffer.from(stream, "base64"));
  let start = 0;
  for (const length of cuts) yield bytes.subarray(start, (start += length));
}

function withClient(about) {
  const parser = new Parser();
  const events = [];
  for (const chunk of chunks(about)) {
    for (const { type, data, lastEventId } of parser.feed(chunk)) events.push([shown(type), data, lastEventId]);
  }
  return [events, parser.retry];
}

function withEventsourceParser(about) {
  const decoder = new TextDecoder();
  const events = [];
  let retry = null;
  const parser = createParser({
    onEvent: ({ event, data, id }) => events.push([shown(event), data, id ?? null]),
    onRetry: (milliseconds) => (retry = Math.min(milliseconds, LONGEST_RETRY)),
  });
  for (const chunk of chunks(about)) {
    const text = decoder.decode(chunk, { stream: true });
    if (text) parser.feed(text);
  }
  return [events, retry];
}

for await (const line of createInterface({ input: process.stdin })) {
  const about = JSON.parse(line);
  const last = JSON.stringify([about.events.map(([type, data, , id]) => [type, data, id]), about.retry]);
  const own = JSON.stringify([about.events.map(([type, data, id]) => [type, data, id]), about.retry]);
  for (const [name, read, wanted] of [["client.js", withClient, last], ["eventsource-parser", withEventsourceParser, own]]) {
    const got = JSON.stringify(read(about));
    if (got !== wanted && told.wrong[name].push({ ...about, got: got.slice(0, 2000), wanted: wanted.slice(0, 2000) }) > 3) told.wrong[name].pop();
  }
  told.streams += 1;
  told.events += about.events.length;
}
console.log(JSON.stringify(told));
