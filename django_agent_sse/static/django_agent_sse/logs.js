/* <sse-logs src="…">: the steps of one thing beside each other, with their states, and the log of the one that is chosen.

   One stream says the states of all steps; the chosen step's <sse-log> has one of its own while that step runs. Each step is a link
   (?step=test), so that it can be shared and works without this script; #L120 names a line of its log. */

const tag = document.querySelector("script[data-agent-sse][src*='logs']") ?? document.querySelector("script[data-agent-sse]");
const load = (name) => import(new URL(tag?.dataset[name] ?? `./${name}.js`, tag?.dataset[name] ? document.baseURI : import.meta.url).href);
const [{ EventStream }, speech] = await Promise.all(["client", "words"].map(load));

const TICK = 1000; // milliseconds between two looks at the clock
const HIDDEN_MS = 5000; // after which a hidden tab lets go
const WORD = 60; // characters of a status
const GOOD = ["passed", "succeeded", "success", "completed", "finished", "ok", "done"];
const BAD = ["failed", "error", "errored", "failure", "lost", "timeout"];

/** "good", "bad", "busy", "idle" or "other": how a status is shown beside its word. */
export function toneOf(status) {
  if (GOOD.includes(status)) return "good";
  if (BAD.includes(status)) return "bad";
  if (status === "running") return "busy";
  return status === "waiting" || status === "queued" ? "idle" : "other";
}

/** A state as the server sends it; null for anything else. */
export function stateOf(text) {
  let told = null;
  try {
    told = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof told?.step !== "string" || typeof told.status !== "string") return null;
  const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
  const { step, status, errors, started, ended } = told;
  return { step, status: status.slice(0, WORD), errors: number(errors) ?? 0, started: number(started), ended: number(ended) };
}

const secondsOf = (text) => (Number.isNaN(Date.parse(text ?? "")) ? null : Date.parse(text) / 1000);
const isoOf = (seconds) => (seconds && Math.abs(seconds) < 8e12 ? new Date(seconds * 1000).toISOString() : null);

export class SSELogs extends HTMLElement {
  #source = null;
  #leaving = null; // an AbortController while this is in a page
  #timer = 0;
  #hiding = 0;
  #times = new Map(); // by step, when it began and ended
  #words = null;

  connectedCallback() {
    this.#leaving = new AbortController();
    const { signal } = this.#leaving;
    this.#words = speech.words(this);
    for (const link of this.#links()) {
      this.#times.set(link.dataset.step, { started: secondsOf(link.dataset.started), ended: secondsOf(link.dataset.ended) });
      link.dataset.tone = toneOf(link.dataset.status);
    }
    this.addEventListener("click", (event) => this.#clicked(event), { signal });
    window.addEventListener("popstate", () => this.#open(this.#asked() ?? this.#first, false), { signal });
    this.#first = this.step;
    this.#tick();
    this.#timer = setInterval(() => this.#tick(), TICK);
    this.#connect();
    document.addEventListener("visibilitychange", () => this.#looked(), { signal });
    this.#looked(); // it may have been opened in the background
  }

  disconnectedCallback() {
    this.#leaving.abort();
    this.#source?.close();
    clearInterval(this.#timer);
    clearTimeout(this.#hiding);
  }

  #first = null; // the step that the server has chosen

  /** The name of the step whose log is open. */
  get step() {
    return this.querySelector("a[data-step][aria-current]")?.dataset.step ?? null;
  }

  /** Open the log of a step; false where there is no such step. */
  open(step) {
    return this.#open(step, true);
  }

  #links() {
    return [...this.querySelectorAll("a[data-step]")];
  }

  #asked() {
    return new URLSearchParams(location.search).get("step");
  }

  #connect() {
    this.#source = new EventStream(new URL(this.getAttribute("src"), document.baseURI).href, { credentials: "same-origin" });
    this.#source.addEventListener("step", ({ data }) => {
      const state = stateOf(data);
      if (state) this.#show(state);
    });
  }

  /* A tab that nobody looks at gives its connection back: browsers have six for all tabs of a site on HTTP/1.1. */
  #looked() {
    clearTimeout(this.#hiding);
    if (document.hidden) this.#hiding = setTimeout(() => this.#source.close(), HIDDEN_MS);
    else if (this.#source.reason === "closed") this.#source.reopen();
  }

  #show({ step, status, errors, started, ended }) {
    const link = this.#links().find((one) => one.dataset.step === step);
    if (!link) return;
    link.dataset.status = status;
    link.dataset.tone = toneOf(status);
    link.querySelector(".sse-logs-status").textContent = this.#words.status(status);
    const count = link.querySelector(".sse-logs-errors");
    count.textContent = this.#words.t("Errors"); // how many, the header of its log says
    count.hidden = !errors;
    this.#times.set(step, { started, ended });
    this.#tick();
    this.dispatchEvent(new CustomEvent("sse-logs:step", { bubbles: true, detail: { step, status, errors } }));
  }

  #tick() {
    for (const link of this.#links()) {
      const { started, ended } = this.#times.get(link.dataset.step) ?? {};
      const text = started ? this.#words.duration(Math.max(0, (ended || Date.now() / 1000) - started)) : "";
      const shown = link.querySelector(".sse-logs-time");
      if (shown.textContent !== text) shown.textContent = text;
    }
  }

  #clicked(event) {
    const link = event.target.closest?.("a[data-step]");
    if (!link || !this.contains(link) || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0) return;
    if (this.#open(link.dataset.step, true)) event.preventDefault();
  }

  #open(step, remember) {
    const link = this.#links().find((one) => one.dataset.step === step);
    if (!link) return false;
    if (step === this.step) return true; // its log reads the rest of the address
    for (const one of this.#links()) one.toggleAttribute("aria-current", false);
    link.setAttribute("aria-current", "true");
    if (remember) history.pushState(history.state, "", /** @type {HTMLAnchorElement} */ (link).href);
    const log = document.createElement("sse-log");
    const { src, range, raw, status } = link.dataset;
    const old = this.querySelector("sse-log");
    const login = old?.getAttribute("login") ?? "";
    const [started, ended] = ["started", "ended"].map((name) => isoOf(this.#times.get(step)?.[name]));
    for (const [name, value] of Object.entries({ src, range, raw, status, started, ended, login, label: step })) if (value) log.setAttribute(name, value);
    this.querySelector(".sse-logs-open").replaceChildren(log);
    return true;
  }
}

if (!customElements.get("sse-logs")) customElements.define("sse-logs", SSELogs);
