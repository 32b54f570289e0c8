/* The viewer's model: numbers, groups by the markers of three systems. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const { Lines, mayMark } = await load("lines.js");
const { levelOf, properties } = await load("levels.js");
const { Terminal } = await load("sgr.js");

const DIALECTS = ["github", "gitlab", "buildkite"];
const read = (texts, options) => {
  const lines = new Lines({ levelOf, properties, ...options });
  texts.forEach((text, at) => lines.add("stdout", text, 100 + at));
  return lines;
};

/* What a log looks like, a line each: "number text", titles with "> ", indented by their groups. */
function drawn(texts, dialects = DIALECTS) {
  const depth = (group) => (group ? 1 + depth(group.parent) : 0);
  return read(texts, { dialects }).all.map((line) => {
    const title = line.marker === "open";
    return `${"  ".repeat(depth(line.group) - (title ? 1 : 0))}${title ? "> " : ""}${line.number} ${new Terminal().write(line.text).line().map((run) => run.text).join("")}`;
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

test("GitHub's groups fold, in both spellings and after a time, and their markers are text", () => {
  assert.deepEqual(drawn(["::group::Install", "a", "::endgroup::", "b", "##[group]Test", "c", "##[endgroup]", "2026-11-25T20:00:00.123Z ##[group]Last", "d"]),
    ["> 1 ::group::Install", "  2 a", "  3 ::endgroup::", "4 b", "> 5 ##[group]Test", "  6 c", "  7 ##[endgroup]", "> 8 2026-11-25T20:00:00.123Z ##[group]Last", "  9 d"]);
  const [install, , , , , , , last] = read(["::group::Install", "", "", "", "", "", "", "2026-11-25T20:00:00.123Z \x1b[1m##[group]Last"]).all;
  assert.deepEqual([install.group.name, install.command, last.group.name, last.command], ["Install", [0, 9], "Last", [25, 34]]);
});

test("between a command that stops them and its word commands are text", () => {
  const texts = ["::stop-commands::PaUse", "::group::Fake", "::error file=a.py::It did not", "##[endgroup]", "::other::", "2026-11-25T20:00:00.123Z ::pause::", "::group::Real", "::stop-commands::", "::error::It did"];
  const lines = read(texts).all;
  assert.deepEqual(lines.map(({ level, group }) => [level, group?.name ?? null]), [...Array(6).fill([null, null]), [null, "Real"], [null, "Real"], ["error", "Real"]]);
  assert.deepEqual(lines.map(({ text }) => text), texts);
});

test("what only resembles a marker folds nothing", () => {
  const texts = ["+ echo ::group::Install", " ::group::Install", "::groups::x", "##[group", "::endgroup::", "section_start:1000:outer", "section_start:1000:outer\rOuter", "## [group]", "::", "a::group::b"];
  assert.ok(read(texts).all.every((line) => line.group === null && line.command === null));
});

test("GitHub's words for errors and warnings give lines their level, and a group with an error has failed", () => {
  const lines = read(["::group::Test", "::error file=a.py,line=1,col=3,title=Oh%3A no::It broke%0Ain two", "##[warning]Careful", "::endgroup::", "##[command]git status", "::error title=x::"]);
  assert.deepEqual(lines.all.map(({ level, label, title, place, command }) => [level, label, title, place, command]), [
    [null, null, null, null, [0, 9]],
    ["error", "error", "Oh: no", { file: "a.py", line: 1, column: 3 }, [0, 47]],
    ["warning", "warning", null, null, [0, 11]],
    [null, null, null, null, [0, 12]],
    ["command", null, null, null, [0, 11]],
    ["error", "error", "x", null, [0, 17]],
  ]);
  assert.equal(lines.all[1].text, "::error file=a.py,line=1,col=3,title=Oh%3A no::It broke%0Ain two");
  assert.equal(lines.all[0].group.failed, true);
});

test("GitLab's sections nest, one line may end one and begin another, and durations are theirs", () => {
  const lines = read([
    "\x1b[0Ksection_start:1000:outer\r\x1b[0KOuter",
    "\x1b[0Ksection_start:1001:inner[collapsed=true]\r\x1b[0K\x1b[36mInner\x1b[0m",
    "text", // a CR would end the line of an event: it is left out on the way
    "\x1b[0Ksection_end:1004:inner\r\x1b[0K\x1b[0Ksection_start:1004:next\r\x1b[0KNext",
    "section_end:1010:outer\x1b[0K",
  ]);
  const [outer, inner, , next] = lines.all.map((line) => line.group);
  assert.deepEqual([outer.duration, inner.duration, inner.collapsed, inner.parent, next.parent], [10, 3, true, outer, outer]);
  assert.deepEqual([outer.over, next.over, lines.group], [true, true, null]);
  assert.deepEqual(lines.all.map((line) => [line.number, line.text, line.marker]), [[1, "Outer", "open"], [2, "\x1b[36mInner\x1b[0m", "open"], [3, "text", null], [4, "Next", "open"], [5, "", "close"]]);
});

test("what stands before a marker of GitLab's on the same line is shown, in the section that it belongs to", () => {
  const lines = read(["\x1b[0Ksection_start:1:a\r\x1b[0K", "error: it failed\x1b[0Ksection_end:2:a\r\x1b[0K", "\x1b[0Ksection_start:3:b\r\x1b[0KB", "\x1b[0Ksection_end:4:b\r\x1b[0KJob succeeded"]);
  const [a, failed, b, after] = lines.all;
  assert.deepEqual([a.title, a.text, failed.text, failed.group, failed.marker], ["a", "", "error: it failed\x1b[0K".replace("\x1b[0K", ""), a.group, null]);
  assert.deepEqual([a.group.errors, a.group.opens, b.group.opens, after.text, after.group], [true, true, false, "Job succeeded", null]);
});

test("Buildkite's headings fold what follows where they are chosen, and +++ stays open", () => {
  const texts = ["before", "--- :package: Install", "a", "+++ Test", "b", "~~~ Clean up", "c"];
  assert.deepEqual(drawn(texts, ["buildkite"]), ["1 before", "> 2 --- :package: Install", "  3 a", "> 4 +++ Test", "  5 b", "> 6 ~~~ Clean up", "  7 c"]);
  assert.deepEqual(drawn(texts, undefined).length, 7);
  assert.ok(read(texts).all.every((line) => line.group === null));
  const lines = read(["+++ Test", "~~~ Quiet", "^^^ +++"], { dialects: DIALECTS });
  assert.deepEqual(lines.all.filter((line) => line.marker === "open").map(({ group }) => [group.keepOpen, group.collapsed]), [[true, false], [true, true]]);
});

test("patches, results of Go's tests, documents of YAML and rules are no headings, where those are chosen too", () => {
  const texts = ["--- a/setup.py", "+++ b/setup.py", "--- /dev/null", "--- old.txt\t2026-01-01 10:00:00", "---", "----- a rule", "+++", "--- PASS: TestA (0.00s)", "--- FAIL: TestB (0.00s)", "--- SKIP: TestC (0.00s)",
    "--- # a document", "--- !tag", "--- ***** -----", "--- a.py", "+++ src/a.py", "--- ---", "--- Expected", "+++ Actual", "+ false", "++ dirname x", "    --- FAIL: TestB/sub (0.00s)"];
  assert.deepEqual(drawn(texts), texts.map((text, at) => `${at + 1} ${text}`));
  const trace = ["+ set -e", "+++ echo /a", "++ basename /a", "a"];
  assert.deepEqual(drawn(trace), trace.map((text, at) => `${at + 1} ${text}`), "a shell shows its commands");
});

test("a group opens that holds an error, or whose end nobody told; what went well is folded when it is over", () => {
  const texts = ["::group::Good", "fine", "::endgroup::", "::group::Bad", "--- FAIL: TestB (0.00s)", "more", "::endgroup::", "::group::Cut", "0 errors"];
  const lines = read(texts);
  lines.finish(200, false);
  const groups = lines.all.filter((line) => line.marker === "open").map((line) => line.group);
  assert.deepEqual(groups.map(({ name, errors, opens }) => [name, errors, opens]), [["Good", false, false], ["Bad", true, true], ["Cut", false, true]]);
  const said = new Lines();
  for (const [text, level] of [["::group::A", null], ["it failed", "critical"], ["::endgroup::", null]]) said.add("stdout", text, 1, level);
  assert.equal(said.all[0].group.opens, true);
});

test("what may be a marker is told cheaply, and nothing that is one is missed", () => {
  const texts = ["::group::x", "\x1b[1m::group::x", "2026-11-25T20:00:00.123Z ##[group]x", "##[error]x", "::error file=a::x", "x\x1b[0Ksection_end:1:a\r\x1b[0K", "--- x", "+++ x", "~~~ x", "^^^ +++", "\x1b[31m--- x"];
  for (const text of texts) assert.equal(mayMark(text, DIALECTS), true, text);
  const plain = ["", "x", "- x", "2026-11-25T20:00:00.123Z x", "\x1b[31mx", "--- x", "#12 0.345 copying", "# heading", "\x1b[34m#7 DONE 0.1s", ": x", ":x::"];
  for (const text of plain) assert.equal(mayMark(text), false, text);
});

test("at the end everything is over, and what was open has failed where the whole has", () => {
  const lines = new Lines();
  for (const text of ["::group::Install", "ok", "::group::Test", "broken"]) lines.add("stdout", text, 10);
  const changes = lines.finish(15, true);
  assert.deepEqual(changes.map(({ close }) => [close.name, close.failed, close.duration]), [["Test", true, 5]]);
  assert.equal(lines.all[0].group.failed, false);
});

test("every line keeps its text and a number of its own, whatever is in it", () => {
  const lines = new Lines({ dialects: DIALECTS, levelOf, properties });
  const parts = ["::group::", "::endgroup::", "##[group]", "##[", "section_start:1:a", "section_end:1:a\r\x1b[0K", "section_start:2:b\r\x1b[0K", "section_start:", "--- ", "+++ ", "~~~ ", "^^^ +++", "\x1b[0K", "\x1b", "::error::", "x", "<b>", "\r", ":"];
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
  assert.deepEqual(lines.all.map((line) => line.number), Array.from({ length: 20_000 }, (_, at) => at + 1));
});
