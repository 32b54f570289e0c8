/* The model of a log: numbered lines, and the groups that they fold in. Pure: no DOM.

   The markers of three systems are understood as they are: GitHub (`::group::`, `##[group]`), GitLab (`section_start:`) and
   Buildkite (`--- `, `+++ `, `~~~ `). Every line that comes keeps its number, also where it is only a marker. */

export const SHOWN = 20_000; // characters of a line that are shown at once
export const DEEPEST = 16; // groups in groups: what is nested deeper is shown flat
const MARKERS = 64; // sections that one line begins and ends: what follows is text
const SEQUENCE = 64; // characters before a cut in which a control sequence may have begun
const CONTROLS = /\x1b\[[\d;:?]*[@-~]/g;
const GITHUB = /^(?:\d{4}-\d\d-\d\dT[\d:.]+Z )?(?:::|##\[)(group|endgroup|error|warning|notice|debug|command)(?:\]| [^:]*::|::)(.*)$/s;
const GITLAB = /(?:\x1b\[0?K)?section_(start|end):(\d{1,12}):([\w.-]{1,200})(\[[^\]\r]{0,200}\])?\r?(?:\x1b\[0?K)?/g;
const BUILDKITE = /^(---|\+\+\+|~~~) (\S.*)$/s;
const DIFF = /^(?:---|\+\+\+) (?:a\/|b\/|"?[ab]\/|\/dev\/null|.*\t\d{4}-)/; // a file's name in a patch, not a group's
const LEVELS = { error: "error", warning: "warning", notice: "notice", debug: "debug", command: "command" };

/** One line. `at` in seconds since 1970, or null. `group` is the one that it stands in, or null. */
export class Line {
  constructor(number, source, text, at, group) {
    this.number = number;
    this.source = source; // "stdout" or "stderr"
    this.text = text; // to show: without the marker, with its control sequences
    this.at = at;
    this.group = group;
    this.level = null; // "critical", "error", "warning", "notice", "info", "debug", "command"
    this.label = null; // the level where it is said before the text
    this.rest = ""; // what is not shown of it at once
    this.over = false; // that was written over by what is shown
    this.plain = null; // the text as it is read, once it is shown
    this.marker = null; // "open" where it is a group's title, "close" where it only ends one
  }
}

export class Group {
  constructor(kind, name, line, began) {
    this.kind = kind; // "github", "gitlab", "buildkite"
    this.name = name;
    this.line = line; // its title
    this.parent = null;
    this.began = began; // seconds
    this.ended = null;
    this.over = false;
    this.failed = false;
    this.keepOpen = false; // asked for by its marker
    this.collapsed = false; // asked for by its marker, while it runs too
    this.count = 0;
  }

  /** Seconds, or null where nobody knows. */
  get duration() {
    return this.began === null || this.ended === null ? null : Math.max(0, this.ended - this.began);
  }
}

export class Lines {
  #byNumber = new Map();
  #depth = 0;
  #flat = new Map(); // by name, how many sections are open that are too deep to be groups
  #level = null;

  constructor() {
    this.all = [];
    this.errors = 0; // lines on stderr
    this.group = null; // the innermost one that is open
    this.next = 1; // the number of the next line
  }

  get count() {
    return this.all.length;
  }

  /** The line of that number; undefined where there is none (yet). */
  numbered(number) {
    return this.#byNumber.get(number);
  }

  /** Those of `first` to `last` that are there. */
  between({ first, last }) {
    if (last - first > this.all.length) return this.all.filter((line) => line.number >= first && line.number <= last);
    const found = [];
    for (let number = first; number <= last; number += 1) if (this.#byNumber.has(number)) found.push(this.#byNumber.get(number));
    return found;
  }

  /** Take one line as it was printed; what changed, in order: {open: group}, {line}, {close: group}. `level` is said before it. */
  add(source, raw, at = null, level = null, label = level) {
    const changes = [];
    const number = this.next;
    const { shown, rest, over } = parted(raw);
    this.next += 1;
    this.#level = { level, label };
    if (source === "stderr") this.errors += 1;
    this.#read(changes, number, source, shown, at);
    if (rest) Object.assign(this.all[this.all.length - 1], { rest, over });
    return changes;
  }

  #read(changes, number, source, raw, at) {
    if (raw.includes("section_") && this.#gitlab(changes, number, source, raw, at)) return;
    const marker = raw.charCodeAt(0) === 0x1b ? raw.replace(CONTROLS, "") : raw;
    if (!this.#github(changes, number, source, marker, at) && !this.#buildkite(changes, number, source, marker, at)) {
      this.#line(changes, number, source, raw, at);
    }
  }

  /** Lines that are not there: the numbers go on after them. */
  skip(count) {
    this.next += count;
  }

  /** Nothing will follow: what is open ends, and the innermost did not end well where the whole did not. */
  finish(at, failed) {
    const changes = [];
    if (failed) for (let group = this.group; group; group = group.parent) group.failed = true;
    while (this.group) this.#close(changes, at);
    return changes;
  }

  #line(changes, number, source, text, at, fields) {
    const line = Object.assign(new Line(number, source, text, at, this.group), this.#level, fields);
    for (let group = this.group; group; group = group.parent) group.count += 1;
    this.#keep(line);
    changes.push({ line });
    return line;
  }

  /* The group, or null where it would be too deep. */
  #open(changes, kind, name, number, source, title, at, began = at) {
    if (this.#depth >= DEEPEST) {
      if (kind === "gitlab") this.#flat.set(name, (this.#flat.get(name) ?? 0) + 1);
      this.#line(changes, number, source, title, at);
      return null;
    }
    this.#depth += 1;
    const line = Object.assign(new Line(number, source, title, at, null), { level: this.#level.level });
    const group = new Group(kind, name, line, began);
    group.parent = this.group;
    line.marker = "open";
    line.group = group;
    this.group = group;
    this.#keep(line);
    changes.push({ open: group });
    return group;
  }

  #keep(line) {
    this.all.push(line);
    if (line.number !== null) this.#byNumber.set(line.number, line);
  }

  #close(changes, at) {
    const group = this.group;
    group.ended = at;
    group.over = true;
    this.group = group.parent;
    this.#depth -= 1;
    this.#flat.clear();
    if (group.failed && this.group) this.group.failed = true;
    changes.push({ close: group });
  }

  #github(changes, number, source, text, at) {
    if (text.charCodeAt(0) !== 58 && text.charCodeAt(0) !== 35 && !(text.charCodeAt(0) >= 48 && text.charCodeAt(0) <= 57)) return false;
    const found = GITHUB.exec(text);
    if (!found) return false;
    const [, word, rest] = found;
    if (word === "group") {
      while (this.group && this.group.kind !== "gitlab") this.#close(changes, at); // they do not nest there
      this.#open(changes, "github", rest, number, source, rest || "Group", at);
    } else if (word === "endgroup") {
      const ends = this.group?.kind === "github";
      this.#line(changes, number, source, rest, at, { marker: "close" });
      if (ends) this.#close(changes, at);
    } else {
      if (word === "error") for (let group = this.group; group; group = group.parent) group.failed = true;
      this.#line(changes, number, source, rest, at, { level: LEVELS[word], label: LEVELS[word] });
    }
    return true;
  }

  #buildkite(changes, number, source, text, at) {
    const first = text.charCodeAt(0);
    if (first === 94 && /^\^\^\^ \+{3}\s*$/.test(text)) { // ^^^ +++ opens the group that it stands in
      if (this.group) this.group.keepOpen = true;
      this.#line(changes, number, source, "", at, { marker: "close" });
      return true;
    }
    if (first !== 45 && first !== 43 && first !== 126) return false;
    const found = BUILDKITE.exec(text);
    if (!found || DIFF.test(text)) return false;
    while (this.group && this.group.kind !== "gitlab") this.#close(changes, at);
    const group = this.#open(changes, "buildkite", found[2], number, source, found[2], at);
    if (group) Object.assign(group, { keepOpen: found[1] === "+++", collapsed: found[1] === "~~~" });
    return true;
  }

  /* One line may end sections and begin another. */
  #gitlab(changes, number, source, raw, at) {
    const found = [];
    for (const marker of raw.matchAll(GITLAB)) if (found.push(marker) === MARKERS) break;
    if (!found.length) return false;
    const before = raw.slice(0, found[0].index);
    let taken = false; // the number is one line's only
    if (before.replace(CONTROLS, "").trim()) {
      this.#line(changes, number, source, before, at);
      taken = true;
    }
    found.forEach((marker, index) => {
      const [whole, what, seconds, name, options] = marker;
      const rest = raw.slice(marker.index + whole.length, found[index + 1]?.index);
      if (what === "end") {
        this.#endSection(changes, name, Number(seconds));
        if (rest.replace(CONTROLS, "").trim() && !taken) {
          this.#line(changes, number, source, rest, at);
          taken = true;
        }
      } else {
        const group = this.#open(changes, "gitlab", name, taken ? null : number, source, rest.replace(CONTROLS, "").trim() ? rest : name, at, Number(seconds));
        if (group) group.collapsed = /\bcollapsed=true\b/.test(options ?? "");
        taken = true;
      }
    });
    if (!taken) this.#line(changes, number, source, "", at, { marker: "close" });
    return true;
  }

  #endSection(changes, name, seconds) {
    const flat = this.#flat.get(name) ?? 0;
    if (flat) return void this.#flat.set(name, flat - 1);
    let group = this.group;
    while (group && !(group.kind === "gitlab" && group.name === name)) group = group.parent;
    if (!group) return;
    while (this.group !== group.parent) this.#close(changes, seconds);
  }
}

/** Where to cut a text after so many characters: in no pair of surrogates, and before a control sequence that may go on. */
export function cutAt(text, most = SHOWN) {
  if (text.length <= most) return text.length;
  const escape = text.lastIndexOf("\x1b", most - 1);
  if (escape > 0 && most - escape < SEQUENCE) return escape;
  return /[\ud800-\udbff]/.test(text[most - 1]) ? most - 1 : most;
}

/* What is shown of a line: its beginning, or of one that was written over again and again, a progress bar for one, its end. */
function parted(raw) {
  if (raw.length <= SHOWN) return { shown: raw, rest: "", over: false };
  const last = raw.indexOf("\r", raw.length - SHOWN) + 1;
  const over = last > 0 && last < raw.length;
  const at = over ? last : cutAt(raw);
  return over ? { shown: raw.slice(at), rest: raw.slice(0, at), over } : { shown: raw.slice(0, at), rest: raw.slice(at), over };
}

const UNSEEN = /\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;

/** The text of a line, also what is not shown of it yet. */
export function whole({ plain, rest, over }) {
  return over || !rest ? (plain ?? "") : plain + rest.replace(UNSEEN, "");
}

/** The seconds as people say them: "3.2 s", "1 min 05 s", "2 h 07 min". */
export function spoken(seconds) {
  if (seconds < 60) return `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** The lines that "#L120" or "#L120-L140" names, {first, last}; null for anything else. */
export function lineRange(hash) {
  const found = /^#L(\d{1,9})(?:-L?(\d{1,9}))?$/.exec(hash);
  if (!found) return null;
  const [one, other] = [Number(found[1]), Number(found[2] ?? found[1])];
  return { first: Math.min(one, other), last: Math.max(one, other) };
}

/** A pattern that finds `query`; null for nothing to find. Throws SyntaxError for a regular expression that is none. */
export function pattern(query, { regex = false, sensitive = false } = {}) {
  if (!query) return null;
  return new RegExp(regex ? query : query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), sensitive ? "gu" : "giu");
}

/** Where the pattern matches, [[from, to]], without empty matches. */
export function matches(expression, text) {
  expression.lastIndex = 0;
  const found = [];
  for (const match of text.matchAll(expression)) if (match[0]) found.push([match.index, match.index + match[0].length]);
  return found;
}
