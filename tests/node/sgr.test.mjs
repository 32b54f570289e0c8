/* The viewer's terminal: what it shows of a line, whatever a program prints, and however it is cut. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { PLAIN, Style, Terminal, applied, indexed, linked, width } = await import(pathToFileURL(join(process.env.STATIC, "sgr.js")));

const shown = (...chunks) => {
  const terminal = new Terminal();
  for (const chunk of chunks) terminal.write(chunk);
  return terminal.line();
};
const text = (...chunks) => shown(...chunks).map((run) => run.text).join("");
const style = (parameters) => ({ ...applied(PLAIN, parameters) });
const looks = (fields) => ({ ...new Style(fields) });

test("text without control sequences is one plain run", () => {
  assert.deepEqual(shown("hello\tworld"), [{ text: "hello\tworld", style: PLAIN }]);
});

test("the sixteen colours, bright and behind the text", () => {
  for (let colour = 0; colour < 8; colour += 1) {
    assert.deepEqual(style(`${30 + colour}`), looks({ fg: colour }));
    assert.deepEqual(style(`${90 + colour}`), looks({ fg: colour + 8 }));
    assert.deepEqual(style(`${40 + colour}`), looks({ bg: colour }));
    assert.deepEqual(style(`${100 + colour}`), looks({ bg: colour + 8 }));
  }
  assert.deepEqual(style("31;44;39;49"), looks({}));
});

test("256 colours: the terminal's own, a cube, and greys", () => {
  assert.deepEqual([indexed(0), indexed(15), indexed(16), indexed(231), indexed(232), indexed(255)], [0, 15, "#000000", "#ffffff", "#080808", "#eeeeee"]);
  assert.deepEqual([indexed(256), indexed(-1), indexed(NaN), indexed(undefined)], [null, null, null, null]);
  assert.deepEqual(style("38;5;208"), looks({ fg: "#ff8700" }));
  assert.deepEqual(style("48;5;9;1"), looks({ bg: 9, bold: true }));
});

test("true colours, with semicolons and with colons", () => {
  assert.deepEqual(style("38;2;1;2;255;4"), looks({ fg: "#0102ff", underline: true }));
  assert.deepEqual(style("38:2::1:2:255"), looks({ fg: "#0102ff" }));
  assert.deepEqual(style("38:2:1:2:255"), looks({ fg: "#0102ff" }));
  assert.deepEqual(style("48:5:208"), looks({ bg: "#ff8700" }));
  assert.deepEqual(style("38;2;1;2;256"), looks({}), "no such colour");
});

test("bold, dim, italic, underline, inverse, conceal and strike begin and end", () => {
  assert.deepEqual(style("1;2;3;4;7;8;9"), looks({ bold: true, dim: true, italic: true, underline: true, inverse: true, conceal: true, strike: true }));
  assert.deepEqual(style("1;2;3;4;7;8;9;22;23;24;27;28;29"), looks({}));
  assert.deepEqual([style("58;5;1"), style("58;2;1;4;7;9"), style("58:5:1")], [looks({}), looks({ strike: true }), looks({})], "colours of underlines are no styles");
  assert.deepEqual(style("4:3"), looks({ underline: true }));
  assert.deepEqual(style("4;4:0"), looks({}));
  assert.equal(applied(new Style({ bold: true }), ""), PLAIN);
});

test("a style goes on from line to line", () => {
  const terminal = new Terminal();
  terminal.write("\x1b[31mred").line();
  assert.equal(terminal.write("still").line()[0].style.fg, 1);
  assert.deepEqual(terminal.write("\x1b[0mno more").line(), [{ text: "no more", style: PLAIN }]);
});

test("a carriage return overwrites, and what is longer stays", () => {
  assert.equal(text("10%\r20%\r100% done"), "100% done");
  assert.equal(text("loading\rok"), "okading");
  assert.equal(text("loading\r\x1b[Kok"), "ok");
  assert.equal(text("loading\r\x1b[2Kok"), "ok");
  assert.equal(text("progress 50%\b\b\b75%"), "progress 75%");
  assert.equal(text("\rnothing before"), "nothing before");
  assert.equal(text("a😀b\rx"), "x😀b");
  assert.equal(text("done\r"), "done");
});

test("the cursor goes to columns, as programs draw their lines again", () => {
  assert.equal(text("one\x1b[Gtwo"), "two");
  assert.equal(text("one\x1b[1G\x1b[0Ktwo"), "two");
  assert.equal(text("50% left\x1b[1G100%"), "100%left");
  assert.equal(text("ab\x1b[5Gc"), "ab  c");
  assert.equal(text("abc\x1b[2Dx"), "axc");
  assert.equal(text("abc\r\x1b[2Cx"), "abx");
  assert.equal(text("abcdef\x1b[3G\x1b[2X"), "ab  ef");
  assert.equal(text("abcdef\x1b[3G\x1b[2P"), "abef");
  assert.equal(text("abcd\x1b[3G\x1b[2@xy"), "abxycd");
  assert.equal(text("a\x1b7bc\x1b8x"), "axc");
  assert.equal(text("a\x1b[sbc\x1b[ux"), "axc");
  assert.equal(text("a\tb\rx"), "x       b");
  assert.ok(text("a\x1b[999999999Gb").length <= 513, "no width is beyond all bounds");
});

test("a carriage return at the end draws nothing: tabs stay tabs", () => {
  assert.equal(text("a\tb\r"), "a\tb");
  assert.equal(text("a\tb\r\r"), "a\tb");
});

test("wide characters take two columns, marks none", () => {
  assert.deepEqual(["a", "é", "好", "✅", "😀", "\u0301", "\u200b"].map(width), [1, 1, 2, 2, 2, 0, 0]);
  assert.equal(text("好好\rab"), "ab好");
  assert.equal(text("好好\ra"), "a 好");
  assert.equal(text("e\u0301x\ro\u0301"), "o\u0301x");
});

test("a link that a program makes has its address, where that is http or https", () => {
  const [before, link, after] = shown("a \x1b]8;id=1;https://a.example/x\x1b\\here\x1b]8;;\x07 b");
  assert.deepEqual([before.text, link.text, link.href, after.text, after.href], ["a ", "here", "https://a.example/x", " b", undefined]);
  assert.equal(shown("\x1b]8;;https://a.example\x07x\rok")[0].href, "https://a.example", "what is drawn again is in it too");
  for (const address of ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "//a.example", `https://a.example/${"x".repeat(3000)}`]) {
    assert.deepEqual(shown(`\x1b]8;;${address}\x1b\\here`), [{ text: "here", style: PLAIN }], address);
  }
  const terminal = new Terminal();
  terminal.write("\x1b]8;;https://a.example\x07x").line();
  assert.equal(terminal.write("y").line()[0].href, undefined, "a link ends with its line");
});

test("other control sequences are dropped", () => {
  assert.equal(text("a\x1b[2Jb\x1b[10;5Hc\x1b[?25ld\x1b[1Ae"), "abcde");
  assert.equal(text("\x1b(Ba\x1b=b\x1bMc\x1b#8d"), "abcd");
  assert.equal(text("\x1b]0;a title\x07x\x1b]8;;https://a.example\x1b\\link\x1b]8;;\x1b\\y"), "xlinky");
  assert.equal(text("\x1bPdevice\x1b\\a\x1b_app\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d"), "abcd");
  assert.equal(text("\x9b31mred\x9d0;title\x9cx"), "redx");
  assert.equal(text("bell\x07nul\x00del\x7f\x0b\x0c\x0e"), "bellnuldel");
});

test("a sequence may be cut anywhere", () => {
  const line = "a\x1b[1;38;2;10;20;30mb\x1b]8;;http://x.example/\x1b\\c\x1b(B\x9b4md\r\x1b[Ke\x1b[0m";
  const whole = JSON.stringify(shown(line));
  for (let one = 0; one <= line.length; one += 1) {
    for (let other = one; other <= line.length; other += 1) {
      assert.equal(JSON.stringify(shown(line.slice(0, one), line.slice(one, other), line.slice(other))), whole);
    }
  }
});

test("a sequence that never ends hides nothing: its text is shown, and the next line is whole", () => {
  const terminal = new Terminal();
  assert.equal(terminal.write("before \x1b]0;not closed").line().map((run) => run.text).join(""), "before 0;not closed");
  assert.equal(terminal.write("next").line()[0].text, "next");
  assert.ok(text(`\x1b]${"x".repeat(10_000)}`).length >= 9_000);
  assert.equal(text("cut \x1b[3"), "cut ");
});

test("addresses are found, and nothing that is not http", () => {
  const found = (line) => linked(line).filter((piece) => piece.href).map((piece) => piece.href);
  assert.deepEqual(found("see https://a.example/x?y=1#z, and (http://b.example/c_(d))."), ["https://a.example/x?y=1#z", "http://b.example/c_(d)"]);
  assert.deepEqual(found("javascript://x%0aalert(1) data://a file:///etc/passwd ftp://a.example xhttps://no"), []);
  assert.deepEqual(found('<a href="https://a.example/">'), ["https://a.example/"]);
  assert.deepEqual(found("https:// http://: https://["), []);
  const line = "a http://x.example b";
  assert.equal(linked(line).map((piece) => piece.text).join(""), line);
});

/* A generator with a seed, so that a failure can be repeated. */
function* random(seed) {
  for (let state = seed; ; ) {
    state = (state * 1664525 + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

test("fuzz: no exception, only text and styles come out, and no control character", () => {
  const parts = ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x07", "\x1b\\", "m", "K", ";", ":", "0", "1", "38", "48", "5", "2", "255", "999999999999", "\r", "\b", "\n", "\t", "G", "C", "D", "X", "P", "@", "7", "8", "]8;;", "好", "\u0301", "\x9b", "\x9d", "\x9c", "<script>", "&lt;", "javascript:alert(1)", "é", "😀", "\ud800", " ", "abc", "\x00", "\x7f", "http://", "https://a.example/"];
  const next = random(20_261_125);
  const pick = (list) => list[Math.floor(next.next().value * list.length)];
  const colour = (value) => value === null || (Number.isInteger(value) && value >= 0 && value < 16) || /^#[0-9a-f]{6}$/.test(value);
  const terminal = new Terminal();
  for (let round = 0; round < 20_000; round += 1) {
    for (let count = 0; count < 12; count += 1) terminal.write(pick(parts));
    for (const { text: run, style: look } of terminal.line()) {
      assert.doesNotMatch(run, /[\x00-\x08\x0a-\x1f\x7f-\x9f]/);
      assert.ok(colour(look.fg) && colour(look.bg), JSON.stringify(look));
      for (const flag of ["bold", "dim", "italic", "underline", "inverse", "strike", "conceal"]) assert.equal(typeof look[flag], "boolean");
      const pieces = linked(run);
      assert.equal(pieces.map((piece) => piece.text).join(""), run);
      for (const { href } of pieces) assert.ok(href === undefined || /^https?:\/\//.test(href), href);
    }
  }
});
