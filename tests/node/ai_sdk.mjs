/*
 * Clients of the AI SDK as they are published, behind a proxy that cuts their connections. Reads JSON from stdin, a line for each
 * chat, and prints JSON: a line when its answer has begun, one when it is over.
 */

import http from "node:http";
import { createInterface } from "node:readline";
import { AssistantChatTransport } from "@assistant-ui/react-ai-sdk";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import * as ai7 from "ai";
import * as ai6 from "ai6";

const AT_ONCE = 16;
const plans = new Map();
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
console.error = console.warn = () => {}; // WorkflowChatTransport tells of each connection that breaks

/* What is left of the body after a cut: `events` whole ones, then `bytes` of the next; negative, so many before its end. */
const cutter = ({ events, bytes }) => {
  let rest = Buffer.alloc(0);
  let seen = 0;
  return (data) => {
    rest = Buffer.concat([rest, data]);
    let at = 0;
    while (seen < events) {
      const end = rest.indexOf("\n\n", at);
      if (end < 0) return [take(at), false];
      at = end + 2;
      seen += 1;
    }
    if (!bytes) return [take(at), true];
    const end = rest.indexOf("\n\n", at) + 2;
    if (end < 2) return [take(at), false];
    return [take(bytes < 0 ? Math.max(at, end + bytes) : Math.min(at + bytes, end - 3)), true];
  };
  function take(to) {
    const part = rest.subarray(0, to);
    rest = rest.subarray(to);
    return part;
  }
};

const proxy = http.createServer((request, response) => {
  const [, number, ...path] = request.url.split("/");
  const plan = plans.get(number);
  const { method } = request;
  if (!plan) return void (print({ id: null, broken: `${method} ${request.url}` }), response.destroy());
  const url = `${method === "GET" ? plan.resumeAt ?? plan.origin : plan.origin}/${path.join("/")}`;
  const headers = { ...request.headers, host: new URL(url).host, connection: "close" };
  const asking = http.request(url, { method, headers, agent: false }, (answer) => {
    plan.requests.push(`${method} ${answer.statusCode}`);
    plan.urls.push(path.join("/"));
    const { connection, "transfer-encoding": coding, ...kept } = answer.headers;
    response.writeHead(answer.statusCode, { ...kept, connection: "close" });
    response.flushHeaders();
    const first = plan.cut && (plan.every || plan.cuts === 0) && answer.statusCode === 200;
    plan.cuts += first ? 1 : 0;
    const cut = first ? cutter(plan.cut) : (data) => [data, false];
    answer.on("data", (data) => {
      if (response.writableEnded || response.destroyed || response.isCut) return;
      const [part, over] = cut(data);
      if (part.length) response.write(part);
      if (plan.requests.length === 1) plan.events += part.toString("latin1").split("\n\n").length - 1;
      if (!over) return;
      response.isCut = true;
      asking.destroy();
      if (plan.clean) response.end();
      else response.socket.end();
    });
    answer.on("end", () => response.isCut || response.end());
    answer.on("error", () => response.isCut || response.socket?.end());
  });
  asking.on("error", () => response.headersSent || response.destroy());
  response.on("close", () => asking.destroy());
  request.pipe(asking);
});
proxy.keepAliveTimeout = 1;
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const HERE = `http://127.0.0.1:${proxy.address().port}`;

class State {
  status = "ready";
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => void (this.messages = [...this.messages, message]);
  popMessage = () => void (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => void (this.messages = this.messages.with(index, structuredClone(message)));
  snapshot = (value) => structuredClone(value);
}

/* Each as its documentation has it: the transport, and what belongs into the body beside the messages. */
const clients = {
  ai7: ({ api, fetch }) => new ai7.DefaultChatTransport({ api, fetch }),
  ai6: ({ api, fetch }) => new ai6.DefaultChatTransport({ api, fetch }),
  workflow: ({ api, fetch, about, run }) =>
    new WorkflowChatTransport({
      api,
      fetch,
      initialStartIndex: about.startIndex,
      prepareReconnectToStreamRequest: ({ api: given }) => ({ api: run() ? `${api}/${run()}/stream` : given }),
    }),
  assistant: ({ api, fetch, storage }) =>
    new AssistantChatTransport({ api, fetch, resumable: { storage, resumeApi: (id) => `${api}/${id}/stream` } }),
};

async function ask(about) {
  const plan = { requests: [], urls: [], events: 0, cuts: 0, ...about };
  plans.set(String(about.id), plan);
  const { AbstractChat, lastAssistantMessageIsCompleteWithToolCalls } = about.client === "ai6" ? ai6 : ai7;
  let run = about.run;
  let begun = false;
  let stored = about.run ?? null;
  const storage = { getStreamId: () => stored, setStreamId: (id) => void (stored = id), clear: () => void (stored = null) };
  const fetching = async (...request) => {
    const response = await fetch(...request);
    run = response.headers.get("x-workflow-run-id") ?? run;
    return response;
  };
  const api = `${HERE}/${about.id}/${about.path}`;
  const finished = [];
  const open = (messages) => {
    class Chat extends AbstractChat {}
    const state = new State(messages);
    const { pushMessage, replaceMessage } = state;
    const look = (message) => {
      if (begun || message.role !== "assistant" || !(about.wait === "any" || message.parts.some(({ type, text }) => type === "text" && text))) return;
      begun = true;
      print({ id: about.id, begun: true, run });
    };
    state.pushMessage = (message) => (pushMessage(message), look(message));
    state.replaceMessage = (index, message) => (replaceMessage(index, message), look(message));
    return new Chat({
      id: about.chat,
      state,
      transport: clients[about.client]({ api, fetch: fetching, about, storage, run: () => run }),
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
      onFinish: ({ message, messages, ...how }) => void finished.push(how),
    });
  };
  const seen = (chat) => ({
    messages: chat.messages.filter(({ role }) => role === "assistant"),
    status: chat.status,
    error: chat.error ? `${chat.error.constructor.name}: ${chat.error.message}` : null,
  });
  const question = { id: "question", role: "user", parts: [{ type: "text", text: "?" }] };
  let chat = open(about.resumes ? [question] : []);
  if (about.resumes) await chat.resumeStream();
  else await chat.sendMessage(question, { body: { id: about.chat } });
  const first = seen(chat);
  const pending = about.client !== "assistant" || stored !== null; // its runtime resumes nothing else
  if (about.heal === "resume" && pending) await chat.resumeStream();
  if (about.heal === "reload" && pending) await (chat = open([question])).resumeStream();
  const { requests, urls, events } = plan;
  print({ id: about.id, first, ...seen(chat), finished, requests, urls, events, run, stored });
}

const waiting = [];
let busy = 0;
function next() {
  while (busy < AT_ONCE && waiting.length) {
    const about = waiting.shift();
    busy += about.wait ? 0 : 1;
    ask(about)
      .catch((error) => print({ id: about.id, broken: String(error?.stack ?? error) }))
      .finally(() => {
        busy -= about.wait ? 0 : 1;
        next();
      });
  }
}
process.on("unhandledRejection", (error) => print({ id: null, broken: String(error?.stack ?? error) }));
for await (const line of createInterface({ input: process.stdin })) {
  waiting.push(JSON.parse(line));
  next();
}
process.exit(0);
