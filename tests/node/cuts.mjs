/*
 * Unmodified clients behind a proxy that cuts each one's first connection after k bytes of the body, for every k of `BYTES`.
 *
 * Prints the proxy's address, then, for each client, the cuts after which it did not get each of the numbers once and in order;
 * then serves others until its standard input ends.
 */

import http from "node:http";
import net from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";

const { ORIGIN, TARGET, BYTES, TO, STATIC } = process.env;
const { EventStream } = await import(pathToFileURL(join(STATIC, "client.js")));
const upstream = new URL(ORIGIN);
const AT_ONCE = 40;
const PATIENCE = 20_000;
const wanted = Array.from({ length: Number(TO) }, (_, index) => index + 1).join();
const seen = new Set();
const passed = new Map(); // what went through before the cut

/* The raw body is counted, chunks' frames included: a cut falls inside of events, between them, and inside of the coding. */
const proxy = net.createServer((client) => {
  client.on("error", () => {});
  client.once("data", (head) => {
    const path = head.toString("latin1").split(" ")[1];
    const [, name, k] = path.split("/");
    const cut = seen.has(`${name}/${k}`) ? Infinity : Number(k);
    seen.add(`${name}/${k}`);
    const server = net.connect(upstream.port, upstream.hostname, () =>
      server.write(head.toString("latin1").replace(path, TARGET).replace(/Connection: keep-alive/i, "Connection: close"), "latin1"),
    );
    server.on("error", () => {});
    let body = -1;
    let start = Buffer.alloc(0);
    server.on("data", (data) => {
      if (body < 0) {
        start = Buffer.concat([start, data]);
        const end = start.indexOf("\r\n\r\n");
        if (end < 0) return;
        client.write(start.subarray(0, end + 4));
        data = start.subarray(end + 4);
        body = 0;
      }
      const left = cut - body;
      body += data.length;
      const part = data.subarray(0, Math.max(0, Math.min(left, data.length)));
      if (part.length) client.write(part);
      if (cut < Infinity) passed.set(`${name}/${k}`, (passed.get(`${name}/${k}`) ?? "") + part.toString());
      if (body >= cut) {
        server.destroy();
        client.end();
      }
    });
    server.on("close", () => client.end());
    client.on("close", () => server.destroy());
  });
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const base = `http://127.0.0.1:${proxy.address().port}`;
console.log(JSON.stringify({ base }));

const clients = {
  /* Resolve with the numbers at the end; `numbers` shows them while it runs. */
  async "fetch-event-source"(url, numbers) {
    await fetchEventSource(url, {
      openWhenHidden: true,
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

for (const [name, run] of Object.entries(clients)) {
  const wrong = [];
  const cuts = Array.from({ length: Number(BYTES) }, (_, k) => k);
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let k = cuts.shift(); k !== undefined; k = cuts.shift()) {
        const numbers = [];
        const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, "late").unref());
        const outcome = await Promise.race([run(`${base}/${name}/${k}/`, numbers).catch((error) => `${error}`), late]);
        if (numbers.join() !== wanted || outcome) wrong.push({ k, numbers, outcome, after: passed.get(`${name}/${k}`)?.slice(-20) });
      }
    }),
  );
  console.log(JSON.stringify({ name, wrong }));
}
process.stdin.on("end", () => process.exit(0)).resume();
