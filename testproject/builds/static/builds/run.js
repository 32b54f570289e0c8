/* A run: POST starts it, GET reads it from wherever this page is in it, DELETE stops it. */

import { EventStream } from "../django_agent_sse/client.js";
import { refusal } from "./shared.js";

function ask(address, { headers, ...options }) {
  const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  return fetch(address, { ...options, headers: { "X-CSRFToken": token, ...headers } });
}

/* The page was refused: a message, or what to do about it. */

export class Refused extends Error {
  constructor(told) {
    super("refused");
    this.told = told;
  }
}

async function checked(answer, login) {
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Refused(answer.status === 401 ? refusal(401, login) : (error?.message ?? error ?? refusal(answer.status, login)));
}

export const newKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");

/* Start one; the address of it, or of the one that goes on already. The same key never starts a second one, so that whoever has got no
   answer may ask again. */

export async function start(address, { body, key, login }) {
  const headers = { Prefer: "respond-async", "Idempotency-Key": key, "Content-Type": "application/json" };
  const answer = await ask(address, { method: "POST", headers, body: JSON.stringify(body ?? {}) });
  const other = answer.status === 409 ? answer.headers.get("Location") : null;
  if (other) return { url: other, other: true };
  return { url: (await (await checked(answer, login)).json()).url, other: false };
}

export async function stop(address, login) {
  await checked(await ask(address, { method: "DELETE" }), login);
}

/* Read one. `heard` has functions by the names of events; `begins` is called where it is read from its beginning; `over(reason)` once,
   at its end: finished, failed, stopped, interrupted or lost, or why there is nothing to read. */

export function read(address, { heard, begins, over, changed, login }) {
  const stream = new EventStream(address);
  begins();
  stream.addEventListener("*", ({ type, data }) => heard[type]?.(data));
  stream.addEventListener("sse.gap", begins); // all that is kept follows
  stream.addEventListener("run.end", ({ data }) => {
    stream.close();
    over(JSON.parse(data).reason);
  });
  stream.addEventListener("statechange", ({ state, reason, status }) => {
    if (state === "open") changed("live");
    else if (state === "reconnecting") changed("reconnecting", "reconnecting");
    else if (state === "ended") over(reason);
    else if (state === "error") changed("refused", refusal(status, login));
  });
  return stream;
}
