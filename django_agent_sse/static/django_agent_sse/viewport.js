/* What stands around the rows: before the first line, after the last, above the line at the top; how many lines came; and what is said. */

const QUIET = 4000; // milliseconds between two words for screen readers
const FLASH_MS = 2500;
const COLUMNS = 100; // characters that are measured
const LEAST_DIGITS = 4; // that the numbers of lines have room for

export class Viewport {
  #log;
  #tools;
  #said = 0;
  #saying = 0;

  /** `log`: the parts of log.js. `tools`: {make} of rows.js, {nameOf} of folds.js. `before`: what stands before the first line, or null. */
  constructor(log, tools, before) {
    this.#log = log;
    this.#tools = tools;
    const { make } = tools;
    const { element, words } = log;
    this.before = before ?? make("div", "sse-log-fallback");
    this.view = make("div", "sl-view", { role: "log", "aria-live": "off", "aria-label": element.getAttribute("label") || words.t("Log"), tabindex: "0", dir: "ltr" });
    this.drafts = make("div", "sl-drafts", { hidden: true });
    this.news = make("button", "sl-news", { type: "button", hidden: true });
    this.sticky = make("button", "sl-sticky", { type: "button", hidden: true, tabindex: "-1", "aria-hidden": "true", dir: "ltr" });
    this.said = make("p", "sl-said", { role: "status" });
    this.main = make("div", "sl-main", {}, this.view, this.sticky, this.news);
    this.view.append(this.before);
    this.news.addEventListener("click", () => {
      this.view.focus({ preventScroll: true }); // the button goes
      log.follow(true);
    });
    this.sticky.addEventListener("click", () => {
      log.navigation.stay();
      log.rows.show(this.sticky.key, "start");
    });
  }

  /** What stands before and after the rows, which is to be there before they are. `trouble`: why there is no log, or null. */
  enclose(trouble) {
    if (this.before && (this.#log.pages.count || this.#log.opened)) this.#showEmpty(trouble);
    this.#showDrafts();
  }

  /** What stands above them. */
  show() {
    this.showFollowing();
    this.#showSticky();
  }

  /* What stands in the page before the first line */
  #showEmpty(trouble) {
    const { words, pages, ended } = this.#log;
    const { t } = words;
    if (pages.count) {
      this.before.remove();
      this.before = null;
    } else if (!this.before.querySelector("pre")?.textContent.trim()) {
      const text = trouble ?? (ended ? t("Nothing was printed.") : t("Nothing has been printed yet."));
      if (this.before.textContent !== text) this.before.replaceChildren(this.#tools.make("p", "sl-empty", {}, text));
    }
  }

  #showDrafts() {
    const { pages, draw } = this.#log;
    const drafts = ["stdout", "stderr"].flatMap((source) => (pages.drafts[source] === null ? [] : pages.drafts[source].split("\n").map((text) => [source, text])));
    const shown = JSON.stringify(drafts);
    if (this.drafts.dataset.said === shown) return;
    this.drafts.dataset.said = shown;
    this.drafts.hidden = !drafts.length;
    this.drafts.replaceChildren(...drafts.map(([source, text]) => draw.draft(source, text)));
  }

  showFollowing() {
    const { following, panel, words, finished } = this.#log;
    if (following.on) this.#log.unseen = 0;
    const { unseen } = this.#log;
    panel.follow.setAttribute("aria-pressed", String(following.on));
    this.news.hidden = following.on || !unseen || finished;
    if (!this.news.hidden) this.news.textContent = `↓ ${words.t("{count} new line", "{count} new lines", { count: unseen })}`;
  }

  /* The title of the group that the line at the top stands in */
  #showSticky() {
    const { rows, order, folds } = this.#log;
    const { top } = rows;
    const group = top && !order.filtered && top.over >= 0 ? folds.around(top.key) : null;
    this.sticky.hidden = group === null;
    if (!group || this.sticky.key === group.key) return;
    this.sticky.key = group.key;
    this.sticky.textContent = `▾ ${this.#tools.nameOf(group)}`;
  }

  /** Say above and below the rows how many lines are not printed; without numbers, say nothing. */
  leaveOut(lines = null) {
    for (const old of this.view.querySelectorAll(".sl-unprinted")) old.remove();
    const { words, rows } = this.#log;
    const said = (count) => this.#tools.make("p", "sl-unprinted", {}, words.t("{count} line is not printed.", "{count} lines are not printed.", { count }));
    if (lines?.before) rows.body.before(said(lines.before));
    if (lines?.after) rows.body.after(said(lines.after));
  }

  /** The numbers beside the lines get as much room as the last of them takes: all of them the same, so that the text begins in one place. */
  widen() {
    const digits = String(Math.max(LEAST_DIGITS, String(this.#log.pages.count).length));
    if (this.main.dataset.digits === digits) return;
    this.main.dataset.digits = digits;
    this.measure();
  }

  /** Look how many characters a row has, and how tall it is. */
  measure() {
    const { order, prefs } = this.#log;
    const probe = this.#tools.make("span", "sl-t sl-probe", { "aria-hidden": "true" }, "0".repeat(COLUMNS));
    this.view.append(probe);
    const width = probe.getBoundingClientRect().width / COLUMNS;
    probe.remove();
    const gutter = this.view.querySelector(".sl-line .sl-n")?.offsetWidth ?? 58;
    order.row = parseFloat(getComputedStyle(this.view).lineHeight) || 20;
    order.columns = prefs.wrap && width ? Math.max(10, Math.floor((this.view.clientWidth - gutter - 14) / width)) : Infinity;
    order.resized();
  }

  /** Say it to screen readers, and not too often; with `idle` only where there was nothing else for long. */
  say(text, idle = false) {
    const wait = (idle ? 5 * QUIET : QUIET) - (performance.now() - this.#said);
    if (idle && (wait > 0 || this.#saying)) return;
    clearTimeout(this.#saying);
    this.#saying = setTimeout(() => {
      this.#saying = 0;
      this.#said = performance.now();
      this.said.textContent = text;
    }, Math.max(0, wait));
  }

  /** Say it at once: somebody has asked for it. */
  answer(text) {
    this.said.textContent = text;
    this.#said = performance.now();
  }

  /** Say it at once, and show it for a moment. */
  flash(text) {
    this.answer(text);
    const toast = this.#tools.make("span", "sl-flash", { "aria-hidden": "true" }, text);
    this.main.append(toast);
    setTimeout(() => toast.remove(), FLASH_MS);
  }
}
