// The page of live streams: one event a second, only while somebody looks. Without this script the page is a snapshot.

/** @type {HTMLElement} */
const page = document.querySelector(".sse-mon[data-events]");
/** @type {(name: string) => any} */
const find = (name) => page.querySelector(`[data-${name}]`);
const GONE_FOR_GOOD = 2;
const AGAIN_MS = 5000;
const SOON_MS = 1500;
const SILENT_MS = 30_000; // after which a connection that says nothing is none: it speaks once a second
const REFUSED = [401, 403];

const { words } = await import(new URL(page.dataset.words, document.baseURI).href);
const { t } = words(page);

let query = page.dataset.query;
let source = null;
let again = null;

// What is said to who does not see it: a change of state, and a new notice, once

function status(word, text) {
  find("dot").dataset.state = word;
  const line = find("status");
  if (line.textContent !== text) line.textContent = text;
}

// Lists: one element for each item, in the order of the items. What is still there stays, with focus and selection

function fill(part, values) {
  for (const cell of part.querySelectorAll("[data-cell]")) {
    const text = String(values[cell.dataset.cell] ?? "");
    if (cell.textContent !== text) cell.textContent = text;
  }
}

/** What does not fit into its cell is told to who points at it. */
function tip(event) {
  const cell = event.target.closest?.(".mon-main, .mon-sub");
  if (cell) cell.title = cell.scrollWidth > cell.clientWidth ? cell.textContent : "";
}

/** Brings a list up to its items; where it is held nothing comes, goes or moves. Returns how many items wait to come. */
function renew(list, template, items, update, { key = "id", held = false } = {}) {
  const before = new Map([...list.children].map((element) => [element.dataset.id, element]));
  let place = list.firstElementChild;
  let waiting = 0;
  for (const item of items) {
    const id = item[key];
    let element = before.get(id);
    before.delete(id);
    if (!element && held) {
      waiting += 1;
      continue;
    }
    if (!element) {
      element = template.content.querySelector("tr, .mon-notice").cloneNode(true);
      element.dataset.id = id;
    }
    update(element, item);
    if (held) continue;
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
  }
  for (const element of before.values()) {
    if (held) leave(element);
    else element.remove();
  }
  return waiting;
}

/** What is gone stays in its place for as long as the list is held, and says so. */
function leave(element) {
  element.classList.add("mon-over");
  const cell = element.querySelector('[data-cell="state_label"]');
  if (cell) {
    cell.textContent = t("no longer listed");
    cell.dataset.state = "";
  }
}

function state(element, word) {
  const cell = element.querySelector("[data-state]");
  if (cell && cell.dataset.state !== word) cell.dataset.state = word;
}

function address(element, part, href) {
  const link = element.querySelector(`[data-${part}]`);
  if (!link || link.getAttribute("href") === href) return;
  if (href) link.setAttribute("href", href);
  else link.removeAttribute("href");
}

const changed = (values) => {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(values)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  return next;
};

function showItem(element, item) {
  element.classList.remove("mon-over");
  fill(element, item);
}

function showRow(element, row) {
  showItem(element, row);
  element.classList.toggle("mon-you", row.you);
  state(element, row.state);
  address(element, "user", `?${changed(row.user_id ? { user: row.user_id, anonymous: "" } : { user: "", anonymous: "1" })}`);
  address(element, "close", `close/?${new URLSearchParams({ stream: row.id, filters: query })}`);
}

function showProcess(element, process) {
  showItem(element, process);
  state(element, process.state);
  const drain = new URLSearchParams({ process: process.id, ...(process.state === "draining" ? { resume: "1" } : {}), filters: query });
  address(element, "drain", `close/?${drain}`);
  const link = element.querySelector("[data-drain]");
  if (link) link.hidden = !process.act;
}

const showRoute = (element, row) => {
  showItem(element, row);
  address(element, "link", `?${changed({ view: "", route: row.route })}`);
};
const showRun = (element, row) => {
  showItem(element, row);
  address(element, "link", row.href);
};
const LISTS = { streams: showRow, routes: showRoute, problems: showItem, runs: showRun };

function showNotice(element, notice) {
  element.className = `mon-notice mon-${notice.level}`;
  const [title, hint] = [element.querySelector("strong"), element.querySelector("span")];
  if (title.textContent !== notice.title) title.textContent = notice.title;
  if (hint.textContent !== notice.hint) hint.textContent = notice.hint;
}

const told = new Set([...find("notices").children].map((element) => element.dataset.id));

function tellNotices(notices) {
  const fresh = notices.filter((notice) => notice.level === "warning" && !told.has(notice.key));
  told.clear();
  for (const notice of notices) told.add(notice.key);
  if (fresh.length) find("said").textContent = fresh.map((notice) => notice.title).join(" ");
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
  if (!select || select.dataset.key === key || document.activeElement === select) return;
  const chosen = select.value;
  select.dataset.key = key;
  select.replaceChildren(...wanted.map(([value, text]) => new Option(text, value, false, value === chosen)));
  if (chosen && !wanted.some(([value]) => value === chosen)) select.add(new Option(chosen, chosen, true, true));
}

// Calm: nothing comes, goes or moves while somebody points at the lists, has the focus in them, or has scrolled into them

const lists = find("lists");
let latest = null;
const options = { routes: [], names: [] }; // of the filters
let over = false;
let settled = false; // all processes have answered what was asked for

const held = () => settled && (over || lists.contains(document.activeElement) || lists.getBoundingClientRect().top < 0);

function show(update, force = false) {
  latest = update;
  const how = { held: !force && held() };
  update.cards.forEach(showCard);
  let waiting = 0;
  for (const list of page.querySelectorAll("[data-list]")) {
    const name = list.dataset.list;
    const one = name === "processes" ? showProcess : LISTS[page.dataset.view];
    waiting += renew(list, find(`of="${name}"`), update[name] ?? [], one, how);
    const around = find(`with="${name}"`);
    if (around && !how.held) around.hidden = !update[name]?.length;
  }
  renew(find("notices"), find("notice"), update.notices, showNotice, { key: "key", ...how });
  tellNotices(update.notices);
  options.routes = update.routes ?? options.routes; // they come where they have changed
  options.names = update.names ?? options.names;
  showOptions("route", t("All routes"), options.routes.map((route) => [route, route]));
  showOptions("process", t("All processes"), options.names);
  find("summary").textContent = update.summary;
  if (!how.held) {
    find("empty").textContent = update.empty;
    find("empty").hidden = Boolean(page.querySelector('[data-list="rows"], [data-list="processes"]').children.length);
  }
  showNew(waiting);
  settled = settled || !update.missing;
}

function showNew(count) {
  const button = find("new");
  if (!count && document.activeElement === button) find("summary").focus({ preventScroll: true });
  button.hidden = !count;
  const text = count ? t("{count} new", { count }) : "";
  if (button.textContent !== text) button.textContent = text;
}

const release = () => {
  if (latest && !held()) show(latest);
};
lists.addEventListener("pointerover", tip);
lists.addEventListener("pointerenter", (event) => {
  over = event.pointerType !== "touch";
});
lists.addEventListener("pointerleave", () => {
  over = false;
  release();
});
lists.addEventListener("focusout", () => setTimeout(release));
addEventListener("scroll", release, { passive: true });
find("new").addEventListener("click", () => show(latest, true));

// The connection

function sleep(word, text) {
  clearTimeout(again);
  source?.close();
  source = null;
  status(word, text);
}

/** Says that nobody is signed in any more, and that what is shown is old. */
function shutOut(code) {
  sleep("off", code === 403 ? t("You may no longer see this page.") : t("Signed out."));
  find("login").hidden = code === 403;
  page.classList.add("mon-stale");
  find("content").inert = true;
}

function letIn() {
  find("login").hidden = true;
  page.classList.remove("mon-stale");
  find("content").inert = false;
}

/** Whether this page may still be seen; asking does not count as activity. */
async function refusal() {
  const ask = { method: "HEAD", credentials: "same-origin", headers: { Accept: "text/event-stream" } };
  try {
    const { status: code } = await fetch(`${page.dataset.events}?${query}`, /** @type {RequestInit} */ (ask));
    return REFUSED.includes(code) ? code : 0;
  } catch {
    return 0;
  }
}

async function lost(text, after) {
  sleep("off", text);
  const code = await refusal();
  if (source || document.hidden) return;
  if (code) shutOut(code);
  else if (after) again = setTimeout(wake, after);
}

function wake() {
  if (source || document.hidden) return;
  clearTimeout(again);
  status("waiting", t("Connecting…"));
  let silence = 0;
  const mine = (source = new EventSource(`${page.dataset.events}?${query}`));
  const watch = () => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      if (source === mine) lost(t("Disconnected. Trying again…"), SOON_MS);
    }, SILENT_MS);
  };
  mine.addEventListener("monitor", (event) => {
    if (source !== mine) return;
    const update = JSON.parse(event.data);
    watch();
    letIn();
    show(update, !settled);
    status("live", t("Live"));
    find("clock").textContent = update.at;
  });
  mine.addEventListener("sse.end", (event) => {
    if (source !== mine) return;
    const stays = event.lastEventId.startsWith("sse.end~");
    lost(stays ? t("This page’s stream was closed. Reload the page to open another.") : t("Reconnecting…"), stays ? 0 : SOON_MS);
  });
  let waits = t("Reconnecting…");
  mine.addEventListener("sse.overloaded", (event) => {
    const { reason } = JSON.parse(event.data);
    if (reason !== "shutdown") waits = t("Refused: {reason}. Trying again…", { reason }); // who looks may have met a limit, too
  });
  mine.addEventListener("open", () => {
    waits = t("Reconnecting…");
    if (source === mine) watch();
  });
  mine.addEventListener("error", () => {
    if (source !== mine) return;
    clearTimeout(silence); // it is known
    if (mine.readyState !== GONE_FOR_GOOD) status("waiting", waits);
    else lost(t("Disconnected. Trying again…"), AGAIN_MS);
  });
}

// What is asked for: it stands in the address, the form, the headers of the columns and the links of the rows

function ask(next) {
  query = next.toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  settled = false;
  latest = null; // of what was asked for before
  showNew(0);
  sync(next);
  sleep("waiting", t("Connecting…"));
  wake();
}

const filters = find("filters");
const FILTERS = ["text", "route", "user", "anonymous", "process", "state"];

/** Brings everything that shows what is asked for up to that. */
function sync(asked) {
  for (const field of filters?.elements ?? []) {
    if (!field.name || field.name === "range") continue;
    const value = asked.get(field.name) ?? (field.name === "sort" ? "-opened" : "");
    if (field.type !== "checkbox") field.value = value;
    else {
      if (field.name === "user" && value) field.value = value;
      field.checked = Boolean(value);
    }
  }
  if (filters) {
    find("of-user").hidden = !asked.get("user");
    find("clear").hidden = !FILTERS.some((name) => asked.get(name));
    address(filters, "clear", `?${changed(Object.fromEntries(FILTERS.map((name) => [name, ""])))}`);
  }
  for (const link of page.querySelectorAll("[data-export]")) {
    const own = new URLSearchParams(link.getAttribute("href").split("?")[1]);
    const values = new URLSearchParams([["format", own.get("format")], ["table", own.get("table") ?? ""], ...asked]);
    link.setAttribute("href", `export/?${values}`);
  }
  for (const link of page.querySelectorAll(".mon-views a, .mon-range a")) {
    const own = new URLSearchParams(link.getAttribute("href").slice(1));
    const part = link.closest(".mon-views") ? "view" : "range";
    link.setAttribute("href", `?${changed({ [part]: own.get(part) })}`);
  }
  showOrder(asked);
}

function showOrder(asked) {
  const by = page.dataset.view === "routes" ? "order" : "sort";
  const sort = asked.get(by) ?? (by === "sort" ? "-opened" : "route");
  for (const header of page.querySelectorAll("th[data-sort]")) {
    const own = header.dataset.sort;
    const key = own.replace("-", "");
    if (!key) continue;
    const sorted = sort.replace("-", "") === key;
    if (sorted) header.setAttribute("aria-sort", sort.startsWith("-") === "falls" in header.dataset ? "ascending" : "descending");
    else header.removeAttribute("aria-sort");
    const other = sort.startsWith("-") ? key : `-${key}`;
    header.querySelector("a").setAttribute("href", `?${changed({ [by]: sorted ? other : own })}`);
  }
}

const asked = () => {
  const next = changed(Object.fromEntries([...FILTERS, "sort"].map((name) => [name, ""])));
  for (const [name, value] of new FormData(filters)) if (value && !(name === "sort" && value === "-opened")) next.set(name, String(value));
  return next;
};
let typing = null;
filters?.addEventListener("change", () => ask(asked()));
filters?.addEventListener("input", (event) => {
  if (event.target.type !== "search") return;
  clearTimeout(typing);
  typing = setTimeout(() => ask(asked()), 300);
});
filters?.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  ask(asked());
});
page.addEventListener("click", (event) => {
  const link = /** @type {Element} */ (event.target).closest("a[data-ask]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  ask(new URLSearchParams(link.getAttribute("href").slice(1)));
});

document.addEventListener("visibilitychange", () => (document.hidden ? sleep("off", t("Paused while hidden")) : wake()));
addEventListener("pagehide", () => sleep("off", t("Paused while hidden")));
addEventListener("pageshow", wake);
page.classList.add("mon-renews");
/** @type {any[]} */
const [visit] = performance.getEntriesByType("navigation");
find("http1").hidden = visit?.nextHopProtocol !== "http/1.1";
sync(new URLSearchParams(query));
wake();
