/* A failure counts once, however often it is told of, and none is missed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const { Failures, formOf } = await load("failures.js");
const { levelOf, placeNear, shownOf } = await load("levels.js");

const SIZE = 1000;
const entry = (text, { level = null, event = null } = {}) => ({ text, level, event, severity: level ?? levelOf(text) });
const tools = { keyOf: (index, line) => index * SIZE + line, shownOf, placeNear };

/* The lines that are failures. */
function failed(texts, size = SIZE) {
  const entries = texts.map((text) => (typeof text === "string" ? entry(text) : text));
  const all = [];
  for (let at = 0; at < entries.length; at += size) all.push({ index: all.length, version: 1, cuts: 0, entries: entries.slice(at, at + size) });
  const failures = new Failures({ all, number: (key) => Math.floor(key / SIZE) * size + (key % SIZE) + 1 }, tools);
  for (const page of all) failures.note(page);
  assert.equal(failures.count, failures.keys.length);
  return failures.keys.map((key) => all[Math.floor(key / SIZE)].entries[key % SIZE].text);
}

const DETAILS = ["E       assert 1 == 2", "E        +  where 1 = f()", "", "tests/test_a.py:12: AssertionError"];
const SUMMARY = ["FAILED tests/test_a.py::test_b - assert 1 == 2"];
const RUNNING = ["tests/test_a.py::test_b FAILED          [ 50%]"];
const TOTAL = ["=========== 1 failed, 2 passed in 0.12s ==========="];
const ENDS = ["make: *** [Makefile:2: test] Error 1", "##[error]Process completed with exit code 2."];

test("a test of pytest that failed is one failure, whichever of its words are printed, and its details are shown", () => {
  for (const size of [1, 2, SIZE]) {
    assert.deepEqual(failed([...RUNNING, ...DETAILS, ...SUMMARY, ...TOTAL, ...ENDS], size), [DETAILS[0]]);
    assert.deepEqual(failed([...RUNNING, ...SUMMARY, ...TOTAL, ...ENDS], size), RUNNING);
    assert.deepEqual(failed([...SUMMARY, ...TOTAL], size), SUMMARY);
    assert.deepEqual(failed([...TOTAL, ...ENDS], size), TOTAL, "a total alone is all that is known");
    assert.deepEqual(failed([...ENDS], size), ENDS.slice(0, 1));
  }
});

test("an annotation of a failure is no other failure, and any other one is", () => {
  const note = "::error file=tests/test_a.py,line=12::assert 1 == 2";
  for (const size of [1, 2, 3, SIZE]) {
    assert.deepEqual(failed([...DETAILS, ...SUMMARY, ...TOTAL, note, ...ENDS], size), [DETAILS[0]]);
    assert.deepEqual(failed([note, ...DETAILS, ...SUMMARY, ...TOTAL, ...ENDS], size), [DETAILS[0]], "pytest-github-actions-annotate-failures prints it first");
  }
  assert.deepEqual(failed([...DETAILS, "::error file=/home/runner/work/a/a/tests/test_a.py,line=12,title=t::x"]), [DETAILS[0]]);
  assert.deepEqual(failed(["  ● Cart › adds", "", "    expect(received).toBe(expected)", "", "      at Object.<anonymous> (src/cart.test.js:7:3)", "", "Tests:       1 failed, 1 total", "::error file=src/cart.test.js,line=7::x"]), ["  ● Cart › adds"]);
  const others = ["::error file=tests/test_a.py,line=13::x", "::error file=other/test_a.py,line=12::x", "::error file=a.py,line=12::x", "::error::x", "##[error]x"];
  assert.deepEqual(failed([...DETAILS, ...others]), [DETAILS[0], ...others]);
  assert.deepEqual(failed([note, note.replace("12", "14")]), [note, note.replace("12", "14")]);
  assert.deepEqual(failed([...DETAILS, ...TOTAL, "::error::1 test failed", "::error::Process completed with exit code 1."]), [DETAILS[0]]);
});

test("what newer runners print counts once too", () => {
  assert.deepEqual(failed(["--- FAIL: TestA (0.00s)", "    a_test.go:12: x", "FAIL", "", "=== Failed", "=== FAIL: example.com/a TestA (0.00s)", "    a_test.go:12: x", "", "DONE 3 tests, 1 failure in 0.104s"]), ["--- FAIL: TestA (0.00s)"]);
  assert.deepEqual(failed(["=== FAIL: example.com/a TestA (0.00s)", "    a_test.go:12: x", "DONE 3 tests, 1 failure in 0.104s"]), ["=== FAIL: example.com/a TestA (0.00s)"]);
  assert.deepEqual(failed(["  ✘  1 [chromium] › tests/a.spec.ts:3:5 › has title (1.2s)", "", "  1) [chromium] › tests/a.spec.ts:3:5 › has title ───", "", "    Error: expect(received).toBe(expected)", "", "  1 failed", "    [chromium] › tests/a.spec.ts:3:5 › has title ───"]), ["  1) [chromium] › tests/a.spec.ts:3:5 › has title ───"]);
  assert.deepEqual(failed(["[info] - should fail *** FAILED ***", "[info]   1 did not equal 2 (ASpec.scala:12)", "[info] *** 1 TEST FAILED ***", "[error] Failed: Total 3, Failed 1, Errors 0, Passed 2", "[error] Failed tests:", "[error] \tASpec", "[error] (Test / test) sbt.TestsFailedException: Tests unsuccessful"]), ["[info] - should fail *** FAILED ***"]);
  assert.deepEqual(failed(["00:01 +5 -1: adds [E]", "  Expected: <2>", "00:02 +6 -1: Some tests failed."]), ["00:01 +5 -1: adds [E]"]);
  assert.deepEqual(failed(["        FAIL [   0.004s] mycrate tests::it_fails", "     Summary [   0.014s] 2 tests run: 1 passed, 1 failed, 0 skipped", "        FAIL [   0.004s] mycrate tests::it_fails", "error: test run failed"]).length, 1);
});

test("runs are counted apart, and so are runners", () => {
  const run = [...DETAILS, ...SUMMARY, ...TOTAL];
  assert.equal(failed([...run, ...run]).length, 2);
  assert.equal(failed([...DETAILS, ...DETAILS, ...SUMMARY, ...SUMMARY, ...TOTAL, "--- FAIL: TestB (0.00s)", "FAIL", "FAIL\texample.com/app\t0.033s"]).length, 3);
  assert.equal(failed([...DETAILS, ...SUMMARY, "--- FAIL: TestB (0.00s)"]).length, 2, "without a total between them too");
  assert.equal(failed([...DETAILS, "a.c:1:1: error: x", "a.c:2:1: error: y", ...SUMMARY]).length, 3, "what a compiler says stands for itself");
});

test("a step that says no more than that it failed is a failure, though one before it had some", () => {
  const quiet = Array.from({ length: 30 }, (_, at) => `line ${at}`);
  assert.deepEqual(failed([...SUMMARY, ...TOTAL, ...quiet, ...ENDS]), [...SUMMARY, ENDS[0]]);
});

test("an exception under an error that was logged with it is no other failure, and one alone is", () => {
  const traceback = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()", "ValueError: x"];
  assert.deepEqual(failed(["2026-11-25 20:00:00,123 ERROR app: it failed", ...traceback]), ["2026-11-25 20:00:00,123 ERROR app: it failed"]);
  assert.deepEqual(failed([...traceback, "", "During handling of the above exception, another exception occurred:", "", ...traceback]), ["ValueError: x"]);
  assert.equal(failed([...traceback, ...traceback]).length, 2);
  assert.equal(failed([...traceback, ...DETAILS, ...SUMMARY, ...TOTAL]).length, 2, "what crashed before the tests is not one of them");
  assert.equal(failed(["FAIL: test_a (tests.T.test_a)", ...traceback, "FAILED (failures=1)"]).length, 1);
});

test("a record is one failure, however many lines it has, and two are two", () => {
  const record = (event) => ["it failed", "Traceback (most recent call last):", "ValueError: x"].map((text) => entry(text, { level: "error", event }));
  assert.deepEqual(failed([...record(1), ...record(2)]), ["it failed", "it failed"]);
});

test("pages that come late and lines that are taken back count", () => {
  const pages = [DETAILS, [...DETAILS, ...SUMMARY]].map((texts, index) => ({ index, version: 1, cuts: 0, entries: texts.map((text) => entry(text)) }));
  const failures = new Failures({ all: pages, number: (key) => key }, tools);
  failures.note(pages[1]);
  assert.deepEqual(failures.keys, [SIZE]);
  failures.note(pages[0]);
  assert.deepEqual(failures.keys, [0, SIZE]);
  Object.assign(pages[0], { entries: [], cuts: 1 });
  failures.note(pages[0]);
  assert.deepEqual(failures.keys, [SIZE]);
  Object.assign(pages[1], { entries: null, version: 2 });
  failures.note(pages[1]);
  assert.deepEqual(failures.keys, [SIZE], "a page that is let go keeps them");
});

test("very many errors are counted in linear time", () => {
  const texts = Array.from({ length: 60_000 }, (_, at) => (at % 2 ? `FAILED tests/test_a.py::test_${at}` : "E       assert 1 == 2"));
  const begun = performance.now();
  assert.ok(failed(texts).length >= 30_000);
  assert.ok(performance.now() - begun < 20_000);
  assert.equal(formOf("it failed"), null);
});
