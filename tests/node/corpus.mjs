/* What the viewer's model makes of logs: `node corpus.mjs` reads {name: {events, dialects}} as JSON and prints {name: [line]}.

   An event is a text, one or more lines, or {lines, text}: so many of the last lines are taken back, and the text stands below what is left. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const [{ Lines }, { Terminal, linked }, { pieces }, { levelOf, placeNear, placeOf, properties, shownOf }, { Failures }] = await Promise.all(["lines.js", "sgr.js", "look.js", "levels.js", "failures.js"].map(load));

function printed(events) {
  const lines = [];
  let draft = "";
  for (const event of events) {
    if (typeof event === "string") lines.push(...event.split("\n"));
    else {
      lines.splice(Math.max(0, lines.length - event.lines));
      draft = event.text;
    }
  }
  return draft ? [...lines, ...draft.split("\n")] : lines;
}

function read(events, dialects) {
  const lines = new Lines({ dialects, levelOf, properties });
  for (const text of printed(events)) lines.add("stdout", text, 0);
  lines.finish(1, false);
  const styles = new Terminal();
  const failed = failuresOf(lines.all.map(({ text }) => text));
  const folded = (line) => {
    for (let group = line.group; group; group = group.parent) if (!group.opens && !(line.marker === "open" && line.group === group)) return true;
    return false;
  };
  return lines.all.map((line) => {
    const cut = pieces(styles.write(line.text).line(), linked, line).map(({ text }) => text);
    const text = cut.join("");
    return { text, pieces: cut, level: levelOf(text), place: placeOf(text), folded: folded(line), title: line.marker === "open", failure: failed.has(line.number - 1) };
  });
}

/* The numbers, from 0, of the lines that are failures, where a page has seven lines. */
function failuresOf(texts) {
  const size = 7;
  const all = [];
  for (let at = 0; at < texts.length; at += size) all.push({ index: all.length, version: 1, cuts: 0, entries: texts.slice(at, at + size).map((text) => ({ text, level: null, severity: levelOf(text) })) });
  const failures = new Failures({ all, number: (key) => key + 1 }, { keyOf: (index, line) => index * size + line, shownOf, placeNear });
  for (const page of all) failures.note(page);
  return new Set(failures.keys);
}

const logs = JSON.parse(readFileSync(0, "utf8"));
const told = Object.entries(logs).map(([name, { events, dialects }]) => [name, read(events, dialects)]);
process.stdout.write(JSON.stringify(Object.fromEntries(told)));
