/* What the pages have in common. */

import { EventStream } from "../django_agent_sse/client.js";

export function seconds(value) {
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

/* An element with properties and children. */

export function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/* How far a build is: what it says of itself, else by what earlier ones took (`usual`, `elapsed` in seconds, null if unknown). */

export function showProgress(slot, progress, usual, elapsed) {
  const bar = slot.querySelector("progress");
  const told = progress?.fraction ?? null;
  const fraction = told ?? (usual && elapsed !== null ? Math.min(0.95, elapsed / usual) : null);
  if (fraction === null) bar.removeAttribute("value");
  else bar.value = fraction;
  bar.title = fraction === null ? "" : `${told === null ? "about " : ""}${Math.round(fraction * 100)} %`;
  slot.querySelector(".step").textContent = progress?.step ?? "";
}

/* Show how a stream is. */

export function showConnection(state, text) {
  const connection = document.getElementById("connection");
  connection.dataset.state = state;
  connection.replaceChildren(text);
}

/* Have a screen reader say this, when it has said what it says now. What grows word by word is said once, when it is whole. */

export function announce(text) {
  document.getElementById("announced").textContent = text;
}

/* A stream whose state is shown, by `changed(state, text)`. One that the server has ended is asked for again: its guard says why. */

export function follow({ address, login, live, lastEventId = "", changed = showConnection }) {
  const stream = new EventStream(address, { lastEventId });
  stream.addEventListener("statechange", ({ state, reason, status }) => {
    if (state === "open") changed("live", live);
    else if (state === "reconnecting") changed("reconnecting", "reconnecting");
    else if (state === "ended" && reason === "completed") stream.reopen();
    else if (state === "ended" || state === "error") changed("refused", refusal(status, login));
  });
  return stream;
}

const REFUSALS = { 403: "You may not see this.", 404: "This is gone." };

export function refusal(status, login) {
  if (status !== 401) return REFUSALS[status] ?? "The server refused; reload to try again.";
  const href = `${login}?next=${encodeURIComponent(location.pathname)}`;
  return make("span", {}, "You are signed out. ", make("a", { href }, "Sign in again"));
}
