"use strict";

/* What the pages have in common. */

function seconds(value) {
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

/* How far a build is: what it says of itself, else by what earlier ones took (`usual`, `elapsed` in seconds, null if unknown). */

function showProgress(slot, progress, usual, elapsed) {
  const bar = slot.querySelector("progress");
  const told = progress?.fraction ?? null;
  const fraction = told ?? (usual && elapsed !== null ? Math.min(0.95, elapsed / usual) : null);
  if (fraction === null) bar.removeAttribute("value");
  else bar.value = fraction;
  bar.title = fraction === null ? "" : `${told === null ? "about " : ""}${Math.round(fraction * 100)} %`;
  slot.querySelector(".step").textContent = progress?.step ?? "";
}

/* Why a stream was refused. EventSource keeps the status to itself: the address is asked once more, and left at once. */

async function refusal(address, login) {
  const said = document.createElement("span");
  const leaving = new AbortController();
  let status = 0;
  try {
    status = (await fetch(address, { headers: { Accept: "text/event-stream" }, signal: leaving.signal })).status;
    leaving.abort();
  } catch { /* no server, no answer */ }
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
