/* The level of a line, and the place that it names: as tests/log/levels.json says for Python too. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { SEEN, levelOf, placeNear, placeOf, properties } = await import(pathToFileURL(join(process.env.STATIC, "levels.js")));
const vectors = JSON.parse(readFileSync(join(process.env.LOGS, "levels.json"), "utf8"));

test("each line has its level and its place", () => {
  for (const { line, level, file, line_number: number } of vectors) {
    assert.deepEqual([levelOf(line), placeOf(line)], [level, file === undefined ? null : { file, line: number }], JSON.stringify(line.slice(0, 80)));
  }
});

test("a level stands at the beginning", () => {
  assert.equal(levelOf(`${"x".repeat(SEEN - 8)} FAILED`), "error");
  assert.equal(levelOf(`${"x".repeat(SEEN)} FAILED`), null);
});

test("properties of a command are decoded as GitHub encodes them", () => {
  assert.deepEqual(properties("file=a%2Cb.js, line=1,title=50%25 off%3A now%0Aor never,x"), { file: "a,b.js", line: "1", title: "50% off: now\nor never" });
  assert.deepEqual(properties("title=%2525"), { title: "%25" });
});

test("what is about a line may name its place", () => {
  const near = (texts, at) => placeNear((by) => texts[at + by]);
  assert.deepEqual(near(["error[E0308]: mismatched types", " --> src/main.rs:3:18", "  |"], 0), { file: "src/main.rs", line: 3 });
  assert.deepEqual(near(["F401 [*] `os` imported but unused", " --> a.py:1:8"], 0), { file: "a.py", line: 1 });
  assert.deepEqual(near(["\u2502 Error: Reference to undeclared input variable", "\u2502", "\u2502   on main.tf line 8, in output:"], 0), { file: "main.tf", line: 8 });
  assert.deepEqual(near(["TypeError: x is not a function", "    at f (/app/a.js:3:5)", "    at g (/app/b.js:1:1)"], 0), { file: "/app/a.js", line: 3 });
  assert.deepEqual(near(["java.lang.NullPointerException", "\tat App.f(App.java:12)"], 0), { file: "App.java", line: 12 });
  const traceback = ["Traceback (most recent call last):", '  File "a.py", line 1, in <module>', "    f()", "    ~^^", '  File "b.py", line 7, in f', "    raise ValueError('x')", "ValueError: x"];
  assert.deepEqual(near(traceback, 6), { file: "b.py", line: 7 });
  assert.equal(near(['  File "other.py", line 3', "Traceback (most recent call last):", "ValueError: x"], 2), null);
  assert.deepEqual(near(["a.c:1: error: x", " --> b.c:2"], 0), { file: "a.c", line: 1 });
  assert.equal(near(["error: x"], 0), null);
  assert.deepEqual(near(["E       assert 1 == 2", "E        +  where 1 = f()", "", "tests/test_a.py:12: AssertionError"], 0), { file: "tests/test_a.py", line: 12 });
  assert.deepEqual(near(["    --- FAIL: TestB/sub (0.00s)", "        main_test.go:9: got 1"], 0), { file: "main_test.go", line: 9 });
  assert.deepEqual(near(["FAIL: test_a (tests.T.test_a)", "-----", "Traceback (most recent call last):", '  File "/app/tests.py", line 7, in test_a'], 0), { file: "/app/tests.py", line: 7 });
  assert.deepEqual(near(["  ● sum › fails", "", "    expect(received).toBe(expected)", "      at Object.<anonymous> (a.test.js:5:17)"], 0), { file: "a.test.js", line: 5 });
});
