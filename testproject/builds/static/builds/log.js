"use strict";

/* The log of one build, as it arrives. Lines go into the page once a frame, in blocks that the browser lays out only when they
   are seen (`content-visibility` in builds.css): that keeps find, select and copy, with a hundred thousand lines. */

const BLOCK = 500;
const NEAR_END = 24; // pixels
const HANDLING = 1000; // milliseconds

const $ = (id) => document.getElementById(id);
const log = $("log");
let started = log.dataset.started ? new Date(log.dataset.started) : null; // null: it waits

const colours = {}; // of each output, from line to line
let pending = [];
let block = null;
let lines = 0;
let errors = 0;
let unseen = 0;
let following = true;
let reached = 0; // where the log was scrolled to
let handled = -Infinity; // when the reader last did what can scroll it
let over = false;
let frame = 0;
let progress = null;
let sought = location.hash; // the line that a link asks for

/* Lines */

function row(kind, number, text) {
  const line = document.createElement("div");
  line.className = `line ${kind}`;
  if (kind !== "missing") line.id = `L${number}`;
  const label = document.createElement("span");
  label.className = "n";
  label.textContent = number;
  const body = document.createElement("span");
  body.className = "text";
  body.append(...sgr(colours[kind] ??= new Map(), text));
  line.append(label, body);
  return line;
}

function add(kind, number, text) {
  pending.push([kind, number, text]);
  frame ||= requestAnimationFrame(render);
}

function render() {
  frame = 0;
  for (const [kind, number, text] of pending) {
    if (!block || block.childElementCount >= BLOCK) {
      block?.classList.add("full");
      block = document.createElement("div");
      block.className = "block";
      $("text").append(block);
    }
    block.append(row(kind, number, text));
  }
  unseen += pending.length;
  pending = [];
  seek();
  $("lines").textContent = lines.toLocaleString();
  $("errors").textContent = errors.toLocaleString();
  showFollowing();
}

function seek() {
  const line = /^#L\d+$/.test(sought) && $(sought.slice(1));
  if (!line) return;
  sought = "";
  following = false;
  line.classList.add("target");
  line.scrollIntoView({ block: "center" });
}

addEventListener("hashchange", () => {
  sought = location.hash;
  seek();
  showFollowing();
});

/* Following the end, until the reader scrolls up from it */

function toEnd() {
  log.scrollTop = log.scrollHeight;
  reached = log.scrollTop;
}

function showFollowing() {
  if (following) {
    toEnd();
    unseen = 0;
  }
  const news = unseen ? `↓ ${unseen.toLocaleString()} new` : "↓ To the end";
  $("follow").setAttribute("aria-pressed", following);
  $("follow").textContent = following ? "Following" : news;
  $("follow").hidden = following && over;
}

/* Scrolling alone is no sign of the reader: lines turn out taller or lower than was assumed before they were first laid out. */
for (const kind of ["wheel", "touchmove", "keydown"]) log.addEventListener(kind, () => { handled = performance.now(); }, { passive: true });
log.addEventListener("pointerdown", () => { handled = Infinity; });
addEventListener("pointerup", () => { handled = performance.now(); });

log.addEventListener("scroll", () => {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight <= NEAR_END;
  const up = log.scrollTop < reached && performance.now() - handled < HANDLING;
  reached = log.scrollTop;
  if (atEnd !== following && (atEnd || up)) {
    following = atEnd;
    showFollowing();
  }
}, { passive: true });

new ResizeObserver(() => { if (following) toEnd(); }).observe($("text"));

$("follow").addEventListener("click", () => {
  following = !following;
  showFollowing();
});

/* The build's state */

function tick() {
  if (over || !started) return;
  const elapsed = Math.max(0, (Date.now() - started) / 1000);
  $("duration").textContent = seconds(elapsed);
  $("going").hidden = false;
  showProgress($("going"), progress, Number(log.dataset.usual), elapsed);
}

function showStatus(status) {
  $("status").dataset.status = status;
  $("status").textContent = status;
}

function showEnd({ status, exit_code, duration }) {
  over = true;
  clearInterval(clock);
  $("going").hidden = true;
  showStatus(status);
  if ($("cancel")) $("cancel").hidden = true;
  if ($("triage")) $("triage").hidden = status !== "failed";
  if ($("again")) $("again").hidden = false;
  $("duration").textContent = duration === null ? "–" : seconds(duration);
  $("exit").textContent = {
    lost: "The server that ran it ended.",
    stopped: "The server ended, and it with it.",
    cancelled: duration === null ? "It never ran." : "Somebody cancelled it.",
  }[status] ?? (exit_code < 0 ? `signal ${-exit_code}` : `exit code ${exit_code}`);
  showFollowing();
  const mark = { passed: "✓", failed: "✗" }[status] ?? "■";
  document.title = `${mark} ${document.title}`;
}

/* The connection: EventSource reconnects by itself, and sends the last number that it got */

function showConnection(state, text) {
  $("connection").dataset.state = state;
  $("connection").replaceChildren(text);
}

const source = new EventSource(log.dataset.stream);
const numberOf = (event) => Number(event.lastEventId.split(".").pop()); // the topic holds lines only: an offset is a line's number

async function refused() {
  over = true;
  source.close();
  clearInterval(clock);
  showConnection("refused", await refusal(log.dataset.stream, log.dataset.login));
}

source.addEventListener("open", () => showConnection("live", "live"));

source.addEventListener("status", (event) => {
  const { status } = JSON.parse(event.data);
  if (status === "running") started = new Date();
  showStatus(status);
});

source.addEventListener("stdout", (event) => {
  lines += 1;
  add("stdout", numberOf(event), event.data);
});

source.addEventListener("stderr", (event) => {
  lines += 1;
  errors += 1;
  add("stderr", numberOf(event), event.data);
});

source.addEventListener("progress", (event) => { progress = JSON.parse(event.data); });

source.addEventListener("missing", (event) => {
  const { first, last } = JSON.parse(event.data);
  add("missing", "…", `lines ${first} to ${last} are no longer kept`);
});

source.addEventListener("sse.gap", (event) => {
  const { reason, missed } = JSON.parse(event.data);
  add("missing", "…", missed === null ? `the log begins anew (${reason})` : `${missed} lines are no longer kept`);
});

source.addEventListener("complete", (event) => {
  source.close();
  render();
  showEnd(JSON.parse(event.data));
  showConnection("ended", "ended");
});

source.addEventListener("sse.end", refused); // before "complete": it is not for us any more

source.addEventListener("error", () => {
  if (over) return;
  if (source.readyState === EventSource.CLOSED) refused();
  else showConnection("reconnecting", "reconnecting");
});

const clock = setInterval(tick, 100);
tick();
