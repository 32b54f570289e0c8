"use strict";

/* Why a stream was refused. EventSource keeps the status to itself; the same address tells it to HEAD, without a stream. */

async function refusal(address, login) {
  const said = document.createElement("span");
  let status = 0;
  try {
    status = (await fetch(address, { method: "HEAD" })).status;
  } catch { /* no server, no answer */ }
  if (status === 401) {
    const link = document.createElement("a");
    link.href = `${login}?next=${encodeURIComponent(location.pathname)}`;
    link.textContent = "Sign in again";
    said.append("You are signed out. ", link);
  } else {
    said.append({ 403: "You may not see this.", 404: "This is gone." }[status] ?? "The server refused; reload to try again.");
  }
  return said;
}
