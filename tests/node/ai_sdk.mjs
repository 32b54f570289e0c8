/*
 * Clients of the AI SDK as they are published. Reads lines of JSON, one for each chat, `{id, client, …}`; prints `{id, begun}` with the
 * id of the run when its answer has begun, and `{id, …}` with what the client shows when it is over. Each request says by its header
 * `X-Plan` which chat it belongs to.
 */

import { createInterface } from "node:readline";
import { AssistantChatTransport } from "@assistant-ui/react-ai-sdk";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import * as ai7 from "ai";
import * as ai6 from "ai6";

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
console.error = console.warn = () => {}; // WorkflowChatTransport tells of each connection that breaks

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
  const { AbstractChat, lastAssistantMessageIsCompleteWithToolCalls } = about.client === "ai6" ? ai6 : ai7;
  let run = about.run;
  let begun = false;
  let stored = about.run ?? null;
  const storage = { getStreamId: () => stored, setStreamId: (id) => void (stored = id), clear: () => void (stored = null) };
  const fetching = async (url, init) => {
    const headers = new Headers(init?.headers);
    headers.set("X-Plan", about.plan);
    const response = await fetch(url, { ...init, headers });
    run = response.headers.get("x-workflow-run-id") ?? run;
    return response;
  };
  const api = about.url;
  const finished = [];
  const open = (messages) => {
    class Chat extends AbstractChat {}
    const state = new State(messages);
    const { pushMessage, replaceMessage } = state;
    const look = (message) => {
      if (begun || message.role !== "assistant" || !(about.wait === "any" || message.parts.some(({ type, text }) => type === "text" && text))) return;
      begun = true;
      print({ id: about.id, begun: run });
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
  print({ id: about.id, first, ...seen(chat), finished, run, stored });
}

process.on("unhandledRejection", (error) => print({ id: null, broken: String(error?.stack ?? error) }));
for await (const line of createInterface({ input: process.stdin })) {
  const about = JSON.parse(line);
  ask(about).catch((error) => print({ id: about.id, broken: String(error?.stack ?? error) }));
}
process.exit(0);
