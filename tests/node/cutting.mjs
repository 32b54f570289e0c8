/*
 * A proxy before `ORIGIN` that cuts a client's first connection to `/name/k/` after k bytes of the body, and leaves the next ones whole.
 * All of them ask for `TARGET`, and for what the client's own query adds to it.
 */

import net from "node:net";

const { ORIGIN, TARGET } = process.env;
const upstream = new URL(ORIGIN);

/** How many connections there were, by `name/k`. */
export const connections = new Map();
/** What went through before the cut, by `name/k`. */
export const passed = new Map();
/** How the bodies were coded, by `name`. */
export const codings = new Map();

/* The raw body is counted, chunks' frames included: a cut falls inside of events, between them, and inside of the coding. */
const proxy = net.createServer((client) => {
  client.on("error", () => {});
  client.once("data", (head) => {
    const path = head.toString("latin1").split(" ")[1];
    const [, name, k, query = ""] = path.split("/");
    const key = `${name}/${k}`;
    const cut = connections.has(key) ? Infinity : Number(k);
    connections.set(key, (connections.get(key) ?? 0) + 1);
    const server = net.connect(upstream.port, upstream.hostname, () =>
      server.write(head.toString("latin1").replace(path, TARGET + query.replace("?", "&")).replace(/Connection: keep-alive/i, "Connection: close"), "latin1"),
    );
    server.on("error", () => {});
    let body = -1;
    let start = Buffer.alloc(0);
    server.on("data", (data) => {
      if (body < 0) {
        start = Buffer.concat([start, data]);
        const end = start.indexOf("\r\n\r\n");
        if (end < 0) return;
        const [, coding = ""] = start.toString("latin1", 0, end).match(/\r\ncontent-encoding: *(\S+)/i) ?? [];
        codings.set(name, (codings.get(name) ?? new Set()).add(coding));
        client.write(start.subarray(0, end + 4));
        data = start.subarray(end + 4);
        body = 0;
      }
      const left = cut - body;
      body += data.length;
      const part = data.subarray(0, Math.max(0, Math.min(left, data.length)));
      if (part.length) client.write(part);
      if (cut < Infinity) passed.set(key, (passed.get(key) ?? "") + part.toString());
      if (body >= cut) {
        server.destroy();
        client.end();
      }
    });
    server.on("close", () => client.end());
    client.on("close", () => server.destroy());
  });
});

/** Listen; return the address. */
export async function listen() {
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${proxy.address().port}`;
}
