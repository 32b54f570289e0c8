/* Searching, filtering and stepping through errors, as the reader does it: what the tools of panel.js say is sought by search.js, shown by
   order.js and gone to by navigation.js. */

const SEARCHED_MS = 2000; // that a list of errors waits for the rest of them
const LISTED = 500; // errors and warnings in the list
const EXCERPT = 300; // characters of one

/* The highlights of all viewers of the page. */
function highlights() {
  return ["sse-log-match", "sse-log-current"].map((name) => {
    if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
    return CSS.highlights.get(name);
  });
}

export class Finder {
  #log;
  #tools;
  #at = null; // the match that is gone to, {page, line, nth}
  #turn = 0; // another one when the reader goes anywhere
  #wanted = null; // {from, by}: the match after or before that is to be gone to as soon as it is known
  #painted = [];
  #told = ""; // to screen readers

  /** `log`: the parts of log.js. `tools`: {Find} of search.js, {keyOf, pageOf, lineOf} of pages.js, {rangeOf} of rows.js, {placeNear} of levels.js. */
  constructor(log, tools) {
    this.#log = log;
    this.#tools = tools;
    const { pages, draw, patterns, element, source } = log;
    const server = element.getAttribute("range") ? (find, index, by) => source.search(find, index, by) : null;
    const how = { plain: (entry) => draw.plain(entry), patterns, server };
    this.find = new tools.Find(pages, how, () => this.#found());
    this.errors = new tools.Find(pages, how, () => log.later());
  }

  /** A page came, or has more lines. */
  note(page) {
    this.find.note(page);
    this.errors.note(page);
  }

  /** Seek what the tools say. With `stay` the reader is not taken to the first match. */
  seek({ stay = false } = {}) {
    const { panel, rows, order, element, navigation } = this.#log;
    const { query, regex, sensitive, only, levels, source, around } = panel.sought;
    const from = this.#top;
    this.#at = null;
    this.find.start({ query, regex, sensitive, levels, source }, from?.page ?? 0);
    panel.showTrouble(this.find.trouble === "pattern" ? this.find.reason : "");
    const filters = Boolean(this.find.sought) && (only || Boolean(levels || source));
    order.filter(filters ? (page) => this.find.shownOf(page, around) : null);
    rows.view.classList.toggle("sl-only-hits", filters);
    panel.around.hidden = !filters;
    this.#wanted = stay || !query ? null : { from: from ?? { page: 0, line: 0, nth: null }, by: 1 };
    if (element.isConnected) navigation.place();
    this.#log.flush();
  }

  get #top() {
    const { top } = this.#log.rows;
    return top ? { page: this.#tools.pageOf(top.key), line: this.#tools.lineOf(top.key), nth: null } : null;
  }

  #found() {
    this.#arrive();
    this.#log.later();
  }

  /* Whether the match that is wanted is gone to. */
  #arrive() {
    const match = this.#wanted && this.find.step(this.#wanted.from, this.#wanted.by);
    if (!match) return false;
    this.#wanted = null;
    this.#at = match;
    this.#log.navigation.aim(this.#tools.keyOf(match.page, match.line));
    return true;
  }

  /** Go to no match or failure that is yet to be found. */
  stay() {
    this.#wanted = null;
    this.#turn += 1;
  }

  /** Go to the next match, or with -1 the one before. */
  step(by) {
    if (this.find.trouble === "failed") return this.seek(); // again
    if (!this.find.sought || (this.find.done && !this.find.total)) return;
    this.find.again(this.#top?.page ?? 0);
    this.#turn += 1;
    this.#wanted = { from: this.#at ?? this.#top, by };
    if (this.#arrive()) this.#log.flush();
  }

  /** The match in a line that is taller or wider than the view is brought into sight too. */
  reveal(key) {
    const { rows, pages } = this.#log;
    const row = rows.row(key);
    const at = this.#isAt(key) ? this.find.ranges(pages.entry(key))[this.#at.nth ?? 0] : null;
    const range = row && at ? this.#tools.rangeOf(row, ...at) : null;
    if (range) rows.reveal(range.getBoundingClientRect());
  }

  #isAt(key) {
    return this.#at !== null && this.#tools.keyOf(this.#at.page, this.#at.line) === key;
  }

  /** Say how many matches there are. */
  show() {
    const { panel, words } = this.#log;
    const { t, number } = words;
    const { find } = this;
    const more = find.done && !find.partial ? "" : "+";
    const nth = this.#at && find.ordinal(this.#at);
    const why = find.reason.slice(find.reason.lastIndexOf(": ") + 1).trim(); // browsers repeat the pattern before it
    const trouble = { pattern: [t("Invalid pattern"), why].filter(Boolean).join(": "), slow: t("The pattern takes too long"), none: t("Patterns cannot be tried in this page"), failed: t("The search failed") }[find.trouble];
    let text = "";
    if (trouble) text = trouble;
    else if (!find.sought) text = "";
    else if (!find.total) text = find.done ? t("No match") : t("Searching…");
    else text = t("{at} of {total}", { at: nth ? number(nth) : "–", total: `${number(find.total)}${more}` });
    if (panel.found.textContent !== text) panel.found.textContent = text;
    const told = trouble || (find.done && find.sought) ? JSON.stringify([trouble, find.sought, this.#at]) : ""; // and not with each line that comes
    if (told && told !== this.#told) this.#log.viewport.answer(text);
    this.#told = told;
    panel.found.title = find.trouble === "pattern" ? find.reason : "";
    panel.found.classList.toggle("sl-reason", find.trouble === "pattern");
  }

  /** The matches in sight, without touching the rows. */
  paint() {
    if (!globalThis.Highlight) return;
    const { rows, pages } = this.#log;
    const { pageOf, lineOf, rangeOf } = this.#tools;
    const [all, current] = highlights();
    this.unpaint();
    if (!this.find.sought?.query) return;
    for (const key of rows.keys()) {
      const entry = this.find.has(pageOf(key), lineOf(key)) ? pages.entry(key) : null;
      if (!entry) continue;
      this.find.ranges(entry).forEach(([from, to], nth) => {
        const range = rangeOf(rows.row(key), from, to);
        if (!range) return;
        (this.#isAt(key) && this.#at.nth === nth ? current : all).add(range);
        this.#painted.push(range);
      });
    }
  }

  /** The document holds no match any more, nor by it the viewer. */
  unpaint() {
    for (const highlight of this.#painted.length ? highlights() : []) for (const range of this.#painted) highlight.delete(range);
    this.#painted = [];
  }

  /* Errors */

  async #seekErrors() {
    const { errors } = this;
    if (!errors.sought || errors.unread) errors.start({ query: "", levels: ["error", "warning"], source: null }, this.#top?.page ?? 0);
    for (const since = performance.now(); !errors.done && performance.now() - since < SEARCHED_MS; ) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  /* Where errors are: of pages that were read, each failure once, and of the others what the server found. */
  get #stops() {
    const { pages, failures } = this.#log;
    const unread = pages.all.filter(({ index }) => !failures.knows(index));
    const found = unread.flatMap(({ index }) => this.errors.linesOf(index).map((line) => this.#tools.keyOf(index, line)));
    return found.length ? [...failures.keys, ...found].sort((one, other) => one - other) : failures.keys;
  }

  /** Go to the next failure, or with -1 the one before. */
  async stepError(by) {
    const { pages, navigation, rows, failures } = this.#log;
    this.#wanted = null;
    const turn = this.#turn;
    await this.#seekErrors();
    let key = navigation.current ?? rows.top?.key ?? 0;
    for (let tries = 0; tries < LISTED; tries += 1) {
      const stops = this.#stops;
      const at = by > 0 ? stops.findIndex((stop) => stop > key) : stops.findLastIndex((stop) => stop < key);
      key = stops.at(at < 0 && by > 0 ? 0 : at);
      if (key === undefined) return;
      if (!pages.entry(key)) await pages.load(this.#tools.pageOf(key));
      if (turn !== this.#turn) return; // the reader has gone elsewhere
      if (failures.has(key) && pages.entry(key)) return navigation.goTo(key);
    }
  }

  /** Show the list of failures and warnings. */
  async list() {
    const { pages, draw, panel, navigation, failures } = this.#log;
    await this.#seekErrors();
    const found = []; // read while their page is held
    let looked = 0;
    for (const { index } of pages.all) {
      if (looked > LISTED) break;
      if (this.errors.linesOf(index).length && !pages.all[index].entries) await pages.load(index);
      const lines = this.errors.linesOf(index);
      looked += lines.length;
      for (const line of lines) {
        const key = this.#tools.keyOf(index, line);
        const entry = pages.entry(key);
        if (!entry?.counts) continue;
        const place = this.#tools.placeNear((by) => pages.entry(key + by)?.text);
        found.push({ key, level: entry.severity, place: place ? `${place.file}:${place.line}` : "", text: draw.summary(entry).slice(0, EXCERPT) });
      }
    }
    const shown = found.filter(({ key, level }) => level !== "error" || failures.has(key));
    const go = (key) => {
      navigation.stay();
      navigation.goTo(key);
    };
    panel.showList(shown.map((one) => Object.assign(one, { number: pages.number(one.key), go: () => go(one.key) })), !this.errors.done || this.errors.unread);
  }
}
