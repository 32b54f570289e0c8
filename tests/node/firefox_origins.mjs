/* Streams of another origin in Firefox: `SITE=… OTHER=… STREAMS=… KEY=… FIREFOX=… node --test firefox_origins.mjs`. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import puppeteer from "puppeteer-core";

const { SITE, OTHER, STREAMS, KEY, FIREFOX } = process.env;
const PATIENCE_MS = 60_000;

let browser;
let page;

before(async () => {
  browser = await puppeteer.launch({ browser: "firefox", executablePath: FIREFOX, headless: true, timeout: 2 * PATIENCE_MS });
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`${STREAMS}/client/in/user-000/`);
});

after(() => browser?.close());

/** What an EventSource of the page is told first, or that it was refused. */
const first = (url, withCredentials) => page.evaluate((address, credentials) => new Promise((resolve) => {
  const source = new EventSource(address, { withCredentials: credentials });
  const done = (about) => {
    source.close();
    resolve(about);
  };
  source.onmessage = ({ data }) => done(JSON.parse(data));
  source.onerror = () => source.readyState === EventSource.CLOSED && done("closed");
}), url, withCredentials);

test("it is Firefox", async () => assert.match(await browser.version(), /^firefox\//i));

test("a listed page reads with cookies and without", async () => {
  await page.goto(`${SITE}/_page/`);
  assert.equal((await first(`${STREAMS}/origins/who/?key=${KEY}`, true)).user, "user-000");
  assert.equal((await first(`${STREAMS}/origins/who/?key=${KEY}`, false)).user, "");
});

test("another page reads nothing, and nothing runs as its visitor", async () => {
  await page.goto(`${OTHER}/_page/`);
  assert.equal(await first(`${STREAMS}/origins/who/?key=${KEY}-other`, true), "closed");
});

test("a signed address needs no cookie, and is renewed", async () => {
  await page.goto(`${SITE}/client/in/user-001/`);
  await page.goto(`${SITE}/_page/`);
  const got = await page.evaluate(async (streams) => {
    const { EventStream } = await import("/static/django_agent_sse/client.js");
    const renew = "/origins/address/?to=30";
    const { url } = await (await fetch(renew)).json();
    const stream = new EventStream(`${streams}${url}`, { renew, reconnect: { baseDelay: 50 } });
    const all = [];
    for await (const { data } of stream) if (all.push(data) === 30) break;
    return all;
  }, STREAMS);
  assert.deepEqual(got, Array.from({ length: 30 }, (_, at) => `user-001 ${at + 1}`));
});
