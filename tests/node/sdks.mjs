/* Unmodified SDKs from npm against `ORIGIN`: what each made of answers with these `ENDINGS`. Prints JSON, a line each. */

import { HttpAgent } from "@ag-ui/client";
import Anthropic from "@anthropic-ai/sdk";
import { DefaultChatTransport, readUIMessageStream } from "ai";
import OpenAI from "openai";

process.on("unhandledRejection", () => {}); // @ag-ui/client leaves one beside the error that it reports

const { ORIGIN, ENDINGS } = process.env;
const question = [{ role: "user", content: "hello" }];

const clients = {
  async "openai chat"(base, got) {
    const client = new OpenAI({ baseURL: `${base}/openai`, apiKey: "k", maxRetries: 0 });
    for await (const chunk of await client.chat.completions.create({ model: "m", messages: question, stream: true }))
      got(chunk.choices[0].delta.content ?? "");
  },
  async "openai responses"(base, got) {
    const client = new OpenAI({ baseURL: `${base}/openai`, apiKey: "k", maxRetries: 0 });
    for await (const event of await client.responses.create({ model: "m", input: "hello", stream: true }))
      if (event.type === "response.output_text.delta") got(event.delta);
  },
  async anthropic(base, got) {
    const client = new Anthropic({ baseURL: `${base}/anthropic`, apiKey: "k", maxRetries: 0 });
    for await (const event of await client.messages.create({ model: "m", max_tokens: 9, messages: question, stream: true }))
      if (event.type === "content_block_delta") got(event.delta.text);
  },
  async ai(base, got) {
    const transport = new DefaultChatTransport({ api: `${base}/ai` });
    const messages = [{ id: "u1", role: "user", parts: [{ type: "text", text: "hello" }] }];
    const stream = await transport.sendMessages({ chatId: "c", messages, trigger: "submit-message" });
    let text = "";
    for await (const message of readUIMessageStream({ stream, terminateOnError: true })) {
      const now = message.parts.map((part) => part.text ?? "").join("");
      got(now.slice(text.length));
      text = now;
    }
  },
  async "ag-ui"(base, got) {
    const agent = new HttpAgent({ url: `${base}/agui`, threadId: "t1" });
    await agent.runAgent({ runId: "r1" }, { onTextMessageContentEvent: ({ event }) => void got(event.delta) });
  },
};

await Promise.all(
  ENDINGS.split(",").flatMap((ending) => Object.entries(clients).map(async ([name, run]) => {
    let text = "";
    let error = null;
    const first = (delta) => {
      if (delta && !text) process.stdout.write(`${JSON.stringify({ ending, name, begun: true })}\n`);
      text += delta;
    };
    try {
      await run(`${ORIGIN}/sdk/${ending}`, first);
    } catch (caught) {
      error = `${caught?.constructor?.name}: ${caught?.message}`;
    }
    process.stdout.write(`${JSON.stringify({ ending, name, text, error })}\n`);
  })),
);
process.exit(0);
