/* What the viewer's model makes of logs: `node corpus.mjs` reads {name: [event]} as JSON and prints {name: {lines, groups}}.

   An event is a text, one or more lines, or {lines, text}: so many of the last lines are taken back, and the text stands below what is left. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const [{ Lines }, { Terminal, linked }, { pieces }, { levelOf, placeOf, properties }] = await Promise.all(["lines.js", "sgr.js", "look.js", "levels.js"].map(load));

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
  const folded = (line) => {
    for (let group = line.group; group; group = group.parent) if (!group.opens && !(line.marker === "open" && line.group === group)) return true;
    return false;
  };
  return lines.all.map((line) => {
    const cut = pieces(styles.write(line.text).line(), linked, line).map(({ text }) => text);
    const text = cut.join("");
    return { text, pieces: cut, level: levelOf(text), place: placeOf(text), folded: folded(line), title: line.marker === "open" };
  });
}

const logs = JSON.parse(readFileSync(0, "utf8"));
const told = Object.entries(logs).map(([name, { events, dialects }]) => [name, read(events, dialects)]);
process.stdout.write(JSON.stringify(Object.fromEntries(told)));
