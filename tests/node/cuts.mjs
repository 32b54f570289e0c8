/*
 * Unmodified clients, those of `CLIENTS`, behind a proxy that cuts each one's first connection after k bytes of the body, for every k
 * of `BYTES`.
 *
 * Prints the proxy's address, then, for each client, the cuts after which it did not get each of the numbers once and in order;
 * then serves others until its standard input ends, and prints the last that each had before its cut, how often each
 * connected, and how what they got was coded.
 */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import { codings, connections, listen, passed } from "./cutting.mjs";

const { BYTES, CLIENTS, TO, STATIC } = process.env;
const { EventStream } = await import(pathToFileURL(join(STATIC, "client.js")));
const AT_ONCE = 40;
const PATIENCE = 120_000;
const wanted = Array.from({ length: Number(TO) }, (_, index) => index + 1).join();
const base = await listen();
console.log(JSON.stringify({ base }));

const clients = {
  /* Resolve with the numbers at the end; `numbers` shows them while it runs. */
  async "fetch-event-source"(url, numbers) {
    await fetchEventSource(url, {
      openWhenHidden: true,
      async onopen({ status }) {
        if (status === 204) throw new Error("over");
      },
      onmessage({ event, data }) {
        if (event === "number") numbers.push(JSON.parse(data).number);
        if (event === "sse.end") throw new Error("over");
      },
      onerror(error) {
        if (error.message === "over") throw error;
        return 20;
      },
    }).catch((error) => {
      if (error.message !== "over") throw error;
    });
  },
  eventsource: (url, numbers) =>
    new Promise((resolve) => {
      const source = new EventSource(url);
      source.addEventListener("number", ({ data }) => numbers.push(JSON.parse(data).number));
      source.addEventListener("sse.end", () => resolve(source.close()));
    }),
  async EventStream(url, numbers) {
    const stream = new EventStream(url, { reconnect: { baseDelay: 20, jitter: 0 } });
    for await (const { type, data } of stream) if (type === "number") numbers.push(JSON.parse(data).number);
  },
};

globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
globalThis.window ??= { setTimeout, clearTimeout, fetch: globalThis.fetch };

for (const name of CLIENTS.split(",").filter(Boolean)) {
  const run = clients[name];
  const wrong = [];
  const cuts = Array.from({ length: Number(BYTES) }, (_, k) => k);
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let k = cuts.shift(); k !== undefined; k = cuts.shift()) {
        const numbers = [];
        const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, "late").unref());
        const outcome = await Promise.race([run(`${base}/${name}/${k}/`, numbers).catch((error) => `${error}`), late]);
        if (numbers.join() !== wanted || outcome) wrong.push({ k, numbers, outcome });
      }
    }),
  );
  console.log(JSON.stringify({ name, wrong }));
}
process.stdin
  .on("end", () => {
    const seen = {
      before: Object.fromEntries([...passed].map(([key, text]) => [key, text.slice(-40)])),
      connections: Object.fromEntries(connections),
      codings: Object.fromEntries([...codings].map(([name, all]) => [name, [...all]])),
    };
    process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
  })
  .resume();
