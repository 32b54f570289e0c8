/* A line as an element. Text only ever becomes text nodes, and addresses in it links.

   Any line can be drawn alone: what is read of it is read anew, and the styles that lines before it left on are remembered for each
   page that somebody has looked at. */

const FLAGS = ["bold", "dim", "italic", "underline", "inverse", "strike", "conceal"];
const SPECIAL = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/;
const COLOURS = /\x1b\[[\d;:]*m/g;
const DEEPEST = 16; // groups in groups that are set off, as log.css has them
const PAINTS = 20_000; // colours of a page

/* Colours that log.css does not have, each a class of one stylesheet. No element has a `style` of its own: a page that comes back as text, from
   the history of htmx, has its text checked against the policy of the page. */
class Palette {
  #sheet = null;
  #names = new Set(); // the oldest first

  /** Declare what that class means, if it does not already. */
  have(name, { color, background }) {
    if (this.#names.has(name)) return;
    if (!this.#sheet) document.adoptedStyleSheets.push((this.#sheet = new CSSStyleSheet()));
    if (this.#names.size >= PAINTS) {
      this.#sheet.deleteRule(0);
      this.#names.delete(this.#names.keys().next().value);
    }
    this.#names.add(name);
    this.#sheet.insertRule(`sse-log .${name} { color: ${color}; background-color: ${background ?? "transparent"}; }`, this.#sheet.cssRules.length);
  }
}
const classOf = ({ color, background }) => `sl-p${[color, background ?? ""].map((colour) => colour.match(/[\da-f]{6}/g)?.join("") ?? "").join("-")}`;
const palette = new Palette();

export class Draw {
  #pages;
  #tools;
  #styles = new WeakMap(); // by the entries of a page, {stdout: [style at each line], stderr: […]}
  #spans = new WeakMap(); // by style, {element} to copy, {painted} in colours or null
  #parts = new Map(); // by place, how many more parts of a long line are shown

  /** `tools`: {make} of rows.js, {Terminal, linked} of sgr.js, {pieces, paint} of look.js, {Lines, mayMark, cutAt, SHOWN} of lines.js,
      {properties} of levels.js, {pageOf, lineOf} of pages.js, {t, number} of words.js, {dialects} of markers, and {raw}, the address
      of the whole text, or null. */
  constructor(pages, tools) {
    this.#pages = pages;
    this.#tools = tools;
    this.anchors = false; // rows have ids, "L12"
  }

  /** What a line says: a Line of lines.js. */
  read(entry) {
    const { dialects, properties } = this.#tools;
    const lines = new this.#tools.Lines({ dialects: entry.stopped ? dialects.filter((one) => one !== "github") : dialects, properties });
    lines.add(entry.source, entry.text, entry.at, entry.level, entry.label);
    return lines.all[lines.all.length - 1];
  }

  /** The text of a line as it is read, without what is not shown of it at once. */
  plain(entry) {
    if (entry.source === "note") return "";
    const { text } = entry;
    if (text.length <= this.#tools.SHOWN && !SPECIAL.test(text) && !this.#tools.mayMark(text, this.#tools.dialects)) return text;
    const shown = this.read(entry).text;
    if (!SPECIAL.test(shown)) return shown;
    const bare = shown.replace(COLOURS, "");
    if (!SPECIAL.test(bare)) return bare;
    return new this.#tools.Terminal().write(shown).line().map((run) => run.text).join("");
  }

  /** What a line says, without the command that says it. */
  summary(entry) {
    const { command } = this.read(entry);
    const text = this.plain(entry);
    return (command ? text.slice(0, command[0]) + text.slice(command[1]) : text).trim();
  }

  /** {row, entry, state} of a place. `about`: {number, depth, title, open, over, failed, took, classes, time}; what `known` has of it stays. */
  row(key, about, known) {
    const entry = this.#pages.entry(key);
    const state = `${about.number}|${about.depth}|${about.title}|${about.open}|${about.took}|${about.classes}|${about.time}|${entry?.severity}`;
    if (known && known.entry === entry && known.title === about.title && known.more === entry?.more && known.stopped === entry?.stopped) {
      if (known.state !== state) this.#dress(known.row, about, entry);
      known.state = state;
      return known;
    }
    const row = entry === null ? this.#pending() : entry.source === "note" ? this.#note(entry) : this.#line(key, entry, about.title);
    this.#dress(row, about, entry);
    return { row, entry, state, title: about.title, more: entry?.more, stopped: entry?.stopped };
  }

  /** A line below the last one, which may change yet. */
  draft(source, text) {
    const { make } = this.#tools;
    const shown = make("span", "sl-t");
    this.#fill(shown, new this.#tools.Terminal().write(text).line());
    return make("div", `sl-line sl-draft sl-${source}`, {}, make("span", "sl-n", { "aria-hidden": "true" }), shown);
  }

  #pending() {
    return this.#tools.make("div", "sl-line sl-pending", { "aria-hidden": "true" }, this.#tools.make("a", "sl-n"), this.#tools.make("span", "sl-t", {}, " "));
  }

  #note({ text }) {
    const { make } = this.#tools;
    return make("div", "sl-line sl-note", { role: "note" }, make("span", "sl-n", { "aria-hidden": "true" }), make("span", "sl-t", {}, text));
  }

  #line(key, entry, title) {
    const { make } = this.#tools;
    const line = this.read(entry);
    const number = make("a", "sl-n", { tabindex: "-1" });
    const text = make("span", "sl-t");
    const row = make("div", "sl-line", {}, number, text);
    if (title) {
      row.append(make("span", "sl-took"));
      row.insertBefore(make("button", "sl-turn", { type: "button" }), text);
    }
    if (entry.source === "stderr") row.classList.add("sl-stderr");
    if (line.level) row.classList.add(`sl-${line.level}`);
    const runs = new this.#tools.Terminal(this.#styleAt(key, entry)).write(line.text).line();
    this.#fill(text, runs, line);
    if (line.marker === "close" && !text.textContent) row.classList.add("sl-closer");
    if (title && !text.textContent.trim()) text.dataset.title = line.title ?? this.#tools.t("Group");
    if (line.label && !title) this.#label(text, line);
    if (entry.more) this.#more(text, entry.more);
    if (line.rest) this.#markRest(key, line, text);
    else if (entry.lost) text.append(this.#mark(entry.lost, false));
    return row;
  }

  /* What is said before a line: its level in words, and of an annotation where it is about. */
  #label(text, { label, title, place }) {
    const { t } = this.#tools;
    const words = { error: t("Error"), critical: t("Critical"), warning: t("Warning"), notice: t("Notice"), info: t("Info"), debug: t("Debug") };
    text.dataset.level = words[label] ?? label;
    const where = place ? [place.file, place.line, place.column].filter((part) => part !== null).join(":") : "";
    if (where || title) text.dataset.place = [where, title].filter(Boolean).join(" · ");
  }

  /* What a record of Python's logging says besides: its logger and place, and on demand its fields. */
  #more(text, { logger, file, line, fields }) {
    const { make, t } = this.#tools;
    const place = [logger, file && [file, line].filter(Boolean).join(":")].filter(Boolean).join(" · ");
    const named = Object.entries(fields);
    if (!named.length) {
      text.dataset.place = place;
      return;
    }
    const list = make("span", "sl-fields", { hidden: true }, ...named.flatMap(([name, value]) => [make("span", "sl-field", {}, name), make("span", "sl-value", {}, String(value)), "\n"]));
    const turn = make("button", "sl-more-fields", { type: "button", "aria-expanded": "false", title: t("Fields") }, "{…}");
    turn.addEventListener("click", () => {
      list.hidden = !list.hidden;
      turn.setAttribute("aria-expanded", String(!list.hidden));
    });
    text.append(make("span", "sl-ours", {}, turn, make("span", "sl-origin", { "data-place": place }), list));
  }

  #dress(row, about, entry) {
    const [number] = row.children;
    if (entry?.source !== "note") {
      if (this.anchors) {
        row.id = `L${about.number}`;
        number.href = `#L${about.number}`;
      }
      number.dataset.n = about.number;
      const { t } = this.#tools;
      const said = { error: t("Error"), warning: t("Warning") }[entry?.severity];
      number.setAttribute("aria-label", [t("Line {number}", { number: String(about.number) }), said].filter(Boolean).join(", "));
      for (const level of ["error", "warning"]) row.classList.toggle(`sl-has-${level}`, entry?.severity === level);
    }
    if (about.time) number.dataset.t = about.time;
    else delete number.dataset.t;
    if (about.depth) row.dataset.depth = Math.min(about.depth, DEEPEST);
    else delete row.dataset.depth;
    for (const name of ["sl-target", "sl-current", "sl-hit", "sl-gap", "sl-title", "sl-failed", "sl-over"]) row.classList.toggle(name, about.classes.includes(name));
    if (!about.title) return;
    const fold = row.querySelector(".sl-turn");
    fold.setAttribute("aria-expanded", String(about.open));
    fold.setAttribute("aria-label", about.foldLabel);
    row.lastElementChild.textContent = about.took;
  }

  /* The style that the lines before left on, in this page and the one before it. */
  #styleAt(key, entry) {
    const page = this.#pages.all[this.#tools.pageOf(key)];
    return this.#stylesOf(page, true)[entry.source][this.#tools.lineOf(key)];
  }

  #stylesOf(page, further) {
    let known = this.#styles.get(page.entries);
    if (!known) {
      const before = this.#pages.all[page.index - 1];
      const last = before?.entries?.length && (further || this.#styles.has(before.entries)) ? this.#stylesOf(before, false) : null;
      known = { stdout: [last?.stdout.at(-1)], stderr: [last?.stderr.at(-1)], seen: 0 };
      this.#styles.set(page.entries, known);
    }
    for (; known.seen < page.entries.length; known.seen += 1) {
      const { text, source } = page.entries[known.seen];
      for (const one of ["stdout", "stderr"]) {
        const style = known[one][known.seen];
        known[one].push(source === one && text.includes("\x1b") ? this.#styleAfter(style, text) : style);
      }
    }
    return known;
  }

  #styleAfter(style, text) {
    if (text.length > this.#tools.SHOWN) return undefined; // what follows is not coloured by half a line
    const terminal = new this.#tools.Terminal(style);
    terminal.write(text).line();
    return terminal.style;
  }

  /* How much more there is of a long line, a button for the next part of it, and the text of the log where that is served. */
  #markRest(key, line, text) {
    const { make, t } = this.#tools;
    const next = make("button", "sl-next", { type: "button" }, t("Show more"));
    const mark = this.#mark(line.rest.length, line.over);
    const [said] = mark.children;
    said.after(next);
    let { rest } = line;
    const more = () => {
      const at = this.#tools.cutAt(rest);
      const part = make("span", "sl-part");
      this.#fill(part, new this.#tools.Terminal().write(rest.slice(0, at)).line());
      mark.before(part);
      rest = rest.slice(at);
      if (!rest) {
        if (mark.contains(document.activeElement)) mark.closest(".sl-view")?.focus({ preventScroll: true });
        return mark.remove();
      }
      said.textContent = this.#told(rest.length, line.over);
    };
    text.append(mark);
    for (let parts = this.#parts.get(key) ?? 0; parts > 0; parts -= 1) more();
    next.addEventListener("click", () => {
      this.#parts.set(key, (this.#parts.get(key) ?? 0) + 1);
      more();
    });
  }

  #mark(count, over) {
    const { make, t, raw } = this.#tools;
    const mark = make("span", "sl-cut sl-ours", { role: "note" }, make("span", "", {}, this.#told(count, over)));
    if (raw) mark.append(make("a", "", { href: raw, target: "_blank", rel: "noopener" }, t("Raw text")));
    return mark;
  }

  #told(length, over) {
    const { t, number } = this.#tools;
    const count = number(length);
    return `⋯ ${over ? t("{count} more characters, written over", { count }) : t("{count} more characters", { count })} `;
  }

  #fill(parent, runs, line = {}) {
    const { make, pieces, linked } = this.#tools;
    for (const { text, style, href, mark, shown } of pieces(runs, linked, line)) {
      const place = style.plain ? parent : parent.appendChild(this.#span(style));
      if (mark) place.append(make("span", `sl-mark sl-${mark}`, { "data-shown": shown }, text));
      else if (href) place.append(make("a", "sl-link", { href, target: "_blank", rel: "noopener noreferrer nofollow", tabindex: "-1" }, text));
      else place.appendChild(document.createTextNode(text));
    }
  }

  #span(style) {
    let known = this.#spans.get(style);
    if (!known) this.#spans.set(style, (known = this.#styled(style)));
    if (known.painted) palette.have(known.element.classList.item(0), known.painted);
    return known.element.cloneNode(false);
  }

  #styled(style) {
    const element = document.createElement("span");
    const painted = this.#tools.paint(style);
    const names = [...(painted ? [classOf(painted)] : []), ...FLAGS.filter((flag) => style[flag]).map((flag) => `sl-${flag}`)];
    if (!painted) {
      if (style.fg !== null) names.push(`sl-f${style.fg}`);
      if (style.bg !== null) names.push(`sl-b${style.bg}`);
    }
    element.className = names.join(" ");
    return { element, painted };
  }
}
