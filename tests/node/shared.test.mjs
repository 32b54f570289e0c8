/* Tabs that share a connection, at moments that browsers seldom meet: here they are streams of one process. Node.js has BroadcastChannel, and no
   Web Locks: those stand below. What tabs do in a browser is in tests/browser/test_share.py. */

import assert from "node:assert/strict";
import { setTimeout as wait } from "node:timers/promises";
import { test } from "node:test";

/** Locks by name, each held by one at a time, in the order of the requests. */
class Locks {
  #queues = new Map();

  request(name, { signal, steal = false }, callback) {
    const queue = this.#queues.get(name) ?? { holder: null, waiting: [] };
    this.#queues.set(name, queue);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const request = { callback, resolve, reject };
      if (steal) {
        queue.holder?.reject(new DOMException("stolen", "AbortError"));
        queue.holder = null;
        queue.waiting.unshift(request);
      } else {
        queue.waiting.push(request);
      }
      signal?.addEventListener("abort", () => {
        const place = queue.waiting.indexOf(request);
        if (place < 0) return;
        queue.waiting.splice(place, 1);
        reject(signal.reason);
      });
      return this.#grant(queue);
    });
  }

  async #grant(queue) {
    if (queue.holder || !queue.waiting.length) return;
    const request = (queue.holder = queue.waiting.shift());
    await null;
    const [settle, value] = await Promise.resolve(request.callback({})).then((result) => [request.resolve, result], (error) => [request.reject, error]);
    if (queue.holder !== request) return; // it was stolen
    queue.holder = null;
    settle(value);
    this.#grant(queue);
  }

  async query() {
    return { pending: [...this.#queues].flatMap(([name, { waiting }]) => waiting.map(() => ({ name }))) };
  }
}

const looks = []; // what the tabs are told when somebody looks
const hiding = []; // whether the tab that asks next is hidden
Object.defineProperty(globalThis, "navigator", { value: { locks: new Locks() }, configurable: true });
globalThis.addEventListener = (name, listener) => name === "online" && looks.push(listener);
globalThis.document = { addEventListener() {}, get visibilityState() { return hiding.shift() ?? "visible"; } };

const { EventStream, all } = await import("./serving.mjs");
let sites = 0;

/** A site of its own: `site.tab()` opens a stream of it, `site.cut()` breaks those that are open, and `site.down` lets it answer 503. */
function site(context, options = {}) {
  const url = `http://site-${(sites += 1)}.test/`;
  const [bodies, tabs] = [new Set(), []];
  const own = {
    down: false,
    user: "somebody.session",
    fault: "", // the method that the last tab gets 503 for
    asked: [],
    get open() {
      return bodies.size;
    },
    tab() {
      const tab = tabs.length;
      const fetch = async (_, { method, signal }) => {
        own.asked.push([tab, method]);
        if (own.down || (method === own.fault && tab === tabs.length - 1)) return new Response(null, { status: 503 });
        const headers = { "Content-Type": "text/event-stream", "Agent-SSE-Session": own.user };
        if (method === "HEAD") return new Response(null, { headers });
        const start = (body) => {
          bodies.add(body);
          body.enqueue(new TextEncoder().encode("id: 1\ndata: one\n\n"));
          signal.addEventListener("abort", () => bodies.delete(body) && body.error(signal.reason));
        };
        return new Response(new ReadableStream({ start }), { headers });
      };
      const stream = new EventStream(url, { fetch, share: true, reconnect: { baseDelay: 20, jitter: 0 }, ...options });
      tabs.push(stream);
      return stream;
    },
    cut() {
      for (const body of bodies) body.error(new TypeError("cut"));
      bodies.clear();
    },
  };
  context.after(() => tabs.forEach((tab) => tab.close()));
  return own;
}

/** Wait until it is so; fail after fifty seconds. */
async function until(about, isSo) {
  for (let tries = 0; tries < 2_500 && !isSo(); tries += 1) await wait(20);
  assert.ok(isSo(), about);
}

async function sharing(site, count) {
  const tabs = [];
  for (let number = 0; number < count; number += 1) {
    tabs.push(site.tab());
    await until("it is open", () => tabs[number].state === "open");
  }
  await until("they share one connection", () => site.open === 1 && tabs.filter(({ leads }) => leads).length === 1);
  return tabs;
}

test("what a new tab meets with that says nothing of who it is does not take the others their connection", { timeout: 60_000 }, async (context) => {
  const own = site(context);
  const tabs = await sharing(own, 3);
  own.down = true;
  own.asked.length = 0;
  own.tab();
  await until("it was refused some times", () => own.asked.length >= 6);
  assert.deepEqual([...new Set(own.asked.map(([tab]) => tab))], [3], "nobody else asks");
  assert.deepEqual(tabs.map(({ state }) => state), ["open", "open", "open"]);
  assert.equal(own.open, 1);
});

test("who has signed in as somebody else is announced by the first answer that says so", { timeout: 60_000 }, async (context) => {
  const own = site(context);
  const tabs = await sharing(own, 2);
  own.user = "another.session";
  own.fault = "HEAD";
  const stranger = own.tab();
  await until("it is open", () => stranger.state === "open");
  await until("the others are told", () => tabs.every(({ state }) => state === "error"));
  assert.deepEqual(tabs.map(({ reason }) => reason), ["session_changed", "session_changed"]);
});

test("a listener that closes the stream, or opens it anew, has the last word over the share that it leaves", { timeout: 60_000 }, async (context) => {
  const own = site(context);
  const tabs = await sharing(own, 3);
  const others = tabs.filter(({ leads }) => !leads);
  const [closes, reopens] = others;
  closes.addEventListener("statechange", ({ state }) => state === "reconnecting" && closes.close(), { once: true });
  closes.addEventListener("error", () => assert.notEqual(closes.state, "idle", "heard after close()"));
  reopens.addEventListener("statechange", ({ state }) => state === "reconnecting" && reopens.reopen(), { once: true });
  own.down = true;
  own.cut();
  await until("it is closed", () => closes.state === "idle");
  await wait(100);
  own.down = false;
  await until("the others are open again", () => tabs.every((tab) => tab === closes || tab.state === "open"));
  assert.deepEqual([closes.state, closes.reason], ["idle", "closed"]);
});

test("the leader of a tab that somebody looks at does not wait, though it is hidden itself", { timeout: 60_000 }, async (context) => {
  const own = site(context, { reconnect: { baseDelay: 3_600_000, jitter: 0 } });
  looks.length = 0;
  const tabs = await sharing(own, 2);
  assert.ok(tabs[0].leads);
  own.cut();
  await until("they wait", () => tabs.every(({ state }) => state === "reconnecting"));
  hiding.push("hidden"); // the leader's, which listens first
  for (const look of looks) look();
  await until("they are open again", () => tabs.every(({ state }) => state === "open"));
  assert.ok(tabs[0].leads, "it leads still");
});

test("the listener of everything hears each event once in each tab", { timeout: 60_000 }, async (context) => {
  const own = site(context);
  const [first, second] = [own.tab(), own.tab()];
  const heard = [all(first), all(second)];
  await until("both have it", () => heard.every(({ length }) => length >= 1));
  await wait(100);
  assert.deepEqual(heard, [[["message", "one", "1"]], [["message", "one", "1"]]]);
});
