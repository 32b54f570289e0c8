/*
 * Unmodified clients of agents. Reads jobs from its standard input, as JSON, a line each: `{id, client, url, …}`. Prints what each client
 * made of it: `{id, text, error, …}`, and before that `{id, begun: …}` when its first event has come.
 */

import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { HttpAgent } from "@ag-ui/client";
import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client";
import { EventSource } from "eventsource";

const { EventStream } = await import(pathToFileURL(join(process.env.STATIC, "client.js")));
const PATIENCE = 110_000;
const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(`${error}`)); // @ag-ui/client leaves one beside the error that it reports

const told = (error) => (error == null ? null : `${error?.constructor?.name ?? "Error"}: ${error?.message ?? error}`);
const textOf = (message) => (message?.parts ?? []).map((part) => (part.type === "text" ? part.content : "")).join("");

const clients = {
  async "ag-ui"({ url, headers }, say) {
    const agent = new HttpAgent({ url, threadId: "t", headers });
    const got = { text: "", types: [], runError: null, outcome: null };
    const result = await agent
      .runAgent(
        { runId: "r" },
        {
          onEvent({ event }) {
            say();
            got.types.push(event.type);
          },
          onTextMessageContentEvent: ({ event }) => void (got.text += event.delta),
          onRunErrorEvent: ({ event }) => void (got.runError = event),
          onRunFinishedEvent: ({ event }) => void (got.outcome = event.outcome ?? null),
        },
      )
      .catch((error) => ({ error }));
    return { ...got, error: told(result.error), messages: agent.messages };
  },

  async tanstack({ url, join: runId }, say) {
    let error = null;
    const got = { types: [] };
    const adapter = fetchServerSentEvents(url, { reconnect: { delayMs: 5 } });
    const through = async function* (source) {
      for await (const chunk of source) {
        say(got.runId);
        got.types.push(chunk.type);
        yield chunk;
      }
    };
    if (runId) {
      let text = "";
      try {
        for await (const chunk of through(adapter.joinRun(runId))) if (chunk.type === "TEXT_MESSAGE_CONTENT") text += chunk.delta;
      } catch (caught) {
        error = caught;
      }
      return { ...got, text, error: told(error) };
    }
    const connection = { ...adapter, connect: (...given) => ((got.runId = given[3].runId), through(adapter.connect(...given))) };
    const client = new ChatClient({ connection, threadId: "t", onError: (caught) => (error = caught) });
    await client.sendMessage("hello").catch((caught) => (error ??= caught));
    const messages = client.getMessages().filter(({ role }) => role === "assistant");
    client.dispose?.();
    return { ...got, text: messages.map(textOf).join(""), error: told(error), status: client.getStatus?.(), messages };
  },

  /* What browsers have: a GET that comes back by itself, until the page closes it, or the server answers that there is no more. */
  eventsource: ({ url, closes }, say) =>
    new Promise((resolve) => {
      const got = { text: "", ids: [], ending: null, error: null };
      const source = new EventSource(url);
      const over = (about) => {
        source.close();
        resolve({ ...got, ...about });
      };
      source.onmessage = ({ data, lastEventId }) => {
        say();
        got.text += JSON.parse(data).word;
        got.ids.push(lastEventId);
      };
      source.addEventListener("run.end", ({ data }) => (got.ending = JSON.parse(data).reason));
      if (closes) source.addEventListener("sse.end", () => over({}));
      source.onerror = ({ code }) => {
        if (source.readyState === EventSource.CLOSED) over({ error: code });
      };
    }),

  async EventStream({ url }, say) {
    const got = { text: "", ids: [], ending: null };
    const stream = new EventStream(url, { reconnect: { baseDelay: 5, jitter: 0 } });
    let error = null;
    try {
      for await (const { type, data, lastEventId } of stream) {
        say();
        if (type === "message") {
          got.text += JSON.parse(data).word;
          got.ids.push(lastEventId);
        }
        if (type === "run.end") got.ending = JSON.parse(data).reason;
      }
    } catch (caught) {
      error = caught;
    }
    return { ...got, error: told(error), state: `${stream.state}: ${stream.reason}` };
  },
};

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const job = JSON.parse(line);
    let begun = false;
    const say = (about = true) => {
      if (!begun) print({ id: job.id, begun: about });
      begun = true;
    };
    const late = new Promise((resolve) => setTimeout(resolve, PATIENCE, { error: "it never ends" }).unref());
    const outcome = await Promise.race([clients[job.client](job, say).catch((error) => ({ error: `program: ${error.stack}` })), late]);
    print({ id: job.id, ...outcome });
  })
  .on("close", () => process.exit(0));
