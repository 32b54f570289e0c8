/*
 * Unmodified SDKs of OpenAI and Anthropic. Reads lines of JSON, `{id, client, …}`; prints `{id, begun}` with the id of the answer when
 * half of it is there, and then what the SDK made of it, `{id, seen}`.
 */

import { createInterface } from "node:readline";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const prompt = [{ role: "user", content: "hello" }];
const made = new Map();

/* One client for an address and a number of retries. */
function client(Kind, { url, retries }) {
  const key = `${Kind.name} ${url} ${retries}`;
  if (!made.has(key)) made.set(key, new Kind({ baseURL: url, apiKey: "k", maxRetries: retries }));
  return made.get(key);
}

const options = ({ headers, query }) => ({ headers, query });

function take(seen, kind, text = "", { number, usage, id } = {}) {
  seen.text += text ?? "";
  seen.kinds.push(kind);
  if (number !== undefined) seen.numbers.push(number);
  if (usage !== undefined) seen.usage = usage;
  if (id) seen.id = id;
  if (text && seen.text.endsWith(": Djan")) seen.half();
}

const takeChat = (seen, { id, choices, usage }) => take(seen, "chunk", choices[0]?.delta.content, { id, usage: usage?.total_tokens });
const takeResponses = (seen, { type, delta, sequence_number, response }) =>
  take(seen, type, type === "response.output_text.delta" ? delta : "", {
    number: sequence_number,
    id: response?.id,
    usage: response?.usage?.total_tokens,
  });
const takeMessages = (seen, { type, delta, message, usage }) =>
  take(seen, type, type === "content_block_delta" ? delta.text : "", { id: message?.id, usage: usage?.output_tokens });

const clients = {
  async chat(ask, seen) {
    const about = { model: ask.model, messages: prompt, stream: true };
    for await (const chunk of await client(OpenAI, ask).chat.completions.create(about, options(ask))) takeChat(seen, chunk);
  },
  async "chat helper"(ask, seen) {
    const stream = client(OpenAI, ask).chat.completions.stream({ model: ask.model, messages: prompt }, options(ask));
    for await (const chunk of stream) takeChat(seen, chunk);
    seen.final = await stream.finalContent();
  },
  async responses(ask, seen) {
    const about = { model: ask.model, input: "hello", stream: true };
    for await (const event of await client(OpenAI, ask).responses.create(about, options(ask))) takeResponses(seen, event);
  },
  async "responses helper"(ask, seen) {
    const stream = client(OpenAI, ask).responses.stream({ model: ask.model, input: "hello" }, options(ask));
    for await (const event of stream) takeResponses(seen, event);
    const { status, output_text } = await stream.finalResponse();
    seen.final = `${status}: ${output_text}`;
  },
  /* Comes back with `starting_after` until it has the end. */
  async "responses again"(ask, seen) {
    const { responses } = client(OpenAI, ask);
    const over = () => ["response.completed", "response.failed", "response.incomplete", "error"].includes(seen.kinds.at(-1));
    for (; !over() && seen.connections < 40; seen.connections += 1)
      try {
        const stream = seen.id
          ? await responses.retrieve(seen.id, { stream: true, starting_after: seen.numbers.at(-1) }, { headers: ask.headers })
          : await responses.create({ model: ask.model, input: "hello", stream: true }, options(ask));
        for await (const event of stream) takeResponses(seen, event);
      } catch (error) {
        if (error instanceof OpenAI.APIError && error.status) throw error;
        seen.error = error.constructor.name;
      }
    seen.error = null;
  },
  async messages(ask, seen) {
    const about = { model: ask.model, max_tokens: 9, messages: prompt, stream: true };
    for await (const event of await client(Anthropic, ask).messages.create(about, options(ask))) takeMessages(seen, event);
  },
  async "messages helper"(ask, seen) {
    const stream = client(Anthropic, ask).messages.stream({ model: ask.model, max_tokens: 9, messages: prompt }, options(ask));
    for await (const event of stream) takeMessages(seen, event);
    seen.final = await stream.finalText();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, client, ...ask } = JSON.parse(line);
  const seen = { text: "", kinds: [], numbers: [], usage: null, id: "", error: null, message: "", final: null, connections: 0 };
  const half = () => console.log(JSON.stringify({ id, begun: seen.id }));
  Object.defineProperty(seen, "half", { value: half });
  clients[client](ask, seen)
    .catch((error) => Object.assign(seen, { error: error.constructor.name, message: `${error.message}` }))
    .then(() => console.log(JSON.stringify({ id, seen })));
}
