/* The part of the address after "#" that says which lines are meant, where the reader is, and what is sought. Pure.

   #L120, #L120-L140; &at=5000, the line at the top; &q=error&re=1&case=1&only=1&around=3&level=error,warning&from=stderr. Where not every
   line before is counted, &event= says which event a line is of. */

const LINES = /^L(\d{1,9})(?:-L?(\d{1,9}))?$/;
const LEVELS = ["error", "warning", "info", "debug"];
const SOURCES = ["stdout", "stderr"];
const NUMBER = /^\d{1,15}$/;
const LONGEST = 500; // characters of what is sought

const bare = (hash) => (hash.startsWith("#") ? hash.slice(1) : hash);

/** The lines that "#L120" or "#L120-L140" names, {first, last}; null for anything else. */
export function lineRange(hash) {
  const found = LINES.exec(bare(hash).split("&")[0]);
  if (!found) return null;
  const [one, other] = [Number(found[1]), Number(found[2] ?? found[1])];
  return { first: Math.min(one, other), last: Math.max(one, other) };
}

/** {lines, event, at, query, regex, sensitive, only, around, levels, source}: null or false where it is not said. */
export function placeOf(hash) {
  const parts = new URLSearchParams(bare(hash).split("&").filter((part) => !LINES.test(part)).join("&"));
  const number = (name) => (NUMBER.test(parts.get(name) ?? "") ? Number(parts.get(name)) : null);
  const levels = (parts.get("level") ?? "").split(",").filter((name) => LEVELS.includes(name));
  return {
    lines: lineRange(hash),
    event: number("event"),
    at: number("at"),
    query: (parts.get("q") ?? "").slice(0, LONGEST),
    regex: parts.get("re") === "1",
    sensitive: parts.get("case") === "1",
    only: parts.get("only") === "1",
    around: number("around"),
    levels: levels.length ? levels : null,
    source: SOURCES.includes(parts.get("from")) ? parts.get("from") : null,
  };
}

/** The text of a place, with its "#"; "" for nothing. */
export function hashOf({ lines, event, at, query, regex, sensitive, only, around, levels, source }) {
  const parts = [];
  if (lines) parts.push(lines.first === lines.last ? `L${lines.first}` : `L${lines.first}-L${lines.last}`);
  const add = (name, value) => {
    if (value) parts.push(`${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`);
  };
  add("event", lines && event);
  add("at", at);
  add("q", query);
  add("re", query && regex ? "1" : "");
  add("case", query && sensitive ? "1" : "");
  add("only", only ? "1" : "");
  if (only && around !== null && around !== undefined) parts.push(`around=${around}`);
  add("level", levels?.join(","));
  add("from", source);
  return parts.length ? `#${parts.join("&")}` : "";
}
