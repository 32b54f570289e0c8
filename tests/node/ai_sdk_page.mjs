/* Pages with `useChat` of @ai-sdk/react, and with assistant-ui over its runtime for the AI SDK, as their documentations have them. */

import { AssistantRuntimeProvider, ComposerPrimitive, MessagePrimitive, ThreadPrimitive } from "@assistant-ui/react";
import { AssistantChatTransport, createResumableSessionStorage, useChatRuntime } from "@assistant-ui/react-ai-sdk";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import React from "react";
import { createRoot } from "react-dom/client";

const h = React.createElement;
const show = (page) => createRoot(document.body.appendChild(document.createElement("main"))).render(h(React.StrictMode, null, h(page)));

/** A chat that is resumed where the page is opened, and whose button stops the run and not the reading of it alone. */
export function chat(api, id) {
  let run = null;
  const transport = new DefaultChatTransport({
    api,
    fetch: async (...request) => {
      const response = await fetch(...request);
      run = response.headers.get("x-workflow-run-id") ?? run;
      return response;
    },
  });
  show(function Chat() {
    const { messages, sendMessage, status, error } = useChat({ id, transport, resume: true });
    window.messages = messages.filter(({ role }) => role === "assistant");
    return h(
      React.Fragment,
      null,
      h("button", { onClick: () => sendMessage({ text: "?" }) }, "Send"),
      h("button", { onClick: () => fetch(`${api}/${run}/stop`, { method: "POST" }) }, "Stop"),
      h("output", null, status),
      h("em", null, error?.message),
      messages.map(({ id, role, parts }) => h("article", { key: id, className: role }, parts.map(({ text }, index) => h("p", { key: index }, text)))),
    );
  });
}

/** The same with assistant-ui, which keeps the id of the run in the tab's `sessionStorage`. */
export function assistant(api) {
  const storage = createResumableSessionStorage();
  const transport = new AssistantChatTransport({ api, resumable: { storage, resumeApi: (id) => `${api}/${id}/stream` } });
  const Message = () => h(MessagePrimitive.Root, { render: h("article") }, h(MessagePrimitive.Parts));
  show(function Page() {
    const runtime = useChatRuntime({ transport });
    return h(
      AssistantRuntimeProvider,
      { runtime },
      h(ThreadPrimitive.Messages, { components: { UserMessage: () => null, AssistantMessage: Message } }),
      h(ComposerPrimitive.Root, null, h(ComposerPrimitive.Input), h(ComposerPrimitive.Send, null, "Send")),
    );
  });
}
