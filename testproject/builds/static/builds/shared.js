/* What the pages have in common. */

import { EventStream } from "../django_agent_sse/client.js";

export function seconds(value) {
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
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

/* A stream whose state is shown: `show(state, text)`. One that the server has ended is asked for again: its guard says why. */

export function follow({ address, login, live, show }) {
  const stream = new EventStream(address);
  stream.addEventListener("statechange", ({ state, reason, status }) => {
    if (state === "open") show("live", live);
    else if (state === "reconnecting") show("reconnecting", "reconnecting");
    else if (state === "ended" && reason === "completed") stream.reopen();
    else if (state === "ended" || state === "error") show("refused", refusal(status, login));
  });
  return stream;
}

function refusal(status, login) {
  const said = document.createElement("span");
  if (status === 401) {
    const link = document.createElement("a");
    link.href = `${login}?next=${encodeURIComponent(location.pathname)}`;
    link.textContent = "Sign in again";
    said.append("You are signed out. ", link);
  } else {
    said.append({ 403: "You may not see this.", 404: "This is gone.", 409: "The build is not over yet; reload when it is." }[status] ?? "The server refused; reload to try again.");
  }
  return said;
}
