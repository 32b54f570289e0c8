/* A real server on the loopback for tests of the client, which answers one request after the other as the test says. */

import http from "node:http";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { test } from "node:test";

const { EventStream, Parser, StreamError, StreamMessage } = await import(pathToFileURL(join(process.env.STATIC, "client.js")));
export { EventStream, Parser, StreamError, StreamMessage };

export const STREAM = { "Content-Type": "text/event-stream" };

/** Event-stream text of a response that stays open. */
export const open = (text) => (request, response) => {
  response.writeHead(200, STREAM);
  response.write(text || ":\n");
};

/** Event-stream text of a response that ends. */
export const ended = (text) => (request, response) => {
  response.writeHead(200, STREAM);
  response.end(text);
};

/** Event-stream text, then a connection that breaks. */
export const cut = (text) => (request, response) => {
  response.writeHead(200, STREAM);
  response.write(text, () => response.destroy());
};

/** A status, and nothing to read. */
export const status = (code, headers = {}) => (request, response) => {
  response.writeHead(code, headers);
  response.end();
};

/** A test with a server: `answers` are given in order, the last one for ever; `seen` are the requests. */
export function served(name, answers, body) {
  test(name, { timeout: 60_000 }, async () => {
    const seen = [];
    const server = http.createServer(async (request, response) => {
      let text = "";
      const answer = answers[Math.min(seen.length, answers.length - 1)];
      const record = { method: request.method, url: request.url, headers: request.headers, response };
      seen.push(record);
      for await (const chunk of request) text += chunk;
      record.body = text;
      request.resume();
      answer(request, response);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const streams = [];
    const connect = (path = "/", options = {}) => {
      const own = { reconnect: { baseDelay: 1, jitter: 0 }, ...options };
      const stream = new EventStream(new URL(path, `http://127.0.0.1:${server.address().port}`).href, own);
      streams.push(stream);
      return stream;
    };
    try {
      await body({ connect, seen });
    } finally {
      for (const stream of streams) stream.close();
      server.closeAllConnections();
      server.close();
    }
  });
}

/** The first event of this name for which `probe` is true. */
export const first = (target, name, probe = () => true) =>
  new Promise((resolve) => {
    const listen = (event) => {
      if (!probe(event)) return;
      target.removeEventListener(name, listen);
      resolve(event);
    };
    target.addEventListener(name, listen);
  });

/** The stream's state, once it is that. */
export const state = async (stream, wanted) =>
  stream.state === wanted ? stream : first(stream, "statechange", (event) => event.state === wanted);

/** Everything that the server says, as [type, data, lastEventId]. */
export function all(stream) {
  const got = [];
  stream.addEventListener("*", ({ type, data, lastEventId }) => got.push([type, data, lastEventId]));
  return got;
}

/** Every state, as a word or [state, reason]. */
export function states(stream) {
  const got = [];
  stream.addEventListener("statechange", ({ state: now, reason }) => got.push(`${now}: ${reason}`));
  return got;
}
