// What a log holds and what of it is shown: pages, groups, order, search, places. No browser.
import assert from "node:assert/strict";
import { test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(join(process.env.STATIC, name)));
const [{ levelOf }, { Lines, mayMark }, store] = await Promise.all(["levels.js", "lines.js", "pages.js"].map(load));
const [{ Folds }, { Order }, { Find, Patterns, matches, pattern }] = await Promise.all(["folds.js", "order.js", "search.js"].map(load));
const [{ hashOf, lineRange, placeOf }, { aboutOf, offsetOf, reader }, { Source }] = await Promise.all(["place.js", "events.js", "source.js"].map(load));

const { Pages, keyOf, pageOf, EVENTS } = store;
const said = (text, values = {}) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const t = (text, ...values) => (typeof values[0] === "string" ? said(values[1].count === 1 ? text : values[0], values[1]) : said(text, ...values));
const read = reader({ ...store, levelOf, t, number: String });

/** A log on a server: events as `eventOf(offset)` says, of which the first `floor` are gone. */
function served(top, eventOf = (offset) => ({ event: "stdout", data: `line ${offset}` }), floor = 0) {
  const asked = [];
  const log = { floor, top, asked, closed: null };
  log.answer = async (from, count) => {
    asked.push([from, count]);
    const first = Math.max(from, log.floor + 1);
    const records = [];
    for (let offset = first; offset < from + count && offset <= log.top; offset += 1) records.push({ offset, at: offset, ...eventOf(offset) });
    return { epoch: "e", floor: log.floor, top: log.top, closed: log.closed, records };
  };
  const changes = [];
  log.pages = new Pages(log.answer, read, (page) => changes.push(page.index));
  log.pages.open("e", floor, top, `Lines 1 to ${floor} are no longer kept.`);
  return log;
}

const texts = (page) => page.entries.map(({ text }) => text);

test("any line of a million is found and read by two numbers, and what is near it", async () => {
  const { pages, asked } = served(1_000_000);
  assert.equal(pages.count, 1_000_000);
  const key = pages.find(765_432);
  assert.equal(pageOf(key), 765);
  await pages.load(pageOf(key));
  assert.equal(pages.entry(key).text, "line 765432");
  assert.equal(pages.number(key), 765_432);
  assert.deepEqual(asked, [[765_001, 1000]]);
  assert.equal(pages.find(1_000_001), null);
  assert.equal(pages.find(0), null);
});

test("pages that follow each other are one question, and an answer that ends sooner is asked on", async () => {
  const { pages, asked } = served(20_000);
  await pages.load(3, 12);
  assert.deepEqual(asked, [[3001, 5000]]);
  const short = served(2000);
  const whole = short.answer;
  short.pages = new Pages(async (from, count) => whole(from, Math.min(count, 300)), read, () => {});
  short.pages.open("e", 0, 2000, "");
  await short.pages.load(1);
  assert.equal(short.pages.all[1].entries.length, 1000);
});

test("pages of very large lines are read one after the other, and hold no more than the beginnings of most", async () => {
  const size = 20_000;
  const { pages, asked } = served(3000, (offset) => ({ event: "stdout", data: `${offset}`.padEnd(size, "x") }));
  await pages.load(0, 2);
  assert.deepEqual(pages.all.map(({ entries }) => entries?.length ?? 0), [1000, 1000, 1000], "one answer had them all");
  const bytes = pages.all.map((page) => page.bytes);
  assert.ok(Math.max(...bytes) < 13 * 2 ** 20, `${bytes}`);
  const [first, last] = [pages.entry(keyOf(1, 0)), pages.entry(keyOf(1, 999))];
  assert.deepEqual([first.text.length, first.lost, last.text.length, last.lost], [size, 0, 4096, size - 4096]);
  assert.ok(last.text.startsWith("2000x"));
  const slow = served(3000, (offset) => ({ event: "stdout", data: `${offset}`.padEnd(size, "x") }));
  const answer = slow.answer;
  slow.pages = new Pages(async (from, count) => answer(from, Math.min(count, 50)), read, () => {});
  slow.pages.open("e", 0, 3000, "");
  await slow.pages.load(0, 2);
  assert.deepEqual(slow.pages.all.map(({ entries }) => entries?.length ?? 0), [1000, 0, 0], "a megabyte at a time, and a page at once");
  assert.equal(slow.asked.length, 20);
  assert.equal(asked.length, 1);
});

test("of events with very many short lines the first ones are held, and the numbers go on after the others", async () => {
  const data = Array(20_000).fill("x").join("\n");
  const { pages } = served(300, () => ({ event: "stdout", data }));
  await pages.load(0);
  const [page] = pages.all;
  assert.ok(page.count < 200_000 && page.bytes < 24 * 2 ** 20, `${page.count} lines, ${page.bytes} bytes`);
  assert.equal(pages.count, 300 * 20_000, "all have numbers");
  const at = page.entries.findIndex(({ source }) => source === "note");
  assert.deepEqual([at, page.entries[at].text, page.entries[at].event], [10_000, "10000 more lines are not shown here: the raw text has them.", 1]);
  assert.equal(pages.number(keyOf(0, at + 1)), 20_001);
  assert.equal(pages.entry(pages.findEvent(2)).event, 2);
});

test("the lines of one event that are many are not more errors than the server counts", async () => {
  const { pages } = served(1, () => ({ event: "stdout", data: "ERROR: x\n".repeat(3000) }));
  await pages.load(0);
  assert.deepEqual([pages.all[0].count, pages.all[0].errors], [3001, 2000]);
});

test("a record counts once, however many lines it has", async () => {
  const { pages } = served(3, (offset) => ({ event: ["warning", "error", "stdout"][offset - 1], data: "it failed\nTraceback:\nValueError: x\nWARNING: y" }));
  await pages.load(0);
  assert.deepEqual([pages.all[0].warnings, pages.all[0].errors], [2, 2]);
});

test("where a log failed and no group is known to hold why, none is folded", () => {
  const shut = (lines, failed) => {
    const log = served(0);
    for (const data of lines) log.pages.append({ event: "stdout", data });
    const folds = new Folds(log.pages, { Lines, mayMark, levelOf, dialects: ["github", "gitlab"], keyOf, pageOf });
    folds.note(log.pages.all[0]);
    folds.finish(1, failed);
    folds.update();
    return folds.hidden().length;
  };
  const section = (name, ...lines) => [`\x1b[0Ksection_start:1:${name}\r\x1b[0K${name}`, ...lines, `\x1b[0Ksection_end:2:${name}\r\x1b[0K`];
  const job = [...section("get_sources", "Fetching"), ...section("step_script", "$ ./check", "3 is not 4"), ...section("cleanup", "Cleaning"), "ERROR: Job failed: exit code 1"];
  assert.deepEqual([shut(job, false), shut(job, true)], [3, 0]);
  const known = [...section("get_sources", "Fetching"), ...section("step_script", "AssertionError: 3 is not 4"), "ERROR: Job failed: exit code 1"];
  assert.equal(shut(known, true), 1, "the one that holds it is open");
});

test("an answer that fails in the middle leaves no page half read", async () => {
  const { answer } = served(3000);
  const broken = new Pages(async (from, count) => (from > 1500 ? Promise.reject(new Error("cut")) : answer(from, Math.min(count, 500))), read, () => {});
  broken.open("e", 0, 3000, "");
  assert.equal(await broken.load(0, 2), true);
  assert.deepEqual(broken.all.map(({ entries }) => entries?.length ?? 0), [1000, 0, 0]);
  assert.equal(await broken.load(1, 2), false);
  assert.equal(broken.all[1].entries, null);
  assert.equal(broken.count, 3000);
});

test("a line of several, a word and a gap change the numbers after them, and nothing else", async () => {
  const events = { 2: { event: "stderr", data: "a\nb\nc" }, 3: { event: "progress", data: "{}" }, 5: { event: "missing", data: '{"first": 10, "last": 14}' } };
  const { pages } = served(6, (offset) => events[offset] ?? { event: "log", data: `line ${offset}` });
  await pages.load(0);
  const shown = pages.all[0].entries.map((entry, line) => [entry.source, entry.text, pages.number(keyOf(0, line))]);
  assert.deepEqual(shown, [
    ["stdout", "line 1", 1], ["stderr", "a", 2], ["stderr", "b", 3], ["stderr", "c", 4], ["stdout", "line 4", 5],
    ["note", "Lines 10 to 14 are no longer kept.", 6], ["stdout", "line 6", 11],
  ]);
  assert.equal(pages.count, 11);
  assert.equal(pages.entry(pages.find(11)).text, "line 6");
  assert.equal(pages.entry(pages.findEvent(4)).text, "line 4");
});

test("lines that are no longer kept are told once, and the numbers go on after them", async () => {
  const { pages } = served(2500, undefined, 1200);
  await pages.load(1);
  const [note, line] = pages.all[1].entries;
  assert.equal(note.text, "Lines 1 to 1200 are no longer kept.");
  assert.equal(line.text, "line 1201");
  assert.equal(pages.number(keyOf(1, 1)), 1201);
  assert.equal(pages.number(pages.find(2500)), 2500);
  assert.equal(pages.count, 2500);
});

test("what is far from the reader is let go when too much is held, and read again", async () => {
  const { pages, asked } = served(40_000);
  pages.most = 1_500_000; // about 12 pages
  for (let page = 39; page >= 0; page -= 1) {
    pages.want([page]);
    await pages.load(page);
    assert.ok(pages.held <= pages.most, `${pages.held} bytes are held`);
  }
  const held = pages.all.filter(({ entries }) => entries).map(({ index }) => index);
  assert.ok(held.length < 16 && held.includes(0) && held.includes(39), `held: ${held}`);
  const before = asked.length;
  await pages.load(20);
  assert.equal(asked.length, before + 1);
  assert.equal(pages.entry(keyOf(20, 7)).text, "line 20008");
});

test("lines that come follow those that were read, and old ones are let go", () => {
  const pages = new Pages(async () => null, read, () => {});
  pages.readable = false;
  pages.most = 1_000_000;
  for (let number = 1; number <= 100_000; number += 1) {
    pages.append({ event: "stdout", data: `line ${number}`, at: 1 });
    if (number % 100 === 0) pages.release();
  }
  assert.equal(pages.count, 100_000);
  assert.ok(pages.held <= 1_200_000);
  assert.equal(pages.entry(pages.find(100_000)).text, "line 100000");
  assert.equal(pages.entry(pages.find(5)), null);
});

test("another epoch is numbered on after the one before", async () => {
  const { pages } = served(1500);
  await pages.load(0, 1);
  pages.note("again");
  pages.restart();
  assert.equal(pages.epoch, null, "the next event says it");
  pages.epoch = "f";
  pages.append({ event: "stdout", data: "anew", at: 1 }, pages.base + 1);
  assert.equal(pages.number(keyOf(2, 0)), 1501);
  assert.equal(pages.entry(keyOf(2, 0)).text, "anew");
});

const replace = (source, lines, text) => ({ event: "replace", data: JSON.stringify({ source, lines, text }) });

test("lines that are taken back are gone, their numbers are nobody's, and a draft stands below the last line", async () => {
  const events = [
    { event: "stdout", data: "a" }, { event: "stderr", data: "warns" }, { event: "stdout", data: "b" }, replace("stdout", 2, "drawing"), { event: "stdout", data: "c" },
    replace("stderr", 0, "50 %"), replace("stdout", 0, "x"), { event: "stdout", data: "d" }, replace("stdout", -1, "no"), replace("other", 0, "no"),
  ];
  const { pages } = served(events.length, (offset) => events[offset - 1]);
  await pages.load(0);
  assert.deepEqual(texts(pages.all[0]), ["warns", "c", "d"]);
  assert.deepEqual([0, 1, 2].map((line) => pages.number(keyOf(0, line))), [2, 4, 5]);
  assert.deepEqual(pages.drafts, { stdout: null, stderr: "50 %" });
});

test("lines of the page before are taken back whichever of the two is read first, and again when it is read again", async () => {
  for (const order of [[0, 1], [1, 0]]) {
    const { pages } = served(1010, (offset) => (offset === 1001 ? replace("stdout", 3, "") : { event: "stdout", data: `line ${offset}` }));
    for (const index of order) await pages.load(index);
    assert.equal(texts(pages.all[0]).length, 997);
    assert.equal(texts(pages.all[0]).at(-1), "line 997");
    pages.all[0].entries = null;
    await pages.load(0);
    assert.equal(texts(pages.all[0]).length, 997);
    assert.equal(pages.number(keyOf(1, 0)), 1001, "their numbers stay nobody's");
  }
});

function shown(log) {
  const tools = { Lines, mayMark, dialects: ["github", "gitlab"], ...store };
  const folds = new Folds(log.pages, tools);
  const order = new Order(log.pages, folds, tools);
  for (const page of log.pages.all) folds.note(page);
  folds.update();
  order.changed();
  const all = () => Array.from({ length: order.count }, (_, index) => log.pages.entry(order.key(index))?.text ?? null);
  return { folds, order, all };
}

test("closed groups hide their lines over pages, and what is shown is counted without them", async () => {
  const event = (offset) => ({ event: "stdout", data: { 10: "::group::Install", 2500: "::endgroup::", 2600: "::group::Test", 2610: "FAILED x.py::y - no", 2700: "::endgroup::" }[offset] ?? `line ${offset}` });
  const log = served(3000, event);
  await log.pages.load(0, 2);
  const { folds, order, all } = shown(log);
  assert.equal(order.count, 3000 - 2490);
  assert.deepEqual(all().slice(8, 12), ["line 9", "::group::Install", "line 2501", "line 2502"]);
  assert.ok(all().includes("FAILED x.py::y - no"), "what fails is in no closed group");
  for (let index = 0; index < order.count; index += 1) assert.equal(order.indexOf(order.key(index)), index);
  assert.ok(folds.reveal(keyOf(1, 500)));
  order.changed();
  assert.equal(order.count, 3000);
  assert.equal(folds.around(keyOf(1, 500)).name, "Install");
  assert.equal(folds.titled(keyOf(0, 9)).name, "Install");
});

test("a group is known as soon as both of its ends are, whatever is not read before it", async () => {
  const log = served(5000, (offset) => ({ event: "stdout", data: { 10: "::group::Early", 4100: "::endgroup::", 4200: "::group::Late", 4300: "::endgroup::" }[offset] ?? `line ${offset}` }));
  await log.pages.load(4);
  const late = shown(log);
  assert.deepEqual(late.folds.groups().map(({ name, over }) => [name, over]), [["Late", true]]);
  assert.equal(late.order.count, 5000 - 100);
  for (const index of [3, 2, 1, 0]) await log.pages.load(index);
  assert.deepEqual(shown(log).folds.groups().map(({ name }) => name), ["Early", "Late"]);
});

test("heights are those of wrapped lines, and lead back to their lines", async () => {
  const log = served(3000, (offset) => ({ event: "stdout", data: "x".repeat(offset % 300) }));
  await log.pages.load(0, 2);
  const { order } = shown(log);
  order.columns = 100;
  order.resized();
  let height = 0;
  for (let index = 0; index < order.count; index += 1) {
    if (index % 97 === 0) {
      assert.equal(order.heightBefore(index), height);
      assert.equal(order.indexAt(height), index);
    }
    height += 20 * Math.max(1, Math.ceil(((index + 1) % 300) / 100));
  }
  assert.equal(order.height, height);
});

const settled = async (find) => {
  for (let turns = 0; turns < 2000 && !find.done; turns += 1) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(find.done);
};

test("search goes round from where one is, over what is held and what has to be read, and counts exactly", async () => {
  const log = served(12_000, (offset) => ({ event: "stdout", data: offset % 1000 === 5 ? "a needle and a needle" : `line ${offset}` }));
  await log.pages.load(11);
  const find = new Find(log.pages, { plain: ({ text }) => text, patterns: null, server: null }, () => {});
  find.start({ query: "NEEDLE", levels: null, source: null }, 11);
  await settled(find);
  assert.equal(find.total, 24);
  assert.deepEqual(log.asked.map(([from]) => from), [11_001, 6001, 1001, 1], "the nearest first");
  const first = find.step({ page: 11, line: 100, nth: null }, 1);
  assert.deepEqual(first, { page: 0, line: 4, nth: 0 });
  assert.equal(find.ordinal(first), 1);
  const second = find.step(first, 1);
  assert.deepEqual(second, { page: 0, line: 4, nth: 1 });
  assert.deepEqual(find.step(second, 1), { page: 1, line: 4, nth: 0 });
  assert.deepEqual(find.step(first, -1), { page: 11, line: 4, nth: 1 });
  assert.equal(find.ordinal(find.step(first, -1)), 24);
  assert.deepEqual(find.shownOf(log.pages.all[3], 2), [2, 3, 4, 5, 6]);
  find.start({ query: "NEEDLE", sensitive: true, levels: null, source: null }, 0);
  await settled(find);
  assert.equal(find.total, 0);
});

/** A search of a log by its server, which finds what `timesAt(offset)` is more than 0 for, `most` matches and `events` in an answer; a
    `find.next()` lets it answer once more. */
function searched(log, timesAt, { most = Infinity, events = Infinity } = {}) {
  const { pages } = log;
  const asked = [];
  const answers = [];
  const limits = new Set();
  const source = new Source({ pages }, { EVENTS });
  source.range = async ({ before, after, limit, places }) => {
    assert.equal(places, 1, "numbers alone");
    limits.add(limit);
    asked.push(before === undefined ? `>${after}` : `<${before}`);
    await new Promise((resolve) => answers.push(resolve));
    const by = before === undefined ? 1 : -1;
    const found = [];
    let last = before ?? after;
    for (let seen = 0; seen < events && found.length < Math.min(most, limit) && last + by >= 1 && last + by <= log.top; seen += 1) {
      last += by;
      if (timesAt(last)) found.push(last);
    }
    found.sort((one, other) => one - other);
    const over = by > 0 ? last === log.top : last === 1;
    return { epoch: log.epoch ?? "e", offsets: found, counts: found.map(timesAt), next: over ? null : { [by > 0 ? "after" : "before"]: last } };
  };
  const find = new Find(pages, { plain: ({ text }) => text, patterns: null, server: (...args) => source.search(...args) }, () => {});
  const turn = () => new Promise((resolve) => setTimeout(resolve, 2));
  find.next = async () => {
    for (let turns = 0; turns < 1000 && !answers.length && !find.done; turns += 1) await turn();
    answers.shift()?.();
    for (let turns = 0; turns < 1000 && !answers.length && !find.done; turns += 1) await turn();
  };
  find.rest = async () => {
    while (!find.done) await find.next();
  };
  return { find, asked, limits };
}

const SOUGHT = { query: "needle", levels: null, source: null };

test("a search goes outwards from where one is, the nearest first on both sides, and reads no page", async () => {
  const log = served(100_000);
  const { find, asked, limits } = searched(log, (offset) => (offset % 500 === 250 ? 2 : 0), { events: 7300 });
  find.start(SOUGHT, 60);
  await find.next();
  await find.next();
  assert.deepEqual(asked.slice(0, 3), [">60000", "<60001", ">67300"]);
  const known = log.pages.all.filter(({ index }) => find.linesOf(index).length).map(({ index }) => index);
  assert.deepEqual([known[0], known.at(-1)], [53, 66], "whole pages, on both sides");
  assert.equal(find.total, 14 * 4);
  const near = { page: 60, line: 300, nth: null };
  assert.deepEqual(find.step(near, 1), { page: 60, line: 749, nth: 0 });
  assert.deepEqual(find.step(near, -1), { page: 60, line: 249, nth: 1 });
  assert.deepEqual(find.step({ page: 60, line: 249, nth: 0 }, -1), { page: 59, line: 749, nth: 1 });
  assert.equal(find.step({ page: 53, line: 249, nth: 0 }, -1), undefined, "nobody knows yet");
  assert.equal(find.step({ page: 66, line: 749, nth: 1 }, 1), undefined);
  assert.equal(find.ordinal({ page: 60, line: 249, nth: 0 }), null);
  await find.rest();
  assert.equal(find.total, 400);
  assert.deepEqual(find.step({ page: 53, line: 249, nth: 0 }, -1), { page: 52, line: 749, nth: 1 });
  assert.deepEqual(find.step({ page: 99, line: 749, nth: 1 }, 1), { page: 0, line: 249, nth: 0 });
  assert.equal(find.ordinal({ page: 60, line: 249, nth: 1 }), 242);
  assert.deepEqual(find.linesOf(17), [249, 749]);
  assert.deepEqual(log.asked, [], "no page was read");
  assert.deepEqual([...limits], [100, 50_000], "what is waited for comes first");
});

test("an answer that ends inside a page goes on there, and what is looked at meanwhile is not counted twice", async () => {
  const log = served(30_000, (offset) => ({ event: "stdout", data: offset % 2 ? "a needle, a needle" : "" }));
  const { find } = searched(log, (offset) => (offset % 2) * 2, { most: 333 });
  find.start(SOUGHT, 15);
  for (let answer = 0; answer < 3; answer += 1) await find.next();
  assert.deepEqual(find.linesOf(14), [], "not all of it is known");
  await log.pages.load(10, 14);
  for (const page of log.pages.all) find.note(page);
  for (let answer = 0; answer < 5; answer += 1) await find.next();
  await log.pages.load(16, 20);
  for (const page of log.pages.all) find.note(page);
  await find.rest();
  assert.equal(find.total, 30_000);
  for (const { index } of log.pages.all) assert.deepEqual(find.linesOf(index), Array.from({ length: 500 }, (_, line) => line * 2), `${index}`);
});

test("a page that is read after the server had searched it is counted as it is", async () => {
  const log = served(5000, (offset) => ({ event: "stdout", data: offset === 2500 ? "fine\nneedle" : "needle" }));
  const { find } = searched(log, () => 1, { events: 1000 });
  find.start(SOUGHT, 2);
  while (!find.linesOf(2).length) await find.next();
  assert.deepEqual(find.linesOf(2).slice(-2), [998, 999]);
  await log.pages.load(2);
  find.note(log.pages.all[2]);
  assert.deepEqual([find.linesOf(2).at(-1), find.linesOf(2).includes(499), find.linesOf(2).length], [1000, false, 1000]);
  await find.rest();
  assert.equal(find.total, 5000);
});

test("another log at the same place is not searched instead", async () => {
  const log = served(5000);
  log.epoch = "other";
  const { find, asked } = searched(log, () => 1);
  find.start({ ...SOUGHT, query: "line" }, 2);
  await find.rest();
  assert.equal(find.total, 5000, "it is read");
  assert.ok(asked.length <= 5, `${asked}`);
});

test("pages before another epoch are not asked for", async () => {
  const log = served(3000);
  log.pages.last = 3000;
  await log.pages.load(2);
  log.pages.restart();
  log.pages.append({ event: "stdout", data: "needle", at: 1 });
  const { find, asked } = searched(log, () => 0);
  find.start(SOUGHT, 3);
  await find.rest();
  assert.deepEqual([find.total, asked], [1, []]);
});

for (const server of [false, true]) {
  test(`pages that cannot be read now are not said to hold no match${server ? ", nor where the server would search" : ""}`, async () => {
    const log = served(40_000, (offset) => ({ event: "stdout", data: offset > 39_000 ? "a needle" : "line" }));
    const { answer, pages } = log;
    let asked = 0;
    pages.readable = true;
    const refusing = new Pages(async (from, count) => (log.refuses ? ((asked += 1), null) : answer(from, count)), read, () => {});
    refusing.open("e", 0, 40_000, "");
    const source = new Source({ pages: refusing }, { EVENTS });
    source.range = async () => ((asked += 1), null); // as where nobody is signed in any more
    const find = new Find(refusing, { plain: ({ text }) => text, patterns: null, server: server ? (...args) => source.search(...args) : null }, () => {});
    log.refuses = true;
    find.start(SOUGHT, 39);
    await settled(find);
    assert.deepEqual([find.total, find.trouble, find.partial], [0, "failed", true]);
    assert.ok(asked < 10, `${asked} requests`);
    log.refuses = false;
    await refusing.load(39);
    log.refuses = true;
    find.start(SOUGHT, 39);
    await settled(find);
    assert.deepEqual([find.total, find.trouble, find.partial], [1000, null, true], "those that are known, and that there may be more");
    refusing.append({ event: "stdout", data: "another needle", at: 1 });
    find.note(refusing.tail);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(find.total, 1001, "and those that come");
    log.refuses = false;
    find.again(39);
    await settled(find);
    assert.deepEqual([find.total, find.trouble, find.partial], [1001, null, false]);
  });
}

test("lines around a match are those of the page before and after too", async () => {
  const log = served(3000, (offset) => ({ event: "stdout", data: [1000, 2001].includes(offset) ? "needle" : `line ${offset}` }));
  await log.pages.load(0, 2);
  const find = new Find(log.pages, { plain: ({ text }) => text, patterns: null, server: null }, () => {});
  find.start({ query: "needle", levels: null, source: null });
  await settled(find);
  assert.deepEqual(find.shownOf(log.pages.all[0], 2), [997, 998, 999]);
  assert.deepEqual(find.shownOf(log.pages.all[1], 2), [0, 1, 998, 999]);
  assert.deepEqual(find.shownOf(log.pages.all[2], 2), [0, 1, 2]);
});

test("what comes while one searches is found too", async () => {
  const log = served(10);
  await log.pages.load(0);
  const find = new Find(log.pages, { plain: ({ text }) => text, patterns: null, server: null }, () => {});
  find.start({ query: "line", levels: null, source: null });
  await settled(find);
  assert.equal(find.total, 10);
  log.pages.append({ event: "stderr", data: "another line", at: 1 });
  find.note(log.pages.tail);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(find.total, 11);
  find.start({ query: "", levels: null, source: "stderr" });
  await settled(find);
  assert.deepEqual(find.linesOf(0), [10]);
});

test("patterns are as people write them, and say what is wrong with them", () => {
  assert.ok(pattern("a{|\\-", { regex: true }).test("-"));
  assert.ok(pattern("(x)", {}).test("(X)"));
  assert.equal(pattern("", { regex: true }), null);
  assert.throws(() => pattern("(", { regex: true }), /[Uu]nterminated group/);
  const found = (query, options, text = "Error: a.b error (ERROR)") => matches(pattern(query, options), text);
  assert.deepEqual(found("error"), [[0, 5], [11, 16], [18, 23]]);
  assert.deepEqual(found("error", { sensitive: true }), [[11, 16]]);
  assert.deepEqual(found("a.b", {}, "axb a.b"), [[4, 7]]);
  assert.deepEqual(found("a.b", { regex: true }, "axb a.b"), [[0, 3], [4, 7]]);
  assert.deepEqual(found("x*", { regex: true }, "axxb"), [[1, 3]]);
});

test("a place is its address and back", () => {
  const nothing = { lines: null, event: null, at: null, query: "", regex: false, sensitive: false, only: false, around: null, levels: null, source: null };
  assert.deepEqual(placeOf(""), nothing);
  const place = { ...nothing, lines: { first: 3, last: 9 }, event: 12, at: 700, query: "a&b=c #%", regex: true, only: true, around: 0, levels: ["error", "warning"], source: "stderr" };
  assert.deepEqual(placeOf(hashOf(place)), place);
  assert.equal(hashOf(nothing), "");
  assert.equal(hashOf({ ...nothing, lines: { first: 5, last: 5 } }), "#L5");
  assert.deepEqual(lineRange("#L9-L3"), { first: 3, last: 9 });
  for (const hash of ["#L", "#Lx", "#other", "#at=x&level=loud&from=elsewhere"]) assert.deepEqual(placeOf(hash), nothing);
});

test("events say what they are, and what makes no sense says nothing", () => {
  assert.equal(offsetOf("kQzTbWpa.12"), 12);
  assert.equal(offsetOf("kQzTbWpa.12.abc"), 12);
  for (const id of ["", "x", "a.b", null, undefined, "a.1e3"]) assert.equal(offsetOf(id), null);
  assert.deepEqual(aboutOf("exit", '{"code": 3, "seconds": 1e999}'), { exit: { code: 3, seconds: null, status: "" } });
  assert.deepEqual(aboutOf("progress", '{"fraction": "x", "step": 5}'), { progress: { fraction: null, step: "5" } });
  assert.equal(aboutOf("status", '{"status": {"toString": 1}}'), null);
  assert.equal(aboutOf("progress", "[".repeat(100_000)).progress.fraction, null);
  assert.equal(read({ event: "other", data: "x" }), null);
  assert.deepEqual(read({ event: "critical", data: "a\nb", at: 1 }).lines.map(({ label, severity }) => [label, severity]), [["critical", "error"], [null, "error"]]);
});

/** A clock of whose timers each fires `late(due)` after it is due; `run(until)` lets the time pass. */
function clocked(t, late) {
  let [now, next] = [0, 1];
  const timers = new Map();
  t.mock.method(performance, "now", () => now);
  t.mock.method(globalThis, "setTimeout", (call, ms = 0) => timers.set((next += 1), { call, at: late(now + ms) }) && next);
  t.mock.method(globalThis, "clearTimeout", (id) => timers.delete(id));
  return (until) => {
    for (;;) {
      const [id, timer] = [...timers].sort(([, one], [, other]) => one.at - other.at)[0] ?? [];
      if (!timer || timer.at > until) return void (now = until);
      timers.delete(id);
      now = timer.at;
      timer.call();
    }
  };
}

/** The question to a worker that says that it is there, and then nothing; what became of it. */
async function asked(t) {
  const worker = new EventTarget();
  Object.assign(worker, { postMessage() {}, terminate() {} });
  globalThis.Worker = function () {
    return worker;
  };
  t.after(() => delete globalThis.Worker);
  const question = { told: null };
  new Patterns("worker.js").ask({}).catch((why) => (question.told = why));
  worker.dispatchEvent(Object.assign(new Event("message"), { data: { id: 0 } }));
  return question;
}

test("a pattern without an answer is given up, also in a tab that nobody sees, where timers come with the next second", async (t) => {
  const run = clocked(t, (due) => Math.floor(due / 1000) * 1000 + 1000);
  const question = await asked(t);
  run(10_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(question.told, "slow");
});

test("a pattern is not given up because the machine stood still", async (t) => {
  let timers = 0; // the first is for the worker to be there
  const run = clocked(t, (due) => due + ((timers += 1) === 2 ? 3_000 : 0));
  const question = await asked(t);
  run(4_500);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(question.told, null);
  run(6_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(question.told, "slow");
});
