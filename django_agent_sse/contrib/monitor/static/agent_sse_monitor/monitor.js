// The page of live streams: one event a second, only while somebody looks. Without this script the page is a snapshot.

/** @type {HTMLElement} */
const page = document.querySelector(".sse-mon[data-events]");
/** @type {(name: string) => any} */
const find = (name) => page.querySelector(`[data-${name}]`);
const GONE_FOR_GOOD = 2;
const AGAIN_MS = 5000;
const SOON_MS = 1500;

const { words } = await import(new URL(page.dataset.words, document.baseURI).href);
const { t } = words(page);

let query = page.dataset.query;
let source = null;
let again = null;

function status(word, text) {
  find("dot").dataset.state = word;
  const line = find("status");
  if (line.textContent !== text) line.textContent = text;
}

function fill(part, values) {
  for (const cell of part.querySelectorAll("[data-cell]")) {
    const text = String(values[cell.dataset.cell] ?? "");
    if (cell.textContent !== text) cell.textContent = text;
  }
}

/** Keeps one element for each item, in the order of the items; what is still there stays, with focus and selection. */
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

function state(element, word) {
  const cell = element.querySelector("[data-state]");
  if (cell.dataset.state !== word) cell.dataset.state = word;
}

function address(element, part, href) {
  const link = element.querySelector(`[data-${part}]`);
  if (link && link.getAttribute("href") !== href) link.setAttribute("href", href);
}

function showRow(element, row) {
  fill(element, row);
  element.classList.toggle("mon-you", row.you);
  state(element, row.state);
  address(element, "user", `?${new URLSearchParams({ user: row.user_id })}`);
  address(element, "close", `close/?${new URLSearchParams({ stream: row.id, user: row.user_id, route: row.route })}`);
}

function showProcess(element, process) {
  fill(element, process);
  state(element, process.state);
  address(element, "drain", `close/?process=${process.id}${process.state === "draining" ? "&resume=1" : ""}`);
}

function showNotice(element, notice) {
  element.className = `mon-notice mon-${notice.level}`;
  const [title, hint] = [element.querySelector("strong"), element.querySelector("span")];
  if (title.textContent !== notice.title) title.textContent = notice.title;
  if (hint.textContent !== notice.hint) hint.textContent = notice.hint;
}

function showCard(card) {
  const element = page.querySelector(`[data-card="${card.key}"]`);
  element.classList.toggle("mon-alarm", Boolean(card.alarm));
  const value = element.querySelector(".mon-value");
  if (value.textContent !== card.value) value.textContent = card.value;
  for (const name of ["line", "area"]) {
    const path = element.querySelector(`.mon-${name}`);
    if (path.getAttribute("d") !== card[name]) path.setAttribute("d", card[name]);
  }
}

function showOptions(name, all, values) {
  /** @type {HTMLSelectElement} */
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
  showOptions("route", t("All routes"), update.routes.map((route) => [route, route]));
  showOptions("process", t("All processes"), update.processes.map((process) => [process.id, process.name]));
  find("summary").textContent = update.summary;
  find("empty").hidden = update.rows.length > 0;
  status("live", t("Live, {time}", { time: update.at }));
}

function sleep(word, text) {
  clearTimeout(again);
  source?.close();
  source = null;
  status(word, text);
}

function wake() {
  if (source || document.hidden) return;
  clearTimeout(again);
  status("waiting", t("Connecting…"));
  source = new EventSource(`${page.dataset.events}?${query}`);
  source.addEventListener("monitor", (event) => show(JSON.parse(event.data)));
  source.addEventListener("sse.end", (event) => {
    const stays = event.lastEventId.startsWith("sse.end~");
    sleep("off", stays ? t("This page’s stream was closed. Reload the page to open another.") : t("Reconnecting…"));
    if (!stays) again = setTimeout(wake, SOON_MS);
  });
  source.addEventListener("error", () => {
    if (source?.readyState !== GONE_FOR_GOOD) return status("waiting", t("Reconnecting…"));
    sleep("off", t("Disconnected. Trying again; if you were signed out, reload the page."));
    again = setTimeout(wake, AGAIN_MS);
  });
}

function ask(next) {
  query = next.toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  sleep("waiting", t("Connecting…"));
  wake();
}

const filters = find("filters");
const asked = () => new URLSearchParams([...new FormData(filters)].map(([name, value]) => [name, String(value)]).filter(([, value]) => value && value !== "-opened"));
let typing = null;
filters.addEventListener("change", () => ask(asked()));
filters.addEventListener("input", (event) => {
  if (event.target.type !== "search") return;
  clearTimeout(typing);
  typing = setTimeout(() => ask(asked()), 300);
});
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  ask(asked());
});

document.addEventListener("visibilitychange", () => (document.hidden ? sleep("off", t("Paused while hidden")) : wake()));
addEventListener("pagehide", () => sleep("off", t("Paused while hidden")));
addEventListener("pageshow", wake);
page.classList.add("mon-renews");
/** @type {any[]} */
const [visit] = performance.getEntriesByType("navigation");
find("http1").hidden = visit?.nextHopProtocol !== "http/1.1";
wake();
