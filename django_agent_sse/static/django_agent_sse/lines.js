/* The model of a log: numbered lines, and the groups that they fold in. Pure: no DOM.

   A line is what was printed as one, whatever is in it, and its text stays whole: a marker only says where a group begins and ends.
   Three dialects of markers are understood: GitHub's (`::group::`, `##[group]`), GitLab's (`section_start:`) and, where it is chosen,
   Buildkite's (`--- `, `+++ `, `~~~ `), whose markers stand in patches, traces of shells and results of tests as well. */

export const SHOWN = 20_000; // characters of a line that are shown at once
export const DEEPEST = 16; // groups in groups: what is nested deeper is shown flat
/** The dialects of markers that are understood unless others are chosen. */
export const DIALECTS = Object.freeze(["github", "gitlab"]);
const MARKERS = 64; // sections that one line begins and ends: what follows is text
const SEQUENCE = 64; // characters before a cut in which a control sequence may have begun
const CONTROLS = /\x1b\[[0-?]*[ -/]*[@-~]/g;
const GITHUB = /^((?:\d{4}-\d\d-\d\dT[\d:.]{8,20}Z )?)(?:::(group|endgroup|error|warning|notice|debug|stop-commands)(?: (.*?))?::|##\[(group|endgroup|error|warning|debug|command)\])/s;
const GITLAB = /(?:\x1b\[0?K)?section_(start|end):(\d{1,12}):([\w.-]{1,200})(\[[^\]\r]{0,200}\])?\r?\x1b\[0?K/g;
const BUILDKITE = /^(---|\+\+\+|~~~) ([\p{L}\p{N}:\p{Extended_Pictographic}"'`(<[].*)$/su;
/* What begins like a marker of Buildkite's and is none: files of a patch, results of Go's tests, documents of YAML, rules of a table. */
const NO_HEADING = /^(?:---|\+\+\+) (?:"?[ab]\/|\/dev\/null|.*\t\d{4}-|\S+\.\w{1,9}$|(?:PASS|FAIL|SKIP|BENCH): |(?:expected|actual|before|after|old|new|original|modified)\s*$)/i;
const TRACE = /^\+{1,2} /; // a command that a shell shows: one more + of it is no heading
const OPENS = /^\^\^\^ \+{3}\s*$/;
const RESUMES = /^(?:\d{4}-\d\d-\d\dT[\d:.]{8,20}Z )?::([^\s:]{1,200})::/;
const COLLAPSED = /\bcollapsed=true\b/;

/** One line. `at` in seconds since 1970, or null. `group` is the one that it stands in, or null. */
export class Line {
  constructor(number, source, text, at, group) {
    this.number = number;
    this.source = source; // "stdout" or "stderr"
    this.text = text; // to show: as it was printed, with its control sequences
    this.at = at;
    this.group = group;
    this.level = null; // "critical", "error", "warning", "notice", "info", "debug", "command": as its marker or its event says
    this.label = null; // the level where it is said before the text
    this.rest = ""; // what is not shown of it at once
    this.over = false; // that was written over by what is shown
    this.plain = null; // the text as it is read, once it is shown
    this.marker = null; // "open" where it is a group's title, "close" where it only ends one
    this.command = null; // [from, to]: the characters of the text as it is read that are a marker
    this.title = null; // of an annotation, or of a section whose line says nothing
    this.place = null; // of an annotation: {file, line, column}, of which line and column may be null
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
    this.errors = false; // a line in it is an error
    this.keepOpen = false; // asked for by its marker, or its end is not known
    this.collapsed = false; // asked for by its marker, while it runs too
    this.count = 0;
  }

  /** Seconds, or null where nobody knows. */
  get duration() {
    return this.began === null || this.ended === null ? null : Math.max(0, this.ended - this.began);
  }

  /** Whether it is shown open, unless the reader says otherwise: what fails is never folded away. */
  get opens() {
    return this.errors || this.failed || this.keepOpen || !(this.collapsed || this.over);
  }
}

/** Whether a line may begin or end a group, or be an annotation, in those dialects. Cheap, for every line of a log. */
export function mayMark(raw, dialects = DIALECTS) {
  const text = raw.charCodeAt(0) === 0x1b ? raw.slice(0, SHOWN).replace(CONTROLS, "") : raw;
  const first = text.charCodeAt(0);
  if (dialects.includes("github") && (text.startsWith("::") || text.startsWith("##[") || (first >= 48 && first <= 57 && (raw.includes("Z ::") || raw.includes("Z ##["))))) return true;
  if (dialects.includes("buildkite") && (first === 45 || first === 43 || first === 126 || first === 94)) return true;
  return dialects.includes("gitlab") && raw.includes("section_");
}

export class Lines {
  #byNumber = new Map();
  #depth = 0;
  #flat = new Map(); // by name, how many sections are open that are too deep to be groups
  #traced = false; // a shell shows its commands
  #dialects;
  /** @type {(text: string) => string | null} */
  #levelOf;
  /** @type {(text: string) => any} */
  #properties;

  /** `dialects` of markers that count; `levelOf` and `properties` of levels.js, without which no line is an error by its text, and annotations have no place.
      @param {{dialects?: readonly string[], levelOf?: (text: string) => string | null, properties?: (text: string) => Record<string, string>}} [options] */
  constructor({ dialects = DIALECTS, levelOf = () => null, properties = () => ({}) } = {}) {
    this.#dialects = new Set(dialects);
    this.#levelOf = levelOf;
    this.#properties = properties;
    this.all = [];
    this.errors = 0; // lines on stderr
    this.group = null; // the innermost one that is open
    this.next = 1; // the number of the next line
    this.stopped = null; // until this word GitHub's commands are text: what is printed is not to be trusted
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
    const { shown, rest, over } = parted(raw);
    const line = Object.assign(new Line(this.next, source, shown, at, null), { level, label, rest, over });
    this.next += 1;
    if (source === "stderr") this.errors += 1;
    if (!this.#marked(changes, line)) this.#put(changes, line);
    if (level === "error" || level === "critical" || this.#levelOf(line.text) === "error") this.fail(line.group);
    return changes;
  }

  /** A line of a group, the innermost one that is open, is an error. */
  fail(innermost = this.group) {
    for (let group = innermost; group; group = group.parent) group.errors = true;
  }

  /** Lines that are not there: the numbers go on after them. */
  skip(count) {
    this.next += count;
  }

  /** Nothing will follow: what is open ends, and the innermost did not end well where the whole did not. */
  finish(at, failed) {
    const changes = [];
    for (let group = this.group; group; group = group.parent) {
      group.keepOpen = true; // nobody said that it ends here
      if (failed) group.failed = true;
    }
    while (this.group) this.#close(changes, at);
    return changes;
  }

  #marked(changes, line) {
    const { text } = line;
    if (this.#dialects.has("gitlab") && text.includes("section_") && this.#gitlab(changes, line)) return true;
    const marker = text.includes("\x1b") ? text.replace(CONTROLS, "") : text;
    return (this.#dialects.has("github") && this.#github(changes, line, marker)) || (this.#dialects.has("buildkite") && this.#buildkite(changes, line, marker));
  }

  #put(changes, line, fields) {
    if (this.#byNumber.has(line.number)) return; // it begins several sections
    Object.assign(line, fields);
    line.group = this.group;
    for (let group = this.group; group; group = group.parent) group.count += 1;
    this.#keep(line);
    changes.push({ line });
  }

  /* The group, or null where it would be too deep. */
  #open(changes, kind, name, line, began = line.at) {
    if (this.#depth >= DEEPEST) {
      if (kind === "gitlab") this.#flat.set(name, (this.#flat.get(name) ?? 0) + 1);
      this.#put(changes, line);
      return null;
    }
    this.#depth += 1;
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
    if (this.#byNumber.has(line.number)) return; // it begins several sections
    this.all.push(line);
    this.#byNumber.set(line.number, line);
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

  #github(changes, line, text) {
    const first = text.charCodeAt(0);
    if (first !== 58 && first !== 35 && !(first >= 48 && first <= 57)) return false;
    if (this.stopped !== null) {
      if (RESUMES.exec(text)?.[1].toLowerCase() === this.stopped) this.stopped = null;
      return false;
    }
    const found = GITHUB.exec(text);
    if (!found) return false;
    const word = found[2] ?? found[4];
    if (word === "stop-commands") {
      this.stopped = RESUMES.exec(`::${text.slice(found[0].length).trim()}::`)?.[1].toLowerCase() ?? null;
      return false;
    }
    line.command = [found[1].length, found[0].length];
    if (word === "group") {
      while (this.group && this.group.kind !== "gitlab") this.#close(changes, line.at); // they do not nest there
      this.#open(changes, "github", text.slice(found[0].length), line);
    } else if (word === "endgroup") {
      const ends = this.group?.kind === "github";
      this.#put(changes, line, ends ? { marker: "close" } : { command: null });
      if (ends) this.#close(changes, line.at);
    } else {
      if (word === "error") for (let group = this.group; group; group = group.parent) group.failed = group.errors = true;
      this.#put(changes, line, { level: word, label: word === "command" ? null : word, ...this.#annotation(found[3]) });
    }
    return true;
  }

  #annotation(text) {
    if (!text) return {};
    const { file, line, col, title } = this.#properties(text);
    const number = (value) => (/^[0-9]{1,7}$/.test(value ?? "") ? Number(value) : null);
    return { title: title || null, place: file ? { file, line: number(line), column: number(col) } : null };
  }

  #buildkite(changes, line, text) {
    const first = text.charCodeAt(0);
    if (first === 94 && OPENS.test(text)) { // ^^^ +++ opens the group that it stands in
      if (this.group) this.group.keepOpen = true;
      this.#put(changes, line, { command: [0, text.length] });
      return true;
    }
    if (first !== 45 && first !== 43 && first !== 126) return false;
    if (TRACE.test(text)) this.#traced = true;
    const found = BUILDKITE.exec(text);
    if (!found || NO_HEADING.test(text) || (this.#traced && first === 43)) return false;
    while (this.group && this.group.kind !== "gitlab") this.#close(changes, line.at);
    line.command = [0, 4];
    const group = this.#open(changes, "buildkite", found[2], line);
    if (group) Object.assign(group, { keepOpen: found[1] === "+++", collapsed: found[1] === "~~~" });
    return true;
  }

  /* One line may end sections and begin others. A terminal erases the markers; so is what is shown, but for what stood before them. */
  #gitlab(changes, line) {
    const found = [];
    for (const marker of line.text.matchAll(GITLAB)) if (found.push(marker) === MARKERS) break;
    if (!found.length) return false;
    let text = "";
    let from = 0;
    for (const marker of found) {
      text += line.text.slice(from, marker.index);
      from = marker.index + marker[0].length;
    }
    const isText = (part) => part.replace(CONTROLS, "").trim() !== "";
    const begins = found.some(([, what]) => what === "start");
    const before = isText(line.text.slice(0, found[0].index));
    line.text = text + line.text.slice(from);
    if (before && !begins) this.#put(changes, line); // it stands in what ends
    for (const [, what, seconds, name, options] of found) {
      if (what === "end") {
        this.#endSection(changes, name, Number(seconds));
        continue;
      }
      if (!isText(line.text)) line.title = name;
      const group = this.#open(changes, "gitlab", name, line, Number(seconds));
      if (group) group.collapsed = COLLAPSED.test(options ?? "");
    }
    if (!before && !begins) this.#put(changes, line, { marker: isText(line.text) ? null : "close" });
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
