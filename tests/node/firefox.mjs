/* The core of the log viewer in Firefox, driven over WebDriver BiDi: `SITE=… FIREFOX=… node --test firefox.mjs`. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import puppeteer from "puppeteer-core";

const { SITE, FIREFOX } = process.env;
const PATIENCE_MS = 60_000;
const COUNT = 5_000; // lines of a long log

let browser;
let page;
let wrong = [];

before(async () => {
  browser = await puppeteer.launch({ browser: "firefox", executablePath: FIREFOX, headless: true, timeout: 2 * PATIENCE_MS });
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.setViewport({ width: 1200, height: 800 });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
});

afterEach(() => {
  const said = wrong;
  wrong = [];
  assert.deepEqual(said, [], "nothing is wrong in the console");
});

after(() => browser?.close());

async function publish(name, lines, close = "") {
  const events = lines.map((line) => (Array.isArray(line) ? line : ["stdout", line]));
  const answer = await fetch(`${SITE}/_publish/logs.${name}/?close=${close}`, { method: "POST", body: JSON.stringify(events) });
  assert.equal(answer.status, 200);
}

async function open(name, connection, hash = "") {
  await page.goto(`${SITE}/logs/${name}/${hash}`);
  await page.waitForFunction((words) => document.querySelector(".sl-connection")?.textContent === words, {}, connection);
}

/* The row of a number is in sight: all of it. */
const sees = (number) => page.waitForFunction((id) => {
  const row = document.getElementById(id)?.getBoundingClientRect();
  const view = document.querySelector(".sl-view").getBoundingClientRect();
  return row !== undefined && row.top >= view.top - 1 && row.bottom <= view.bottom + 1;
}, {}, `L${number}`);
const says = (selector, words) => page.waitForFunction((one, text) => document.querySelector(one)?.textContent.includes(text), {}, selector, words);
const top = () => page.$eval(".sl-view", (view) => view.scrollTop);
const follows = () => page.$eval(".sl-view", (view) => view.scrollHeight - view.scrollTop - view.clientHeight < 3);
const lines = (count, from = 1) => Array.from({ length: count }, (_, at) => `line ${at + from}`);

async function seek(query) {
  await page.focus(".sl-query");
  await page.$eval(".sl-query", (field) => field.select());
  await page.keyboard.type(query);
}

/* What Ctrl+C took, as Ctrl+V gives it back. */
async function copied() {
  await page.keyboard.down("Control");
  await page.keyboard.press("c");
  await page.keyboard.up("Control");
  return pasted();
}

async function pasted() {
  await page.evaluate(() => {
    const area = document.body.appendChild(document.createElement("textarea"));
    area.id = "pasted";
    area.focus();
  });
  await page.keyboard.down("Control");
  await page.keyboard.press("v");
  await page.keyboard.up("Control");
  await page.waitForFunction(() => document.getElementById("pasted").value !== "");
  const text = await page.$eval("#pasted", (area) => area.value);
  await page.$eval("#pasted", (area) => area.remove());
  return text;
}

test("it is Firefox", async () => assert.match(await browser.version(), /^firefox\//i));

test("a finished log opens at its end, whose rows alone are in the page", async () => {
  await publish("ff-long", lines(COUNT), "completed");
  await open("ff-long", "Ended");
  await sees(COUNT);
  assert.equal(await follows(), true);
  assert.ok((await page.$$(".sl-line")).length < 600);
});

test("a log that failed opens at its first error, and the next key steps through them", async () => {
  const text = [...lines(800), "src/app.c:3:5: error: expected ';'", ...lines(800), "src/app.c:9:1: error: unknown type", ...lines(800)];
  await publish("ff-failed", text, "failed");
  await open("ff-failed", "Ended");
  await sees(801);
  await says(".sl-errors", "2 errors");
  await page.keyboard.press("e");
  await sees(1602);
  await page.keyboard.press("E");
  await sees(801);
});

test("it follows what comes, pauses where the reader goes up, and follows again with End", async () => {
  await publish("ff-live", lines(500));
  await open("ff-live", "Live");
  await sees(500);
  await publish("ff-live", lines(100, 501));
  await sees(600);
  await page.mouse.move(600, 400);
  await page.mouse.wheel({ deltaY: -300 });
  await page.waitForSelector('.sl-follow[aria-pressed="false"]');
  await page.waitForFunction(() => {
    const view = document.querySelector(".sl-view"); // a wheel scrolls later than it is heard
    return view.scrollHeight - view.scrollTop - view.clientHeight > 290;
  });
  let before;
  do {
    before = await top();
    await new Promise((resolve) => setTimeout(resolve, 300));
  } while ((await top()) !== before);
  await publish("ff-live", lines(100, 601));
  await says(".sl-news", "100 new lines");
  assert.equal(await top(), before, "it is not pulled back");
  await page.focus(".sl-view");
  await page.keyboard.press("End");
  await sees(700);
  await publish("ff-live", [...lines(100, 701), ["exit", '{"code": 0}']], "completed");
  await says(".sl-connection", "Ended");
  await sees(800);
});

test("text and patterns are found and stepped through, and one that explodes is given up", async () => {
  await publish("ff-search", [...lines(2_000), `${"a".repeat(40)}!`, ...lines(2_000, 2_001)], "completed");
  await open("ff-search", "Ended", "#L1");
  await sees(1);
  await page.keyboard.press("/");
  await page.keyboard.type("line 1234");
  await page.waitForFunction(() => document.querySelector(".sl-found").textContent === "1 of 1");
  await sees(1234);
  await page.waitForFunction(() => CSS.highlights.get("sse-log-current")?.size === 1);
  await seek("line 12");
  await says(".sl-found", "of 111");
  await page.keyboard.press("Enter");
  await page.click(".sl-regex");
  await seek("(a+)+$");
  await says(".sl-found", "The pattern takes too long");
});

test("a line that the address names is gone to, wherever it is", async () => {
  for (const number of [17, 4_321, COUNT / 2]) {
    await open("ff-long", "Ended", `#L${number}`);
    await sees(number);
    await page.evaluate(() => (location.hash = "#L99"));
    await sees(99);
    await page.goto("about:blank");
  }
});

test("groups fold, but for those that hold a failure", async () => {
  await publish("ff-groups", ["::group::Install", "fetched", "::endgroup::", "::group::Test", "not ok 1 - adds", "::endgroup::", "the end"], "failed");
  await open("ff-groups", "Ended");
  const shown = () => page.$$eval(".sl-line .sl-t", (texts) => texts.filter((text) => text.checkVisibility()).map((text) => text.textContent));
  await says(".sl-view", "not ok 1 - adds");
  assert.ok(!(await shown()).includes("fetched"));
  await page.click(".sl-turn");
  await says(".sl-view", "fetched");
  await page.click(".sl-turn");
  await page.waitForFunction(() => !document.querySelector(".sl-view").textContent.includes("fetched"));
});

test("what is copied is what was printed", async () => {
  const text = ["first", "", "  indented\ttab", "\x1b[1;31mred\x1b[0m and https://example.com/a", "wörld 😀", "last"];
  await publish("ff-copied", text, "completed");
  await open("ff-copied", "Ended");
  await page.evaluate(() => {
    const texts = [...document.querySelectorAll(".sl-line > .sl-t")];
    document.querySelector(".sl-view").focus();
    getSelection().setBaseAndExtent(texts[0].firstChild, 2, texts.at(-1).firstChild, 3);
  });
  assert.equal(await copied(), ["rst", "", text[2], "red and https://example.com/a", text[4], "las"].join("\n"));
  await page.evaluate(() => getSelection().removeAllRanges());
  await page.evaluate(() => {
    window.flashed = []; // what is shown for a moment
    const hear = (changes) => changes.forEach(({ addedNodes }) => {
      for (const one of addedNodes) if (one.classList?.contains("sl-flash")) window.flashed.push(one.textContent);
    });
    new MutationObserver(hear).observe(document, { childList: true, subtree: true });
  });
  await page.click(".sl-copy");
  await page.waitForFunction(() => window.flashed.some((text) => text.includes("Copied 6 lines")));
});
