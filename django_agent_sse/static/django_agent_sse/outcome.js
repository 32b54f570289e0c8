/* How that goes which a log is of: its status, how long it takes, its exit, and how many errors it has; and how it ended. */

const RUNNING = ["running", "queued", "waiting"];
const ASKED = 200; // times that a log without an index of its errors is asked for them
const ASK_MS = 500;
const secondsOf = (text) => (Number.isNaN(Date.parse(text ?? "")) ? null : Date.parse(text) / 1000);

export class Outcome {
  #log;
  #tools;
  #status = "";
  #exit = null;
  #started = null;
  #seconds = null; // as the log itself said
  #result = null; // in a word
  #inWords = false; // not only by an exit code
  #endedAt = null;
  #lastAt = null;
  #known = null; // errors and warnings as the server counted them
  #upto = 0; // events up to which it was asked
  #since = { errors: 0, warnings: 0 }; // what came after

  /** `log`: the parts of log.js. `tools`: {toneOf, aboutOf} of events.js. */
  constructor(log, tools) {
    this.#log = log;
    this.#tools = tools;
    this.#started = secondsOf(log.element.getAttribute("started"));
    if (log.element.getAttribute("exit-code")) this.#exit = Number(log.element.getAttribute("exit-code"));
  }

  get #attribute() {
    return this.#log.element.getAttribute("status") ?? "";
  }

  get isKnown() {
    return this.#result !== null;
  }

  /** The event of the first error, as the server knows it. */
  get firstError() {
    return this.#known?.first_error ?? null;
  }

  get knowsErrors() {
    return this.#known !== null;
  }

  /** Whether it failed, where it was closed with `reason`. */
  hasFailed(reason) {
    return (this.#exit ?? 0) !== 0 || [reason ?? "", this.#result ?? "", this.#attribute].some((word) => this.#tools.toneOf(word) === "bad");
  }

  /** What an event says of it. */
  take(name, data, at) {
    const about = this.#tools.aboutOf(name, data);
    if (about?.status) this.show(about.status);
    else if (about?.progress && !this.#log.ended) this.#log.panel.showProgress(about.progress);
    else if (about?.exit) this.#exited(about.exit, at);
  }

  /** Lines that are new. */
  count(lines) {
    for (const { severity, at, counts } of lines) {
      if (severity === "error" && counts) this.#since.errors += 1;
      else if (severity === "warning" && counts) this.#since.warnings += 1;
      if (at !== null) this.#lastAt = at;
      this.#started ??= at;
    }
    if (lines.length && (this.#status === "waiting" || this.#status === "queued")) this.show("running");
  }

  #exited({ code, seconds, status }, at) {
    const before = this.#exit;
    this.#exit = code;
    if (seconds !== null) this.#seconds = seconds;
    const again = this.#result !== null && this.#exit === before; // by the log and by its stream, of which one has a word for it
    if (status || !again) {
      this.#result = status || (this.#exit === null ? null : this.#exit === 0 ? "succeeded" : "failed");
      this.#inWords = Boolean(status);
    }
    this.#endedAt = at ?? Date.now() / 1000;
  }

  /** It was closed. */
  close(reason) {
    const said = ["topic_closed", "no_content"].includes(reason) ? null : reason;
    if (!this.#inWords && !(said === "completed" && this.#result)) this.#result = said ?? this.#result; // "cancelled" says more than an exit code
  }

  /** How it ended: {status, code, failed, at}. */
  end() {
    const attribute = this.#attribute;
    const known = attribute && !RUNNING.includes(attribute) ? attribute : null;
    const agrees = known !== null && this.#exit !== null && (this.#exit === 0) === (this.#tools.toneOf(known) === "good");
    const status = (!this.#inWords && agrees ? known : null) ?? this.#result ?? known ?? "ended";
    return { status, code: this.#exit, failed: (this.#exit ?? 0) !== 0 || this.#tools.toneOf(status) === "bad", at: this.#endedAt ?? this.#end };
  }

  /** When the log began is known from its first line. */
  async begin() {
    const { pages, source } = this.#log;
    if (this.#started !== null || pages.all.length === 0) return;
    const first = pages.all[0].entries?.find(({ at }) => at !== null);
    const at = first?.at ?? (await source.range({ from: pages.floor + 1, count: 1 }).catch(() => null))?.records[0]?.at;
    if (at !== undefined) this.#started ??= at;
    this.showFacts();
    this.#log.later(); // times count from there
  }

  get started() {
    return this.#started;
  }

  /** What the server counted up to an event. */
  learn(levels, upto) {
    this.#known = levels;
    this.#upto = upto;
  }

  /** A log that keeps no index of its errors counts them as it is asked again and again. */
  async askCounts() {
    for (let asked = 0; this.#known && this.#known.upto < this.#upto && asked < ASKED; asked += 1) {
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
      const answer = await this.#log.source.range({ from: -1, count: 1, levels: 1 }).catch(() => null);
      if (!answer?.levels) return;
      this.#known = answer.levels;
      this.showFacts();
    }
  }

  /** Show this status. */
  show(status) {
    const { panel, ended, element } = this.#log;
    this.#status = status;
    const tone = this.#tools.toneOf(status);
    panel.showStatus(status, tone);
    const phase = ended ? "ended" : tone === "idle" && status === "waiting" ? "new" : "running";
    for (const part of element.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").includes(phase);
  }

  showFacts() {
    const { panel, pages, words } = this.#log;
    const { t, number, duration } = words;
    const parts = [];
    const elapsed = this.#elapsed;
    if (elapsed !== null) parts.push(["sl-elapsed", duration(elapsed)]);
    if (this.#exit !== null) parts.push(["sl-exit", this.#exit < 0 ? t("signal {number}", { number: String(-this.#exit) }) : t("exit code {code}", { code: String(this.#exit) })]);
    parts.push(["sl-count", t("{count} line", "{count} lines", { count: pages.count })]);
    const { errors, warnings, stderr, byLine } = this.#counts();
    if (stderr) parts.push(["sl-stderr-count", t("{count} on stderr", { count: number(stderr) })]);
    panel.showFacts(parts);
    panel.showErrors(errors, warnings, byLine);
  }

  /* What failed, and warnings, as they are here where all of it was read, else the lines of either that the server counted; and those of stderr. */
  #counts() {
    const { pages, failures } = this.#log;
    let [warnings, stderr, all] = [0, 0, true];
    for (const page of pages.all) {
      warnings += page.warnings;
      stderr += page.stderr;
      all &&= page.known || page === pages.tail;
    }
    if (!all && this.#known) return { errors: this.#known.errors + this.#since.errors, warnings: this.#known.warnings + this.#since.warnings, stderr, byLine: true };
    return { errors: failures.count, warnings, stderr, byLine: false };
  }

  get #elapsed() {
    if (this.#seconds !== null) return this.#seconds;
    if (this.#started === null) return null;
    const until = secondsOf(this.#log.element.getAttribute("ended")) ?? (this.#log.ended ? this.#endedAt ?? this.#end : Date.now() / 1000);
    return Math.max(0, until - this.#started);
  }

  get #end() {
    const page = this.#log.pages.all.findLast(({ entries }) => entries?.some(({ at }) => at !== null)); // the last one may have no line
    return this.#lastAt ?? page?.entries.findLast(({ at }) => at !== null).at ?? this.#started;
  }
}
