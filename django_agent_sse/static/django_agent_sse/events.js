/* What the events of a log say: which are lines, how they look, and what the others mean. Pure: no DOM. */

export const LEVELS = ["debug", "info", "warning", "error", "critical"]; // of Python's logging, as contrib.logging.TopicHandler names its events
const LINE_EVENTS = new Set(["message", "log", "stdout", "stderr", "", ...LEVELS]);
const END_EVENTS = ["exit", "complete"];
const SEVERITY = { critical: "error", error: "error", warning: "warning", notice: "info", info: "info", debug: "debug" };
const WORD = 200; // characters of a status or a step
const DRAFT_LINES = 200;
const EXAMINED = 2000; // lines of one event whose levels are looked for, as the server does
const FIELDS = 50; // of a record
const VALUE = 1000; // characters of one

export const TONES = {
  good: ["passed", "succeeded", "success", "completed", "ok", "done", "finished"],
  bad: ["failed", "error", "errored", "failure", "lost", "timeout"],
  busy: ["running", "started"],
  idle: ["queued", "waiting", "pending"],
};
export const toneOf = (status) => Object.keys(TONES).find((name) => TONES[name].includes(status.toLowerCase())) ?? "other";

const json = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

/* What may stand in the header: text or a number, and not too much of it. */
const cut = (value, most) => (["string", "number"].includes(typeof value) ? String(value).slice(0, most) : "");
const word = (value) => cut(value, WORD);
const isSpan = ({ first, last }) => Number.isSafeInteger(first) && Number.isSafeInteger(last) && 0 < first && first <= last;
const isDraft = ({ source, lines, text }) => ["stdout", "stderr"].includes(source) && typeof text === "string" && Number.isInteger(lines) && lines >= 0 && lines <= DRAFT_LINES;

/* What belongs to the line before it. */
function recordOf({ logger, file, line, fields }) {
  const known = Object.entries(Object(fields ?? {})).slice(0, FIELDS).map(([name, value]) => [name.slice(0, WORD), value === null || typeof value === "boolean" ? value : cut(value, VALUE)]);
  return { logger: word(logger), file: word(file), line: Number.isSafeInteger(line) ? line : null, fields: Object.fromEntries(known) };
}

function linesOf(text) {
  let count = 1;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count += 1;
  return count;
}

/** The number of an event in its topic; null where its id has none. */
export function offsetOf(id) {
  const found = /^[\w-]{1,64}\.(\d{1,15})(?:\.[\w-]{1,64})?$/.exec(id ?? "");
  return found ? Number(found[1]) : null;
}

/** Reads events as pages.js wants them, of one that has very many lines the first `most`. `tools`: {Entry, Note} of pages.js, {levelOf} of levels.js, {t, number} of words.js. */
export function reader({ Entry, Note, levelOf, t, number }) {
  const severity = (level, text) => (level ? SEVERITY[level] : levelOf(text)) ?? null;
  const lines = (name, data, at, most) => {
    const source = name === "stderr" ? "stderr" : "stdout";
    const level = LEVELS.includes(name) ? name : null;
    if (!data.includes("\n")) return { lines: [new Entry(data, source, at, level, level, severity(level, data))] };
    const read = data.split("\n", most).map((text, index) => new Entry(text, source, at, level, index ? null : level, index < EXAMINED ? severity(level, text) : null));
    const left = read.length < most ? 0 : linesOf(data) - most;
    return { lines: read, rest: left ? new Note(t("{count} more line is not shown here: the raw text has it.", "{count} more lines are not shown here: the raw text has them.", { count: left }), left) : null };
  };
  return ({ event, data, at = null }, most = Infinity) => {
    const name = event ?? "";
    if (LINE_EVENTS.has(name)) return lines(name, data, at, Math.min(most, 2 ** 31));
    if (!["replace", "missing", "record"].includes(name)) return null;
    const told = Object(json(data) ?? {});
    if (name === "record") return { record: recordOf(told) };
    if (name === "replace") return isDraft(told) ? { replace: told } : null;
    if (!isSpan(told)) return null;
    return { note: new Note(t("Lines {first} to {last} are no longer kept.", { first: String(told.first), last: String(told.last) }), told.last - told.first + 1) };
  };
}

/** What an event says of the whole log: {status}, {progress: {fraction, step}} or {exit: {code, seconds, status}}; null for nothing. */
export function aboutOf(name, data) {
  if (LINE_EVENTS.has(name)) return null;
  const told = Object(json(data) ?? {});
  if (END_EVENTS.includes(name)) {
    const code = told.code ?? told.exit_code ?? null;
    const seconds = told.seconds ?? told.duration;
    return { exit: { code: Number.isInteger(code) ? code : null, seconds: Number.isFinite(seconds) ? seconds : null, status: word(told.status) } };
  }
  if (name === "status" && word(told.status)) return { status: word(told.status) };
  if (name === "progress") return { progress: { fraction: Number.isFinite(told.fraction) ? told.fraction : null, step: word(told.step) } };
  return null;
}

export const isLine = (name) => LINE_EVENTS.has(name);
