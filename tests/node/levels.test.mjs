/* The level of a line, and the place that it names: as tests/log/levels.json says for Python too. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { SEEN, levelOf, placeOf, properties } = await import(pathToFileURL(join(process.env.STATIC, "levels.js")));
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
