"use strict";

/* When a build has failed, its page offers to say why. */

document.addEventListener("sse-log:end", ({ detail }) => {
  document.getElementById("triage").hidden = detail.status !== "failed";
});
