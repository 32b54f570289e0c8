/* How runs look: links and marks in pieces whose text is the line's, and colours that can be read. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const { contrast, paint, pieces, readable } = await load("look.js");
const { PLAIN, Style, Terminal, linked } = await load("sgr.js");
const { Lines } = await load("lines.js");
const { properties } = await load("levels.js");

const cut = (text, line) => pieces(new Terminal().write(text).line(), linked, line);
const marks = (text, line) => cut(text, line).filter((piece) => piece.mark).map(({ text: own, mark, shown }) => [own, mark, shown]);
const read = (text) => {
  const lines = new Lines({ properties });
  lines.add("stdout", text);
  return lines.all[0];
};
const seen = (text) => cut(read(text).text, read(text)).map((piece) => (piece.mark ? piece.shown : piece.text)).join("");

test("the text of the pieces is the text of the line, whatever is in it", () => {
  const parts = ["::error file=a::", "::group::", "a", "%0A", "%25", "%2", "\u202e", "\u200b", "\u200d", "👩‍💻", "می‌خواهم", "https://a.example/ ", "\x1b[31m", "\x1b[0m", "\x1b]8;;https://b.example\x07", "\x1b]8;;\x07", "\ud800", "é", " "];
  let state = 11;
  for (let round = 0; round < 5_000; round += 1) {
    let text = "";
    for (let count = 0; count < 8; count += 1) {
      state = (state * 1664525 + 1013904223) >>> 0;
      text += parts[state % parts.length];
    }
    const plain = new Terminal().write(text).line().map((run) => run.text).join("");
    assert.equal(cut(text, read(text)).map((piece) => piece.text).join(""), plain, JSON.stringify(text));
  }
});

test("what turns text around, or is seen as nothing, is marked by its number", () => {
  assert.deepEqual(marks("if admin\u202e\u2066 // x\u200b\ufeff\u2028"), [["\u202e", "unseen", "U+202E"], ["\u2066", "unseen", "U+2066"], ["\u200b", "unseen", "U+200B"], ["\ufeff", "unseen", "U+FEFF"], ["\u2028", "unseen", "U+2028"]]);
  assert.deepEqual(marks("a\u{e0041}b\u00ad"), [["\u{e0041}", "unseen", "U+E0041"], ["\u00ad", "unseen", "U+00AD"]]);
});

test("joiners of emoji and of scripts that need them are no marks, others are", () => {
  assert.deepEqual(marks("👩‍💻 🏳️‍🌈 👨🏽‍🚀 ✔️ می‌خواهم क्‍ष"), []);
  assert.deepEqual(marks("pass\u200dword \u200d a\u200cb").map(([, , shown]) => shown), ["U+200D", "U+200D", "U+200C"]);
});

test("an annotation is read without its command, and with its codes; a group's marker is a mark", () => {
  assert.equal(seen("::error file=app.js,line=1,title=T::50%25 of it%0Abroke%0D"), "50% of it\nbroke");
  assert.deepEqual(marks("::group::50%25", read("::group::50%25")), [["::group::", "marker", ""]]);
  assert.equal(seen("no command %0A"), "no command %0A");
  assert.deepEqual(marks("\x1b[31m::err\x1b[0mor::x", read("\x1b[31m::err\x1b[0mor::x")).map(([text]) => text), ["::err", "or::"]);
});

test("addresses and links of programs are pieces", () => {
  assert.deepEqual(cut("see https://a.example/x. \x1b]8;;https://b.example\x07here\x1b]8;;\x07").filter((piece) => piece.href).map(({ text, href }) => [text, href]), [["https://a.example/x", "https://a.example/x"], ["here", "https://b.example"]]);
});

test("contrast is WCAG's", () => {
  assert.equal(contrast("#000000", "#ffffff"), 21);
  assert.equal(contrast("#ffffff", "#ffffff"), 1);
  assert.equal(contrast("#777777", "#ffffff").toFixed(2), "4.48");
});

test("every colour can be read on every ground, and what can be read stays as it is", () => {
  const some = ["00", "44", "88", "bb", "ff"].flatMap((red) => ["00", "66", "cc", "ff"].flatMap((green) => ["00", "77", "ff"].map((blue) => `#${red}${green}${blue}`)));
  for (const ground of some) {
    for (const ink of some) {
      const found = readable(ink, ground);
      assert.ok(contrast(found, ground) >= 4.5, `${ink} on ${ground}: ${found}`);
      if (contrast(ink, ground) >= 4.5) assert.equal(found, ink);
    }
  }
});

test("colours of 256 and of all are readable in light and dark; those of the sixteen alone are the page's", () => {
  const style = (fields) => paint(new Style(fields));
  assert.equal(paint(PLAIN), null);
  assert.equal(style({ fg: 3 }), null);
  assert.equal(style({ bg: 3 }), null);
  assert.equal(style({ inverse: true }), null);
  const { color, background } = style({ fg: "#fffff0" });
  const [, light, dark] = /^light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)$/.exec(color);
  assert.deepEqual([contrast(light, "#ffffff") >= 4.5, dark, background], [true, "#fffff0", null]);
  assert.match(style({ fg: "#010101" }).color, /^light-dark\(#010101, #/);
  for (let fg = 0; fg < 16; fg += 1) {
    for (let bg = 0; bg < 16; bg += 1) {
      const both = style({ fg, bg });
      assert.ok(contrast(both.color, both.background) >= 4.5, `${fg} on ${bg}`);
    }
  }
  assert.deepEqual(style({ fg: "#ff0000", bg: "#ff0000" }).background, "#ff0000");
  const turned = style({ fg: "#ffff00", inverse: true });
  assert.equal(turned.background, "#ffff00");
  assert.ok(/light-dark\(|#/.test(turned.color));
});
