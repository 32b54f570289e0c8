// The page of live streams: one event a second, only while somebody looks. Without this script the page is a snapshot.

const page = document.querySelector(".sse-mon[data-events]");
const find = (name) => page.querySelector(`[data-${name}]`);
const { EventStream } = await import(new URL(page.dataset.client, document.baseURI).href);
const AGAIN_MS = 5000;

let query = page.dataset.query;
let stream = null;
let again = null;

/** Set a property where it changes, so that a selection and the page's layout are left alone. */
function set(element, name, value) {
  if (element[name] !== value) element[name] = value;
}

function status(word, text) {
  find("dot").dataset.state = word;
  set(find("status"), "textContent", text);
}

function fill(part, values) {
  for (const cell of part.querySelectorAll("[data-cell]")) set(cell, "textContent", String(values[cell.dataset.cell] ?? ""));
}

/** Keep one element for each item, in their order. An element that is still needed stays, with focus and selection. */
function renew(list, template, items, key, update) {
  const before = new Map([...list.children].map((element) => [element.dataset.id, element]));
  let place = list.firstElementChild;
  for (const item of items) {
    const id = item[key];
    let element = before.get(id);
    before.delete(id);
    if (!element) {
      element = template.content.querySelector("tr, .mon-notice").cloneNode(true);
      element.dataset.id = id;
    }
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
  }
  for (const element of before.values()) element.remove();
}

function address(element, part, href) {
  const link = element.querySelector(`[data-${part}]`);
  if (link && link.getAttribute("href") !== href) link.setAttribute("href", href);
}

function showRow(element, row) {
  fill(element, row);
  element.classList.toggle("mon-you", row.you);
  set(element.querySelector("[data-state]").dataset, "state", row.state);
  address(element, "user", `?${new URLSearchParams({ user: row.user_id })}`);
  address(element, "close", `close/?${new URLSearchParams({ stream: row.id, user: row.user_id, route: row.route })}`);
}

function showProcess(element, process) {
  fill(element, { ...process, state: process.state === "gone" ? "stopped reporting" : process.state });
  set(element.querySelector("[data-state]").dataset, "state", process.state);
  const draining = process.state === "draining";
  address(element, "drain", `close/?process=${process.id}${draining ? "&resume=1" : ""}`);
  const link = element.querySelector("[data-drain]");
  if (link) link.textContent = draining ? "Resume…" : "Drain…";
}

function showNotice(element, notice) {
  element.className = `mon-notice mon-${notice.level}`;
  fill(element, notice);
}

function showCard(card) {
  const element = page.querySelector(`[data-card="${card.key}"]`);
  element.classList.toggle("mon-alarm", Boolean(card.alarm));
  fill(element, card);
  for (const name of ["line", "area"]) element.querySelector(`.mon-${name}`).setAttribute("d", card[name]);
}

function showOptions(name, all, values) {
  const select = page.querySelector(`select[name="${name}"]`);
  const wanted = [["", all], ...values];
  const key = JSON.stringify(wanted);
  if (select.dataset.key === key || document.activeElement === select) return;
  const chosen = select.value;
  select.dataset.key = key;
  select.replaceChildren(...wanted.map(([value, text]) => new Option(text, value, false, value === chosen)));
  if (chosen && !wanted.some(([value]) => value === chosen)) select.add(new Option(chosen, chosen, true, true));
}

function show(update) {
  update.cards.forEach(showCard);
  renew(find("rows"), find("row"), update.rows, "id", showRow);
  renew(find("processes"), find("process"), update.processes, "id", showProcess);
  renew(find("notices"), find("notice"), update.notices, "key", showNotice);
  showOptions("route", "All routes", update.routes.map((route) => [route, route]));
  showOptions("process", "All processes", update.processes.map((process) => [process.id, process.name]));
  find("summary").textContent = update.summary;
  find("empty").hidden = update.rows.length > 0;
  status("live", `Live, ${update.at}`);
}

function sleep(word, text) {
  clearTimeout(again);
  stream?.close();
  stream = null;
  status(word, text);
}

function wake() {
  if (stream || document.hidden) return;
  clearTimeout(again);
  status("waiting", "Connecting…");
  stream = new EventStream(`${page.dataset.events}?${query}`);
  stream.addEventListener("monitor", (event) => show(JSON.parse(event.data)));
  stream.addEventListener("statechange", ({ state, status: refused }) => {
    if (state === "reconnecting") status("waiting", "Reconnecting…");
    if (state !== "ended" && state !== "error") return;
    if (state === "ended" || refused === null) return sleep("off", "This page’s stream was closed. Reload the page to open another.");
    sleep("off", "Disconnected. Trying again; if you were signed out, reload the page.");
    again = setTimeout(wake, AGAIN_MS);
  });
}

const filters = find("filters");
let typing = null;

function ask() {
  clearTimeout(typing);
  query = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value && value !== "-opened")).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  sleep("waiting", "Connecting…");
  wake();
}

filters.addEventListener("change", ask);
filters.addEventListener("input", ({ target }) => {
  if (target.type !== "search") return; // a change says it at once
  clearTimeout(typing);
  typing = setTimeout(ask, 300);
});
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

document.addEventListener("visibilitychange", () => (document.hidden ? sleep("off", "Paused while hidden") : wake()));
page.classList.add("mon-renews");
const [visit] = performance.getEntriesByType("navigation");
find("http1").hidden = visit?.nextHopProtocol !== "http/1.1";
wake();
