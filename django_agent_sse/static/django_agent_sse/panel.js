/* What stands above the lines: the header with how it is, the tools, and the two sheets: keys, and the list of errors. */

const KEYS = (t) => [
  ["/", t("Search")], ["n  N", t("Next match, previous match")], ["e  E", t("Next error, previous error")], ["f", t("Follow the end")], ["g  G", t("Top, bottom")],
  ["l", t("Go to a line")], ["j  k", t("Next line, previous line: Enter links it, Tab goes to its addresses")], ["t", t("Times: off, elapsed, clock")],
  ["w", t("Wrap long lines")], ["z", t("Fold or unfold all groups")], ["m", t("Fill the window")], ["?", t("These keys")], ["Esc", t("Leave search, marked lines or the full window")],
];
const ICONS = {
  previous: "M4 10l4-4 4 4", next: "M4 6l4 4 4-4", only: "M2 4h12M4 8h8M6 12h4", follow: "M8 2v9M4 8l4 4 4-4M3 14h10", fold: "M3 3h10M3 13h10M8 5v6M6 7l2-2 2 2M6 9l2 2 2-2",
  wrap: "M2 4h12M2 8h9a2.5 2.5 0 0 1 0 5H8M9.5 11L8 13l1.5 2M2 12h3", times: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v3l2 2", full: "M6 2H2v4M10 2h4v4M6 14H2v-4M10 14h4v-4",
  raw: "M4 2h5l3 3v9H4zM9 2v3h3M6 8h4M6 11h4", download: "M8 2v8M5 7l3 3 3-3M3 13h10", copy: "M5 5h8v9H5zM3 11V2h8", keys: "M6 6a2 2 0 1 1 3 1.7c-.7.4-1 .8-1 1.6M8 12v.5",
  notify: "M4 11V7a4 4 0 0 1 8 0v4l1 2H3zM7 14.5h2",
};
const LISTED = 500; // errors and warnings in the list

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.appendChild(document.createElementNS(space, "path")).setAttribute("d", ICONS[name]);
  return svg;
}

export class Panel {
  #tools;
  #on;

  /** `tools`: {make} of rows.js and {t, number, status} of words.js. `on`: what the buttons do, by name. `about`: {raw, prefs, notifies}. */
  constructor(tools, on, about) {
    this.#tools = tools;
    this.#on = on;
    const { make } = tools;
    this.status = make("span", "sl-status");
    this.facts = make("span", "sl-facts");
    this.errors = make("button", "sl-errors", { type: "button", hidden: true, "aria-haspopup": "dialog" });
    this.errors.addEventListener("click", () => on.list());
    this.progress = make("span", "sl-progress", { hidden: true }, make("progress", "", { max: "1", "aria-label": tools.t("Progress") }), make("span", "sl-step"));
    this.connection = make("span", "sl-connection", { "data-state": "connecting" }, tools.t("Connecting…"));
    this.bar = make("div", "sl-bar", {}, this.status, this.facts, this.errors, this.progress, this.connection);
    this.toolbar = this.#toolbar(about);
    this.keys = this.#keysSheet(about.prefs);
    this.list = this.#sheet("sl-list-sheet", tools.t("Errors and warnings"), make("ol", ""));
    this.jump = this.#jumpSheet();
  }

  /** A button with an icon. */
  #button(name, label, on, { text = undefined, pressed = undefined } = {}) {
    const made = this.#tools.make("button", `sl-button sl-${name}`, { type: "button", title: label, "aria-label": label, "aria-pressed": pressed === undefined ? null : String(pressed) });
    made.append(text ?? icon(name));
    made.addEventListener("click", on);
    return made;
  }

  #option(name, label, text) {
    const made = this.#button(name, label, () => {
      made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true"));
      this.#on.find();
    }, { text, pressed: false });
    return made;
  }

  #choice(name, label, values) {
    const { make } = this.#tools;
    const made = make("select", `sl-choice sl-${name}`, { "aria-label": label, title: label }, ...values.map(([value, text]) => make("option", "", { value }, text)));
    made.addEventListener("change", () => this.#on.find());
    return made;
  }

  #toolbar({ raw, prefs, notifies }) {
    const { make, t } = this.#tools;
    const on = this.#on;
    this.query = make("input", "sl-query", { type: "search", placeholder: t("Search"), "aria-label": t("Search the log"), autocomplete: "off", spellcheck: "false" });
    this.found = make("span", "sl-found"); // finder.js says it
    let typing = 0;
    this.query.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => {
        typing = 0;
        on.find();
      }, 120);
    });
    this.query.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault(); // it may stand in a form
        if (!typing) return on.enter(event.shiftKey ? -1 : 1);
        clearTimeout(typing);
        typing = 0;
        on.find(); // what was typed last is not sought yet
      } else if (event.key === "Escape") {
        event.stopPropagation();
        this.query.value = "";
        on.find();
        on.leave();
      }
    });
    this.case = this.#option("case", t("Match case"), "Aa");
    this.regex = this.#option("regex", t("Regular expression"), ".*");
    this.only = this.#option("only", t("Only matching lines"));
    this.which = this.#choice("which", t("Which lines"), [["", t("All lines")], ["error", t("Errors")], ["error,warning", t("Errors and warnings")], ["stderr", "stderr"], ["stdout", "stdout"]]);
    this.around = this.#choice("around", t("Lines around each match"), [0, 1, 3, 10].map((count) => [String(count), `± ${count}`]));
    this.around.hidden = true; // until something is left out
    this.follow = this.#button("follow", t("Follow the end (f)"), on.follow, { pressed: true });
    this.wrap = this.#button("wrap", t("Wrap long lines (w)"), on.wrap, { pressed: prefs.wrap });
    this.times = this.#button("times", "", on.times);
    this.full = this.#button("full", t("Fill the window (m)"), on.fill, { pressed: false });
    this.notify = this.#button("notify", t("Notify me when it is done"), on.notify, { pressed: false });
    this.notify.hidden = !notifies;
    const links = [];
    if (raw) {
      const address = new URL(raw, document.baseURI);
      address.searchParams.set("download", "1");
      links.push(make("a", "sl-button sl-raw", { href: raw, title: t("Raw text"), "aria-label": t("Raw text"), target: "_blank", rel: "noopener" }, icon("raw")));
      links.push(make("a", "sl-button sl-download", { href: address.href, title: t("Download"), "aria-label": t("Download"), download: true }, icon("download")));
    } else {
      links.push(this.#button("download", t("Download"), on.download));
    }
    const find = make("span", "sl-find", { role: "search" }, this.query, this.found, this.#button("previous", t("Previous match (N)"), () => on.step(-1)), this.#button("next", t("Next match (n)"), () => on.step(1)), this.case, this.regex, this.only, this.which, this.around);
    const more = make("span", "sl-more", { role: "group", "aria-label": t("View") }, this.follow, this.#button("fold", t("Fold or unfold all groups (z)"), on.foldAll), this.wrap, this.times, this.full, this.notify, ...links, this.#button("copy", t("Copy"), on.copy), this.#button("keys", t("Keys (?)"), () => this.keys.showModal()));
    return make("div", "sl-tools", {}, find, more);
  }

  #sheet(name, title, ...content) {
    const { make, t } = this.#tools;
    const close = make("button", "sl-close", { type: "button" }, t("Close"));
    const sheet = make("dialog", `sl-sheet ${name}`, { "aria-label": title }, make("h2", "", {}, title), ...content, close);
    close.addEventListener("click", () => sheet.close());
    return sheet;
  }

  #keysSheet(prefs) {
    const { make, t } = this.#tools;
    const list = make("dl", "");
    for (const [key, what] of KEYS(t)) list.append(make("div", "", {}, make("dt", "", {}, ...key.split("  ").flatMap((one, at) => [at ? " " : "", make("kbd", "", {}, one)])), make("dd", "", {}, what)));
    const box = make("input", "", { type: "checkbox" });
    box.checked = prefs.keys;
    box.addEventListener("change", () => this.#on.remember({ keys: box.checked }));
    return this.#sheet("sl-keys-sheet", t("Keys"), list, make("label", "", {}, box, ` ${t("Single keys work while nothing else has the focus")}`));
  }

  #jumpSheet() {
    const { make, t } = this.#tools;
    const number = make("input", "sl-number", { inputmode: "numeric", pattern: "[0-9]{1,9}", autocomplete: "off", "aria-label": t("Number of the line") });
    const sheet = this.#sheet("sl-jump-sheet", t("Go to a line"), number);
    number.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      sheet.close();
      if (/^[0-9]{1,9}$/.test(number.value)) this.#on.jump(Number(number.value));
    });
    sheet.addEventListener("close", () => { number.value = ""; });
    return sheet;
  }

  get sheets() {
    return [this.keys, this.list, this.jump];
  }

  get isBusy() {
    return this.sheets.some((sheet) => sheet.open);
  }

  /** What the reader seeks. */
  get sought() {
    const pressed = (option) => option.getAttribute("aria-pressed") === "true";
    const which = this.which.value;
    const isSource = which === "stderr" || which === "stdout";
    return {
      query: this.query.value,
      regex: pressed(this.regex),
      sensitive: pressed(this.case),
      only: pressed(this.only),
      around: Number(this.around.value),
      levels: which && !isSource ? which.split(",") : null,
      source: isSource ? which : null,
    };
  }

  set sought({ query, regex, sensitive, only, around, levels, source }) {
    this.query.value = query;
    for (const [option, on] of [[this.regex, regex], [this.case, sensitive], [this.only, only]]) option.setAttribute("aria-pressed", String(on));
    if (around !== null) {
      if (![...this.around.options].some((one) => one.value === String(around))) this.around.append(this.#tools.make("option", "", { value: around }, `± ${around}`));
      this.around.value = String(around);
    }
    const which = source ?? levels?.join(",") ?? "";
    if (![...this.which.options].some((one) => one.value === which)) this.which.append(this.#tools.make("option", "", { value: which }, which));
    this.which.value = which;
  }

  showTrouble(text) {
    this.query.setCustomValidity(text);
    this.query.title = text;
  }

  showStatus(status, tone) {
    this.status.dataset.tone = tone;
    this.status.textContent = this.#tools.status(status);
  }

  showFacts(parts) {
    const text = parts.map(([, one]) => one).join(" · ");
    if (this.facts.dataset.text === text) return;
    this.facts.dataset.text = text;
    this.facts.replaceChildren(...parts.map(([name, one]) => this.#tools.make("span", name, {}, one)));
  }

  /** How many failures there are, or, `byLine`, lines that are errors; and warnings. */
  showErrors(errors, warnings, byLine) {
    const { t, make } = this.#tools;
    const said = byLine ? t("{count} error line", "{count} error lines", { count: errors }) : t("{count} error", "{count} errors", { count: errors });
    const text = [errors ? said : "", warnings ? t("{count} warning", "{count} warnings", { count: warnings }) : ""];
    this.errors.hidden = !errors && !warnings;
    if (this.errors.dataset.text === text.join()) return;
    this.errors.dataset.text = text.join();
    this.errors.replaceChildren(...["sl-is-error", "sl-is-warning"].flatMap((name, at) => (text[at] ? [make("span", name, {}, text[at])] : [])));
  }

  showProgress({ fraction, step }) {
    const [bar, text] = this.progress.children;
    this.progress.hidden = false;
    if (fraction === null) bar.removeAttribute("value");
    else bar.value = fraction;
    bar.title = fraction === null ? "" : `${Math.round(fraction * 100)} %`;
    text.textContent = step;
  }

  nameTimes(mode) {
    const { t } = this.#tools;
    const label = { off: t("Times: off (t)"), elapsed: t("Times: elapsed (t)"), clock: t("Times: clock (t)") }[mode];
    this.times.title = label;
    this.times.setAttribute("aria-label", label);
    this.times.setAttribute("aria-pressed", String(mode !== "off"));
  }

  /** The list of `lines`, [{number, level, place, text, go()}]; `more` where there are others. */
  showList(lines, more) {
    const { make, t } = this.#tools;
    const items = lines.slice(0, LISTED).map(({ number, level, place, text, go }) => {
      const button = make("button", `sl-item sl-is-${level}`, { type: "button" }, make("span", "sl-item-n", {}, String(number)), make("span", "sl-item-level", {}, level === "error" ? t("Error") : t("Warning")), make("span", "sl-item-text", { dir: "ltr" }, text), place ? make("span", "sl-item-place", { dir: "ltr" }, place) : "");
      button.addEventListener("click", () => {
        this.list.close();
        go();
      });
      return make("li", "", {}, button);
    });
    if (more || lines.length > LISTED) items.push(make("li", "sl-item-more", {}, t("There are more.")));
    this.list.querySelector("ol").replaceChildren(...items);
    if (!this.list.open) this.list.showModal();
  }
}
