/* Text as it was printed: what is selected, what the address names, or all of it, to the clipboard or into a file. */

const KEPT_MS = 10_000; // that a file waits to be fetched

export class Clipboard {
  #log;
  #tools;
  #lost = new WeakMap(); // by entry of which only the beginning is held, its whole text

  /** `log`: the parts of log.js. `tools`: {whole, SHOWN} of lines.js, {keyOf, pageOf, lineOf} of pages.js, {make} of rows.js. */
  constructor(log, tools) {
    this.#log = log;
    this.#tools = tools;
  }

  /** The text of the lines that are held. */
  get held() {
    return this.#texts(this.#log.pages.all.flatMap((page) => page.entries ?? []));
  }

  #texts(entries) {
    return entries.filter(({ source }) => source !== "note").map((entry) => this.#whole(entry)).join("\n");
  }

  #whole(entry) {
    const { draw } = this.#log;
    const lost = this.#lost.get(entry);
    if (lost !== undefined) return this.#whole(Object.assign(Object.create(entry), { text: lost, lost: 0 }));
    const plain = draw.plain(entry);
    return entry.text.length <= this.#tools.SHOWN ? plain : this.#tools.whole({ ...draw.read(entry), plain });
  }

  /** Somebody copies: give the text of what is selected, of folded lines too, and of those that are not in the page. */
  copy(event) {
    const range = this.#log.selected.range;
    if (!range) return;
    event.preventDefault();
    const pages = this.#pagesOf(range);
    if (pages.some(({ entries, lost }) => !entries || lost)) this.#copyLater(pages, range);
    else event.clipboardData.setData("text/plain", pages.flatMap((page) => this.#selectedOf(page, range)).join("\n"));
  }

  /* Those that are not held are read, a page after the other. */
  async #copyLater(pages, range) {
    const lines = [];
    for (const page of pages) {
      if (!(await this.#read(page.index, page.index, (line) => this.#isSelected(page, line, range)))) return this.#unread();
      for (const line of this.#selectedOf(page, range)) lines.push(line);
    }
    this.#lost = new WeakMap();
    await this.#write(lines.join("\n"), lines.length);
  }

  /* The lines of a page are held, and the whole of those that are asked for; false where they cannot be read now. */
  async #read(index, upto, isWanted) {
    const { pages, source } = this.#log;
    const page = pages.all[index];
    await pages.load(index, upto);
    const entries = page.entries ?? [];
    for (const [line, entry] of page.lost ? entries.entries() : []) {
      if (!entry.lost || this.#lost.has(entry) || !isWanted(line)) continue;
      let first = line;
      while (entries[first - 1]?.event === entry.event) first -= 1;
      const text = await source.whole(entry, line - first);
      if (typeof text === "string") this.#lost.set(entry, text);
      else if (text === null && entry.event > pages.base) return false; // of an epoch before there is no more
    }
    return page.entries !== null || !Number.isFinite(page.failedAt);
  }

  #isSelected({ index }, line, { from, to }) {
    const key = this.#tools.keyOf(index, line);
    return key >= from.key && key <= to.key;
  }

  #pagesOf({ from, to }) {
    const { pageOf } = this.#tools;
    return this.#log.pages.all.slice(pageOf(from.key), pageOf(to.key) + 1);
  }

  /* The lines of a page that are selected: where lines are left out, only of those that are shown. */
  #selectedOf(page, { from, to }) {
    const { keyOf } = this.#tools;
    const lines = [];
    for (const line of this.#shownOf(page)) {
      const key = keyOf(page.index, line);
      const entry = page.entries?.[line];
      if (!entry || entry.source === "note" || !this.#isSelected(page, line, { from, to })) continue;
      if ((key === from.key && from.at === Infinity) || (key === to.key && to.at < 0)) continue; // after its text, or before it
      lines.push(this.#whole(entry).slice(key === from.key ? Math.max(0, from.at) : 0, key === to.key ? to.at : Infinity));
    }
    return lines;
  }

  #shownOf(page) {
    const { order } = this.#log;
    const { keyOf, lineOf, pageOf } = this.#tools;
    if (!order.filtered) return Array.from({ length: page.count }, (_, line) => line);
    const shown = [];
    for (let index = order.indexOf(keyOf(page.index, 0)); index < order.count && pageOf(order.key(index)) === page.index; index += 1) shown.push(lineOf(order.key(index)));
    return shown;
  }

  /** Copy the lines that the address names, or all of them. */
  async copyLines() {
    const { pages, navigation } = this.#log;
    const { keyOf, pageOf } = this.#tools;
    const { target } = navigation;
    const first = target ? pages.find(target.first) : 0;
    const last = target ? pages.find(Math.min(target.last, pages.count)) : null;
    const texts = [];
    let count = 0;
    for (let index = pageOf(first ?? 0); index < pages.all.length && (last === null || index <= pageOf(last)); index += 1) {
      const isNamed = (line) => !target || (keyOf(index, line) >= first && keyOf(index, line) <= last);
      if (!(await this.#read(index, last === null ? index + 4 : index, isNamed))) return this.#unread();
      const entries = (pages.all[index].entries ?? []).filter((entry, line) => entry.source !== "note" && isNamed(line));
      count += entries.length;
      if (entries.length) texts.push(this.#texts(entries));
    }
    this.#lost = new WeakMap();
    await this.#write(texts.join("\n"), count);
  }

  #unread() {
    this.#lost = new WeakMap();
    this.#log.flash(this.#log.words.t("Not copied: some lines cannot be read now."));
  }

  /* Say how many lines were copied, if they were: a browser allows it for some seconds after a click or a key. */
  async #write(text, count) {
    const { words, flash } = this.#log;
    let copied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      copied = this.#writeSelected(text);
    }
    flash(copied ? words.t("Copied {count} line", "Copied {count} lines", { count }) : words.t("Not copied: the browser did not allow it."));
  }

  #writeSelected(text) {
    const active = document.activeElement;
    const area = this.#tools.make("textarea", "sl-said", {}, text);
    this.#log.element.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (active instanceof HTMLElement) active.focus({ preventScroll: true });
    return copied;
  }

  /** A file of the lines that are held. */
  download() {
    const address = URL.createObjectURL(new Blob([`${this.held}\n`], { type: "text/plain" }));
    this.#tools.make("a", "", { href: address, download: "log.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
  }
}
