/* What a log, a stream or an address says is read in linear time: every regular expression, and the functions around them. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "node:test";

import { expressions } from "./expressions.mjs";
import { EventStream, Parser, STREAM, state } from "./serving.mjs";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const { Lines, SHOWN, cutAt, whole } = await load("lines.js");
const { hashOf, placeOf: hashPlace } = await load("place.js");
const { Terminal, linked, width } = await load("sgr.js");
const { pieces } = await load("look.js");
const { levelOf, placeOf, properties } = await load("levels.js");

const SIZES = process.env.LONG_PROOFS ? [10_000, 100_000, 1_000_000] : [10_000, 100_000];
const MOST = 4; // times more than linear: for ten times as much that is 40 times as long, and 100 is quadratic
const FLOOR = 5; // milliseconds below which nothing is compared
const AGAIN = 8;
const DOUBTS = 4; // the collector and the compiler of a process compute, too
const ABSURD = 50; // characters in a millisecond: what is slower need not be measured with more
const CERTAIN = 2_000; // milliseconds of a run that no noise explains

const times = (text, size) => text.repeat(Math.ceil(size / text.length)).slice(0, size);
const all = (...texts) => texts.map((text) => (size) => times(text, size));
const between = (before, text, after) => (size) => before + times(text, size) + after;

/** What a user types into the search box may be slow: it is tried in a worker, which is ended after a while. These are made of it. */
const TYPED = ["search-worker.js: new RegExp(source, flags)", "search.js: new RegExp(source, `${flags}u`)", "search.js: new RegExp(source, flags)"];

/** One character of a class: that takes no other time than reading it. */
const CLASS = /^\S+ \/\[[^\]]*\]\/u?$/;

/** Of levels.js and failures.js, whose expressions see the beginning of a line only: these are tried on each of their rules. */
const LEVELLED = [
  ...all("x", "a", "A", "1", " ", "\t", ".", ":", "-", "=", "a.", "A.", "a:", "a::", "a-", "a ", "a=b ", 'a="b" ', "1:", "1: ", "a:1: ", "(", "["),
  ...all("a.go:1:1 ", "...", ": Assertion ", " FAILED ", "[ 1%]", "exit code 1", "a: error", "::error ", "1 runs 1", "(0 errors, ", "| ", "#1 ", "\x1b[", "\x1b]", "a.py:", "Makefile", "\r"),
  ...[["ok ", "a"], ["1 runs ", "1 "], ["{", "a"], ["{", '"level":'], ["20:00:00", " a"], ["20:00:00", "-"], ["20:00:00 a", " "], ["::error ", "x"], ["::error ", ":x"], ["not ok ", "#"],
    ["a FAILED", " "], ["a ok=1 ", "a"], ["a : ok=1 ", "failed="], ["Failed", " "], ["\x1b[", "0"], ["\x1b", " "], ["\x1b]", "x"]].map(([before, text]) => between(before, text, "")),
];

/** By each expression of the package, the inputs that are worst for it. */
const WORST = {
  "client.js: /\\r\\n?|\\n/g": all("\r", "\n", "\r\n", "x"),
  "client.js: /^[0-9]+$/": [between("", "1", "x")],
  "client.js: /^[0-9]{1,9}(?:\\.[0-9]{1,9})?$/": [between("", "1", "x"), between("1.", "1", "x")],
  "client.js: /^\\s*\\d+\\s*$/": [between("", " ", "x"), between("", "1", "x"), between("1", " ", "x"), between(" 1", " 1", "")],
  "client.js: /^\\/+/": [between("", "/", "x")],
  ...Object.fromEntries(["element.js", "react.js"].map((name) => [`${name}: /\\bsse_signature=[^&#]*/`, [between("sse_signature=", "x", ""), ...all("sse_signature", "sse_signature=", "_s")]])),
  "element.js: /\\s+/": [between("", " ", "x"), ...all("x ", " x")],
  "lines.js: /\\x1b\\[[0-?]*[ -/]*[@-~]/g": [between("\x1b[", "1;", "\n"), between("\x1b[1", " ", "\n"), ...all("\x1b[1", "\x1b[", "\x1b[m")],
  "lines.js: /^((?:\\d{4}-\\d\\d-\\d\\dT[\\d:.]{8,20}Z )?)(?:::(group|endgroup|error|warning|notice|debug|stop-commands)(?: (.*?))?::|##\\[(group|endgroup|error|warning|debug|command)\\])/s": [
    between("2026-11-25T", "1:", "x"), between("2026-11-25T", "1Z", " x"), between("::error ", "x", ""), between("::error ", ":x", ""), between("::error::", "::", "\n"), between("::error ", ":", "x"),
  ],
  "lines.js: /^(?:\\d{4}-\\d\\d-\\d\\dT[\\d:.]{8,20}Z )?::([^\\s:]{1,200})::/": [between("2026-11-25T", "1:", "x"), between("::", "x", ""), between("::", "x", ":"), ...all("::", "::a", ":")],
  "lines.js: /(?:\\x1b\\[0?K)?section_(start|end):(\\d{1,12}):([\\w.-]{1,200})(\\[[^\\]\\r]{0,200}\\])?\\r?\\x1b\\[0?K/g": [
    between("section_start:1:a[", "x", ""), ...all("section_start:1:a[", "section_end:1:a\r", "\x1b[0K", "section_", "section_start:1", `section_end:1:${"a".repeat(300)}`, "section_end:1:a\r\x1b[0K"),
  ],
  "lines.js: /^(---|\\+\\+\\+|~~~) ([\\p{L}\\p{N}:\\p{Extended_Pictographic}\"'`(<[].*)$/su": [between("--- ", " ", ""), between("--- x", "\n", "")],
  "lines.js: /^(?:---|\\+\\+\\+) (?:\"?[ab]\\/|\\/dev\\/null|.*\\t\\d{4}-|\\S+\\.\\w{1,9}$|(?:PASS|FAIL|SKIP|BENCH): |(?:expected|actual|before|after|old|new|original|modified)\\s*$)/i": [
    between("--- ", "\t", ""), between("--- ", "\t1234", ""), between("--- ", "x", ""), between("--- ", "a.", ""), between("--- ", "a.b", "-"), between("--- old", " ", "x"),
  ],
  "lines.js: /^\\^\\^\\^ \\+{3}\\s*$/": [between("^^^ +++", " ", "x"), between("^^^ +++", "\n", "x")],
  "lines.js: /^\\+{1,2} /": all("+", "+ "),
  "lines.js: /\\bcollapsed=true\\b/": all("collapsed=", "collapsed=truex", " c"),
  "lines.js: /^[0-9]{1,7}$/": all("1", " "),
  "look.js: /%(?:0A|0D|25)/": all("%", "%0", "x"),
  "lines.js: /\\x1b\\[[0-?]*[ -/]*[@-~]|[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]/g": [between("\x1b[", "1", "\n"), between("\x1b[1", " ", "\n"), between("\x1b[", "1 ", ""), ...all("\x1b[", "\x1b", "\x00")],
  "draw.js: /[\\da-f]{6}/g": all("a", "aaaaa-", "x"),
  "draw.js: /\\x1b\\[[\\d;:]*m/g": [between("\x1b[", "1;", "\n"), ...all("\x1b[1", "\x1b[", "\x1b[m")],
  "events.js: /^[\\w-]{1,64}\\.(\\d{1,15})(?:\\.[\\w-]{1,64})?$/": [between("", "a", "x"), between("a.", "1", "x"), between("a.1.", "a", "!"), ...all(".", "a.")],
  "log.js: /-(\\w)/g": all("-", "-a", "a"),
  "log.js: /[\\s,]+/": all(" ", ",", " a,"),
  "folds.js: /\\x1b\\[[0-?]*[ -/]*[@-~]/g": [between("\x1b[", "1;", "\n"), between("\x1b[1", " ", "\n"), ...all("\x1b[1", "\x1b[", "\x1b[m")],
  "order.js: /\\x1b\\[[0-?]*[ -/]*[@-~]/g": [between("\x1b[", "1;", "\n"), between("\x1b[1", " ", "\n"), ...all("\x1b[1", "\x1b[", "\x1b[m")],
  "panel.js: /^[0-9]{1,9}$/": [between("", "1", "x")],
  "place.js: /^L(\\d{1,9})(?:-L?(\\d{1,9}))?$/": [between("L", "1", "x"), between("L1-", "1", "x"), ...all("L", "L1-")],
  "place.js: /^\\d{1,15}$/": [between("", "1", "x")],
  "search.js: /[.*+?^${}()|[\\]\\\\]/g": all(".", "x", "\\", "(a)*"),
  "react.js: /^\\s*[{[]/": [between("", " ", "x")],
  "words.js: /\\p{L}/u": all("1", "{"),
  "words.js: /\\{(\\w+)\\}/g": [between("{", "x", ""), ...all("{", "{a", "{a}")],
  "words.js: /^(?:ar|ckb|dv|fa|he|ks|ps|sd|ug|ur|yi)(?:-|$)/i": [between("ar-", "x", ""), between("", "ar", "")],
  "sgr.js: /[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f]/g": all("\x00", "x", "\x9f"),
  "sgr.js: /^(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d-\\x9f])/": all("\x1b", "\x1b]"),
  "sgr.js: /^\\d*$/": [between("", "1", "x")],
  "sgr.js: /^[\\d;:]*$/": [between("", "1", "x"), between("", ";", "x")],
  "sgr.js: /\\bhttps?:\\/\\/[^\\s<>\"'`\\x00-\\x1f\\x7f-\\x9f]+/g": [between("https://", "x", ""), ...all("http", "http://", "https:// ", "https://a ")],
};

/** Milliseconds that this process has computed: what else runs on the machine takes none of them. */
function computed() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function took(work, text) {
  text.charCodeAt(0); // one piece of memory
  const begun = computed();
  work(text);
  return computed() - begun;
}

/** Whether the work on each size takes about as many times longer as that is larger, and how long it takes. A doubt is measured again. */
function grown(work, input, sizes = SIZES) {
  const all = [];
  for (const [place, size] of sizes.entries()) {
    const text = input(size);
    all.push(took(work, text));
    const isAbsurd = () => all[place] * ABSURD > size;
    for (let again = 0; again < DOUBTS && isAbsurd() && all[place] < CERTAIN; again += 1) all[place] = Math.min(all[place], took(work, text));
    if (isAbsurd()) return [false, all];
    if (!place) continue;
    const most = (MOST * size) / sizes[place - 1];
    const before = input(sizes[place - 1]);
    const isMuch = () => all[place] > most * Math.max(all[place - 1], FLOOR);
    for (let again = 0; again < AGAIN && isMuch() && all[place] < CERTAIN; again += 1) {
      all[place - 1] = Math.min(all[place - 1], took(work, before));
      all[place] = Math.min(all[place], took(work, text));
    }
    if (isMuch()) return [false, all];
  }
  return [true, all];
}

function isLinear(work, input, about, sizes = SIZES) {
  const [linear, all] = grown(work, input, sizes);
  const shown = JSON.stringify(input(60)).slice(0, 80);
  assert.ok(linear, `${about}, fed ${shown}: ${all.map((one) => one.toFixed(1)).join(", ")} ms for ${sizes.slice(0, all.length).join(", ")} characters`);
}

function used(expression) {
  return (text) => {
    expression.lastIndex = 0;
    if (!expression.global) return expression.exec(text);
    let count = 0;
    for (const found of text.matchAll(expression)) count += found[0].length;
    return count;
  };
}

test("the measure tells quadratic from linear", () => {
  assert.equal(grown(used(/[.,;:!?]+$/), between("", ".", "x"), [4_000, 40_000])[0], false);
  assert.equal(grown(used(/[.,;:!?]+/g), between("", ".", "x"))[0], true);
});

test("every regular expression of the package has its worst inputs here, and there is one exception", () => {
  const names = new Set(expressions.map(({ name }) => name));
  assert.deepEqual([...names].filter((name) => !/^(?:levels|failures)\.js: /.test(name) && !CLASS.test(name)).sort(), [...Object.keys(WORST), ...TYPED].sort());
  assert.deepEqual(expressions.filter(({ expression }) => expression === null).map(({ name }) => name), TYPED);
});

for (const [name, expression] of new Map(expressions.filter((one) => one.expression).map((one) => [one.name, one.expression]))) {
  test(`linear: ${name}`, () => {
    if (WORST[name]) for (const input of WORST[name]) isLinear(used(expression), input, name);
    else for (const input of LEVELLED) isLinear(used(expression), input, name, [1_000, 10_000]);
  });
}

// What stands around them

const LINES = [
  ...all("x", "\x1b", "\x1b[", "\x1b[1", "\x1b[31mx", "\x1b]", "\x1b]0;", "\x90", "\x9b", "\r", "x\r", "\b", "xx\b", "\x1b[2Kx\b", "\x1b(", "\x1b   ", "\n"),
  ...all("::group::", "section_start:1:a\r", "section_start:1:a[", "--- ", "^^^ +++ ", "https://a.b/c) ", "https://a/)", "https://", "é😀"),
  between("https://a/", ")", ""), between("https://a/", "(", ")"), between("https://a/", ".", ""), between("https://a/", ".)", ""), between("https://a/", "]}).", ""), between("https://a/", "[", "]"),
  between("\r", "x\x1b[1K", ""), (size) => `${times("x", size / 2)}\r${times("\x1b[1K", size / 2)}`, (size) => `${times("x", size / 2)}\b${times("\x1b[1K", size / 2)}`,
  (size) => `${times("x", size / 2)}\b${times("\x1b[2Kx", size / 2)}`, (size) => `${times("x", size / 2)}\b${times("\x1b[1Kx", size / 2)}`,
];

for (const [name, work] of Object.entries({
  "a terminal's line": (text) => new Terminal().write(text).line(),
  "addresses in a text": (text) => linked(text),
  "a line, and its markers": (text) => new Lines({ dialects: ["github", "gitlab", "buildkite"], levelOf, properties }).add("stdout", text),
  "the pieces of a line": (text) => pieces([{ text, style: null }], linked, { command: [0, 2], level: "error" }),
  "the text of a line": (text) => whole({ plain: "", rest: text, over: false }),
  "a link to a line": (text) => hashOf(hashPlace(`#L${text}`)),
  "the level of a line": (text) => levelOf(text),
  "the place that a line names": (text) => placeOf(text),
  "where to cut": (text) => cutAt(text, text.length - 1),
})) {
  test(`linear: ${name}`, () => {
    for (const input of LINES) isLinear(work, input, name);
  });
}

test("linear: many lines that open and close groups", () => {
  const shapes = {
    nested: (number) => `section_start:1:s${number}\r\x1b[0KS`,
    "ended though never begun": (number) => (number % 2 ? `section_start:1:s${number}\r` : `section_end:1:other${number}\r`),
    "of one name": (number) => (number % 3 ? "section_start:1:a\r" : "section_end:1:a\r"),
    github: (number) => (number % 3 ? "::group::G" : "::error::E"),
  };
  for (const [name, shape] of Object.entries(shapes)) {
    const work = (text) => {
      const lines = new Lines();
      for (let number = 0; number < text.length / 10; number += 1) lines.add("stdout", shape(number), number);
      lines.finish(1, true);
    };
    isLinear(work, (size) => times("x", size), `groups ${name}`);
  }
});

// The parser of a stream

const MEBI = 2 ** 20;

function fed(bytes, piece) {
  const parser = new Parser();
  let characters = 0;
  for (let at = 0; at < bytes.length; at += piece) for (const { data } of parser.feed(bytes.subarray(at, at + piece))) characters += data.length;
  return characters;
}

for (const [name, text] of Object.entries({ "one line": "x", "lines of data": "x\ndata: ", "carriage returns": "\r:", "lines without meaning": "x\n" })) {
  test(`linear: what comes in pieces of 1 KiB, ${name}`, () => {
    const sizes = process.env.LONG_PROOFS ? [MEBI, 8 * MEBI, 64 * MEBI] : [MEBI / 8, MEBI];
    const bytes = new Map(sizes.map((size) => [size, new TextEncoder().encode(`data: ${times(text, size)}\n\n`)]));
    const [linear, all] = grown((of) => fed(bytes.get(Number(of)), 1024), String, sizes);
    assert.ok(linear, `${all.map((one) => one.toFixed()).join(", ")} ms for ${sizes.join(", ")} bytes`);
  });
}

test("what waits for a loop is taken in linear time, however much it is", async () => {
  const all = [];
  for (const count of [10_000, 100_000]) {
    const fetch = async () => new Response("data: x\n\n".repeat(count), { headers: STREAM });
    const stream = new EventStream("http://a.test/", { fetch, autoConnect: false, buffer: count + 1, reconnect: false });
    const iteration = stream[Symbol.asyncIterator]();
    await state(stream, "ended");
    const begun = computed();
    for (let number = 0; number < count; number += 1) await iteration.next();
    all.push(computed() - begun);
    assert.equal((await iteration.next()).done, true);
  }
  assert.ok(all[1] < 10 * MOST * Math.max(all[0], FLOOR), `${all} ms for 10,000 and 100,000 events`);
});

test("a stream whose event does not end is refused, and not asked for again", async () => {
  let asked = 0;
  const fetch = async () => {
    asked += 1;
    const piece = new TextEncoder().encode("x".repeat(MEBI));
    return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(piece) }), { headers: STREAM });
  };
  const stream = new EventStream("http://a.test/", { fetch, reconnect: { baseDelay: 1, jitter: 0 } });
  await state(stream, "error");
  assert.deepEqual([stream.reason, asked], ["too_large", 1]);
  assert.match(stream.error.cause.message, /more than 134217728 characters/);
});

test("a long line is cut where nothing is torn", () => {
  assert.equal(cutAt("x".repeat(10), 10), 10);
  assert.equal(cutAt("abc😀d", 4), 3);
  assert.equal(cutAt(`abc\x1b[31mdef`, 6), 3);
  for (const text of ["x".repeat(50_001), "😀".repeat(30_000), "\x1b[31mab".repeat(9_000), "\x1b".repeat(50_000)]) {
    let rest = text;
    let parts = "";
    for (let turn = 0; rest; turn += 1) {
      assert.ok(turn < 10);
      parts += rest.slice(0, cutAt(rest));
      rest = rest.slice(cutAt(rest));
    }
    assert.equal(parts, text);
  }
  const lines = new Lines();
  lines.add("stdout", "x".repeat(SHOWN + 5));
  assert.deepEqual([lines.all[0].text.length, lines.all[0].rest.length], [SHOWN, 5]);
  lines.add("stdout", `${"1%\r".repeat(SHOWN)}100%`);
  const { text, rest, over } = lines.all[1];
  assert.deepEqual([text.slice(-4), rest.length + text.length, over], ["100%", SHOWN * 3 + 4, true]);
});
