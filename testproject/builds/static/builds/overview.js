/* All builds, as they go: one stream tells this page what there is, and then what changes. The page says what it wants to be told
   by its slots: `data-slot="status"` within, or at, an element with `data-build="42"`. */

import { follow, make, seconds, showProgress } from "./shared.js";

const TICK = 250; // milliseconds between two looks at the clock
const NOTICE = 8000; // milliseconds that a notice stays
const NOTICES = 4;
const LISTED = 50;

const place = document.querySelector("[data-overview]");
const template = document.getElementById("row");
const list = document.getElementById("rows");
const known = new Map(); // id: the row as it was told last, with `began` by this page's clock
let newest = null; // the id of the newest build when the page was told first

/* Rows */

function slots(id, name) {
  return document.querySelectorAll(`[data-build="${id}"] [data-slot="${name}"], [data-build="${id}"][data-slot="${name}"]`);
}

function pageOf(id) {
  return place.dataset.page.replace("/0/", `/${id}/`);
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function ago(time) {
  const passed = (Date.now() - new Date(time)) / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (passed >= length) return relative.format(-Math.floor(passed / length), unit);
  }
  return "just now";
}

function facts(row) {
  const printed = row.over && row.duration !== null ? `${row.lines.toLocaleString()} line${row.lines === 1 ? "" : "s"} in ${seconds(row.duration)}, ` : "";
  return `${printed}started ${ago(row.created)}${row.by ? ` by ${row.by}` : ""}`;
}

function show(row) {
  known.set(row.id, { ...row, began: row.elapsed === null ? null : performance.now() - row.elapsed * 1000 });
  if (template && !slots(row.id, "status").length) insert(row.id);
  for (const slot of slots(row.id, "status")) {
    slot.dataset.status = row.status;
    slot.textContent = row.status;
  }
  const texts = { label: row.label, number: `#${row.id}`, lines: row.lines, exit: row.exit_code ?? "-", took: row.duration === null ? "" : seconds(row.duration) };
  for (const [name, text] of Object.entries(texts)) for (const slot of slots(row.id, name)) slot.textContent = text;
  tick(row.id);
}

function insert(id) {
  const item = template.content.firstElementChild.cloneNode(true);
  item.dataset.build = id;
  item.querySelector("a").href = pageOf(id);
  const after = [...list.children].find((other) => other.dataset.build < id);
  list.insertBefore(item, after ?? null);
  while (list.children.length > LISTED) remove(list.lastElementChild.dataset.build);
}

function remove(id) {
  known.delete(Number(id));
  for (const item of document.querySelectorAll(`li[data-build="${id}"]`)) item.remove();
}

/* What changes with the time */

function tick(id) {
  const row = known.get(id);
  for (const slot of slots(id, "facts")) slot.textContent = facts(row);
  for (const slot of slots(id, "going")) {
    slot.hidden = row.status !== "running";
    showProgress(slot, row.progress, row.usual, row.began === null ? null : (performance.now() - row.began) / 1000);
  }
}

setInterval(() => { for (const id of known.keys()) tick(id); }, TICK);

/* Logs that others write */

function showElsewhere(names) {
  const section = document.querySelector("[data-elsewhere]");
  if (!section) return;
  section.hidden = !names.length;
  section.querySelector("ul").replaceChildren(...names.map((name) => {
    const href = section.dataset.elsewhere.replace("NAME", () => encodeURIComponent(name));
    return make("li", {}, make("a", { className: "row", href }, make("code", {}, `builds.${name}`)));
  }));
}

/* Counts, and what is new on a page whose rows the server chose */

function count(counts) {
  for (const [status, number] of Object.entries(counts)) {
    for (const slot of document.querySelectorAll(`[data-count="${status}"]`)) {
      slot.hidden = !number;
      slot.querySelector("b").textContent = number.toLocaleString();
    }
  }
}

function tellNew() {
  const fresh = document.getElementById("fresh");
  if (!fresh) return;
  const number = [...known.keys()].filter((id) => id > newest).length;
  fresh.hidden = !number;
  fresh.querySelector("b").textContent = `${number} new build${number === 1 ? "" : "s"}`;
}

/* Notices */

function notify({ id, level, text }) {
  const notices = document.getElementById("notices");
  const close = make("button", { type: "button", ariaLabel: "Dismiss", onclick: () => notice.remove() }, "×");
  const notice = make("div", { className: "notice" }, make("a", { href: pageOf(id) }, text), close);
  notice.dataset.level = level;
  notices.append(notice);
  while (notices.children.length > NOTICES) notices.firstElementChild.remove();
  setTimeout(() => notice.remove(), NOTICE);
}

/* The connection */

const { overview: address, login } = place.dataset;
const stream = follow({ address, login, live: "live" });
const on = (name, take) => stream.addEventListener(name, (event) => take(JSON.parse(event.data)));

on("builds", ({ counts, builds }) => {
  newest ??= Math.max(0, ...builds.map((row) => row.id));
  const there = new Set(builds.map((row) => row.id));
  for (const id of known.keys()) if (!there.has(id)) remove(id);
  builds.forEach(show);
  count(counts);
  tellNew();
});
on("build", (row) => { show(row); tellNew(); });
on("gone", ({ id }) => remove(id));
on("counts", count);
on("elsewhere", showElsewhere);
on("notice", notify);
