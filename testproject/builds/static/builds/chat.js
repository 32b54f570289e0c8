/* A chat whose answers are runs: each goes on whether or not this page reads it, and is there again after a reload, once and whole. */

import { Markup } from "./markup.js";
import { newKey, read, Refused, start, stop } from "./run.js";
import { announce, follow, make, showConnection } from "./shared.js";

const NEAR = 60; // pixels from the end at which new words keep the end in sight
const WORKING = { think: "Thinking", look_at_builds: "Looking at the builds", remember: "Remembering", recall: "Recalling" };
const ENDS = {
  stopped: "Stopped.",
  failed: "The agent has failed.",
  interrupted: "The server was told to end before the answer was whole.",
  lost: "The process that was answering has died.",
  deleted: "This was cleared.",
};

const talk = document.getElementById("talk");
const list = document.getElementById("exchanges");
const composer = document.getElementById("composer");
const question = document.getElementById("question");
const buttons = { send: document.getElementById("send"), stop: document.getElementById("stop"), newest: document.getElementById("newest") };
const { runs, news, cursor, login } = talk.dataset;
const shown = new Map(); // exchanges by their runs
let going = null; // the exchange whose run goes on

/* Scrolling */

let atEnd = true;

function toEnd() {
  talk.scrollTop = talk.scrollHeight;
}

function kept(change) {
  const follows = atEnd;
  change();
  if (follows) toEnd();
}

let reached = 0;

talk.addEventListener("scroll", () => {
  const isGoingUp = talk.scrollTop < reached;
  reached = talk.scrollTop;
  atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < (isGoingUp ? 1 : NEAR); // who goes up is not held back
  buttons.newest.hidden = atEnd;
});
buttons.newest.addEventListener("click", () => { toEnd(); question.focus(); });
new ResizeObserver(() => { if (atEnd) toEnd(); }).observe(list); // also for what is drawn a frame later
new ResizeObserver(() => { if (atEnd) toEnd(); }).observe(talk);

/* One question with its answer */

const capital = (words) => words[0].toUpperCase() + words.slice(1);

class Exchange {
  constructor(asked) {
    this.asked = make("p", { className: "asked", dir: "auto" }, asked);
    this.answer = make("div", { className: "answer said", ariaLabel: "Answer" });
    this.answer.setAttribute("role", "group");
    this.foot = make("p", { className: "foot", hidden: true });
    this.element = make("li", { className: "exchange" }, this.asked, this.answer, this.foot);
    this.begins();
    kept(() => list.append(this.element));
    hello();
  }

  begins() {
    this.answer.replaceChildren();
    this.step = null;
    this.#write();
  }

  #write() {
    const place = make("div");
    this.answer.append(place);
    this.text = new Markup(place);
  }

  /* What a tool is asked, and then what it has said, between what the agent says. */

  use({ name, asked, said }) {
    this.text.draw();
    const before = this.step?.dataset.name === name && this.step.dataset.state === "running" ? this.step : null;
    const words = (WORKING[name] ?? capital(name.replaceAll("_", " "))) + (said === null ? "…" : `: ${said}`);
    const given = Object.entries(asked).map(([key, value]) => `${key}: ${value}`).join(", ");
    const step = make("p", { className: "step", title: `${name}(${given})` }, words);
    Object.assign(step.dataset, { name, state: said === null ? "running" : "done" });
    if (before) return void before.replaceWith((this.step = step));
    this.answer.append((this.step = step));
    this.#write();
    if (said === null && this === going) announce(words);
  }

  /* What was kept of it. */

  restore({ answer, steps, ending }) {
    let at = 0;
    for (const step of steps) {
      this.text.add(answer.slice(at, (at = step.at)));
      this.use(step);
    }
    this.text.add(answer.slice(at));
    this.ends(ending);
  }

  ends(ending) {
    this.text.draw();
    this.answer.setAttribute("aria-busy", false);
    this.element.dataset.ending = ending;
    if (this.step?.dataset.state === "running") this.#breaksOff();
    if (ending !== "finished") return this.fails(ENDS[ending] ?? ending);
    this.foot.hidden = true; // it may have told that it could not be stopped
    this.foot.replaceChildren();
  }

  #breaksOff() {
    this.step.dataset.state = "broken";
    this.step.textContent = this.step.textContent.replace(/…$/, ": broken off");
  }

  fails(told, again = () => send(this.asked.textContent)) {
    this.foot.replaceChildren(told);
    if (again) this.foot.append(" ", make("button", { type: "button", className: "link", onclick: again }, "Try again"));
    kept(() => { this.foot.hidden = false; });
  }
}

function hello() {
  const empty = !list.children.length;
  document.getElementById("hello").hidden = !empty;
  document.getElementById("clear").hidden = empty;
}

/* Runs */

function busy(exchange) {
  going = exchange;
  buttons.send.hidden = exchange !== null;
  buttons.stop.hidden = exchange === null;
  buttons.stop.disabled = false;
}

function follows(run, exchange = shown.get(run)) {
  if (exchange && shown.get(run) === exchange) return;
  exchange ??= new Exchange("");
  shown.set(run, exchange);
  exchange.run = run;
  exchange.answer.setAttribute("aria-busy", true);
  busy(exchange);
  if (exchange.unwanted) stopNow();
  const heard = {
    question: (data) => {
      const { question: asked, process } = JSON.parse(data);
      kept(() => { exchange.asked.textContent = asked; });
      exchange.element.title = `run ${run}, in process ${process}`;
    },
    message: (data) => exchange.text.add(data),
    step: (data) => kept(() => exchange.use(JSON.parse(data))),
  };
  const over = (reason) => {
    if (going === exchange) busy(null);
    kept(() => exchange.ends(reason));
    announce(`${exchange.answer.textContent} ${exchange.foot.textContent}`);
  };
  const changed = (state, told) => {
    exchange.answer.dataset.connection = state;
    if (state === "refused") unread(exchange, told);
  };
  exchange.stream = read(`${runs}${run}/`, { heard, begins: () => exchange.begins(), over, changed, login });
}

/* Nobody reads on who may not; the run goes on. */

function unread(exchange, told) {
  exchange.stream?.close();
  if (going === exchange) busy(null);
  exchange.answer.setAttribute("aria-busy", false);
  exchange.fails(told, told instanceof Node ? null : () => location.reload()); // a node has a link to where one signs in
}

async function stopNow() {
  buttons.stop.disabled = true;
  const exchange = going;
  exchange.unwanted = true; // also where the server has not said yet which run it is
  if (!exchange.run) return;
  exchange.foot.hidden = true;
  try {
    await stop(`${runs}${exchange.run}/`, login);
  } catch (error) {
    if (going !== exchange) return; // it was over first
    buttons.stop.disabled = false;
    exchange.fails(error instanceof Refused ? error.told : "It could not be stopped: the server cannot be reached.", stopNow);
    announce(exchange.foot.textContent);
  }
}

async function send(asked, key = newKey()) {
  if (going) return;
  const exchange = new Exchange(asked);
  busy(exchange);
  exchange.answer.setAttribute("aria-busy", true);
  toEnd();
  try {
    const { url, other } = await start(runs, { body: { question: asked }, key, login });
    const run = url.split("/").at(-2);
    if (other || (shown.has(run) && shown.get(run) !== exchange)) {
      drop(exchange); // another window was first: this page shows what goes on there
      if (other) question.value ||= asked;
      busy(shown.get(run) ?? null);
    }
    follows(run, other ? undefined : exchange);
  } catch (error) {
    if (going === exchange) busy(null);
    exchange.answer.setAttribute("aria-busy", false);
    const again = () => { drop(exchange); send(asked, key); }; // with the same key: perhaps it was started after all
    exchange.fails(error instanceof Refused ? error.told : "The server cannot be reached.", again);
  }
}

function drop(exchange) {
  exchange.element.remove();
  hello();
}

/* The keyboard, and buttons */

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = question.value.trim();
  if (!asked || going) return;
  question.value = "";
  send(asked);
  question.focus();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // Enter also ends what an input method composes
  event.preventDefault();
  composer.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && going) buttons.stop.click();
});
buttons.stop.addEventListener("click", () => { stopNow(); question.focus(); });
for (const idea of document.querySelectorAll(".idea")) {
  idea.addEventListener("click", () => { send(idea.textContent); question.focus(); });
}

/* What was kept, what goes on, and what begins in other windows */

for (const about of JSON.parse(document.getElementById("kept").textContent)) {
  const exchange = new Exchange(about.question);
  if (about.ending) {
    shown.set(about.run, exchange);
    exchange.restore(about);
  } else follows(about.run, exchange);
}
hello();
toEnd();

const told = follow({
  address: news,
  lastEventId: cursor,
  login,
  live: "live",
  changed(state, words) {
    showConnection(state, words);
    if (state === "refused" && going) unread(going, words.cloneNode?.(true) ?? words);
  },
});
told.addEventListener("started", ({ data }) => {
  const { run } = JSON.parse(data);
  if (going && !going.run) return; // this page has just asked, and gets the address of that run
  follows(run);
});
told.addEventListener("cleared", () => location.reload());
