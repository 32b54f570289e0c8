/* Watches a build with the npm package `eventsource`: node watch.mjs URL [HEADERS as JSON]

Prints one JSON object a line: {type, id, data} for each event, {type: "open"} for each connection, {type: "error", code, message} for each
that failed or broke. Ends with 0 at `complete`, and with 1 where the client gave up. */

import { EventSource } from "eventsource";

const NAMES = ["status", "progress", "stdout", "stderr", "missing", "complete"];
const [url, headers = "{}"] = process.argv.slice(2);
const own = JSON.parse(headers);

const print = (fields) => process.stdout.write(`${JSON.stringify(fields)}\n`);

const source = new EventSource(url, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...own } }),
});

source.addEventListener("open", () => print({ type: "open" }));

for (const name of NAMES) {
  source.addEventListener(name, ({ type, lastEventId, data }) => print({ type, id: lastEventId, data }));
}

source.addEventListener("complete", () => source.close());

source.addEventListener("error", ({ code, message }) => {
  print({ type: "error", code, message });
  if (source.readyState === source.CLOSED) process.exitCode = 1;
});
