/* The viewer's model: numbers, groups by the markers of three systems, links to lines, search. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { Lines, lineRange, matches, pattern, spoken } = await import(pathToFileURL(join(process.env.STATIC, "lines.js")));

/* What a log looks like, a line each: "number text", titles with "> ", indented by their groups. */
function drawn(...texts) {
  const lines = new Lines();
  texts.forEach((text, at) => lines.add("stdout", text, 100 + at));
  const depth = (group) => (group ? 1 + depth(group.parent) : 0);
  return lines.all.filter((line) => line.marker !== "close").map((line) => {
    const title = line.marker === "open";
    return `${"  ".repeat(depth(line.group) - (title ? 1 : 0))}${title ? "> " : ""}${line.number ?? "-"} ${line.text.replace(/\x1b\[[\d;]*[a-zA-Z]/g, "")}`;
  });
}

test("lines are numbered as they come, and stderr is counted", () => {
  const lines = new Lines();
  lines.add("stdout", "one");
  lines.add("stderr", "two");
  lines.skip(10);
  lines.add("stdout", "thirteen");
  assert.deepEqual(lines.all.map((line) => line.number), [1, 2, 13]);
  assert.equal(lines.errors, 1);
  assert.equal(lines.numbered(13).text, "thirteen");
  assert.deepEqual(lines.between({ first: 2, last: 1e8 }).map((line) => line.number), [2, 13]);
});

test("GitHub's groups fold, in both spellings and after a time", () => {
  assert.deepEqual(drawn("::group::Install", "a", "::endgroup::", "b", "##[group]Test", "c", "##[endgroup]", "2026-11-25T20:00:00.123Z ##[group]Last", "d"),
    ["> 1 Install", "  2 a", "4 b", "> 5 Test", "  6 c", "> 8 Last", "  9 d"]);
});

test("GitHub's words for errors and warnings give lines their level, and a group with an error has failed", () => {
  const lines = new Lines();
  for (const text of ["::group::Test", "::error file=a.py,line=1::It broke", "##[warning]Careful", "::endgroup::"]) lines.add("stdout", text, 1);
  assert.deepEqual(lines.all.map((line) => [line.level, line.text]), [[null, "Test"], ["error", "It broke"], ["warning", "Careful"], [null, ""]]);
  assert.equal(lines.all[0].group.failed, true);
});

test("GitLab's sections nest, one line may end one and begin another, and durations are theirs", () => {
  const lines = new Lines();
  lines.add("stdout", "\x1b[0Ksection_start:1000:outer\r\x1b[0KOuter");
  lines.add("stdout", "\x1b[0Ksection_start:1001:inner[collapsed=true]\r\x1b[0K\x1b[36mInner\x1b[0m");
  lines.add("stdout", "text");
  lines.add("stdout", "\x1b[0Ksection_end:1004:inner\r\x1b[0K\x1b[0Ksection_start:1004:next\r\x1b[0KNext");
  lines.add("stdout", "section_end:1010:outer\r\x1b[0K");
  const [outer, inner, , next] = lines.all.map((line) => line.group);
  assert.deepEqual([outer.duration, inner.duration, inner.collapsed, inner.parent, next.parent], [10, 3, true, outer, outer]);
  assert.deepEqual([outer.over, next.over, lines.group], [true, true, null]);
  assert.deepEqual(lines.all.map((line) => line.number), [1, 2, 3, 4, 5]);
});

test("Buildkite's headings fold what follows, and +++ stays open", () => {
  assert.deepEqual(drawn("before", "--- :package: Install", "a", "+++ Test", "b", "~~~ Clean up", "c"),
    ["1 before", "> 2 :package: Install", "  3 a", "> 4 Test", "  5 b", "> 6 Clean up", "  7 c"]);
  const lines = new Lines();
  for (const text of ["+++ Test", "~~~ Quiet", "^^^ +++"]) lines.add("stdout", text, 1);
  assert.deepEqual(lines.all.filter((line) => line.marker === "open").map(({ group }) => [group.keepOpen, group.collapsed]), [[true, false], [true, true]]);
});

test("a patch is no heading", () => {
  const patch = ["--- a/setup.py", "+++ b/setup.py", "--- /dev/null", "--- old.txt\t2026-01-01 10:00:00", "---", "----- a rule", "+++"];
  assert.deepEqual(drawn(...patch), patch.map((text, at) => `${at + 1} ${text}`));
});

test("at the end everything is over, and what was open has failed where the whole has", () => {
  const lines = new Lines();
  for (const text of ["--- Install", "ok", "--- Test", "broken"]) lines.add("stdout", text, 10);
  const changes = lines.finish(15, true);
  assert.deepEqual(changes.map(({ close }) => [close.line.text, close.failed, close.duration]), [["Test", true, 5]]);
  assert.equal(lines.all[0].group.failed, false);
});

test("every line keeps its text and a number of its own, whatever is in it", () => {
  const lines = new Lines();
  const parts = ["::group::", "::endgroup::", "##[group]", "##[", "section_start:1:a", "section_end:1:a\r", "section_start:", "--- ", "+++ ", "~~~ ", "^^^ +++", "\x1b[0K", "\x1b", "::error::", "x", "<b>", "\r", ":"];
  let state = 7;
  for (let number = 1; number <= 20_000; number += 1) {
    let text = "";
    for (let count = 0; count < 4; count += 1) {
      state = (state * 1664525 + 1013904223) >>> 0;
      text += parts[state % parts.length];
    }
    lines.add("stdout", text, number);
    assert.ok(lines.numbered(number), JSON.stringify(text));
  }
  const numbers = lines.all.map((line) => line.number).filter((number) => number !== null);
  assert.equal(new Set(numbers).size, numbers.length);
});

test("links to lines", () => {
  assert.deepEqual(lineRange("#L120"), { first: 120, last: 120 });
  assert.deepEqual(lineRange("#L120-L140"), { first: 120, last: 140 });
  assert.deepEqual(lineRange("#L140-120"), { first: 120, last: 140 });
  for (const hash of ["", "#", "#L", "#L1x", "#top", "#L1-L", "#L99999999999"]) assert.equal(lineRange(hash), null);
});

test("search: text as it is, regular expressions, case", () => {
  const found = (query, options, text = "Error: a.b error (ERROR)") => matches(pattern(query, options), text);
  assert.deepEqual(found("error"), [[0, 5], [11, 16], [18, 23]]);
  assert.deepEqual(found("error", { sensitive: true }), [[11, 16]]);
  assert.deepEqual(found("a.b", {}, "axb a.b"), [[4, 7]]);
  assert.deepEqual(found("a.b", { regex: true }, "axb a.b"), [[0, 3], [4, 7]]);
  assert.deepEqual(found("x*", { regex: true }, "axxb"), [[1, 3]]);
  assert.deepEqual(found("(){}[]^$|\\/-"), []);
  assert.equal(pattern(""), null);
  assert.throws(() => pattern("(", { regex: true }), SyntaxError);
});

test("seconds as people say them", () => {
  assert.deepEqual([spoken(0), spoken(3.26), spoken(59.99), spoken(65), spoken(7620)], ["0.0 s", "3.2 s", "59.9 s", "1 min 05 s", "2 h 07 min"]);
});
