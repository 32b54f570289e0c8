/* Where the reader goes: lines that the address names, links to lines, the line that the keyboard is at; and the address, which says where
   the reader is. */

const PLACE_MS = 400; // after which the address says where the reader is

export class Navigation {
  #log;
  #tools;
  #target = null; // the lines that the address names
  #event = null; // the event of the first of them, where numbers are not sure
  #sought = null; // what is still to be gone to: {key} | {number, event, top}
  #placing = 0;
  #hash = ""; // of the address, as it was last read or written

  /** `log`: the parts of log.js. `tools`: {placeOf, hashOf} of place.js, {pageOf} of pages.js. */
  constructor(log, tools) {
    this.#log = log;
    this.#tools = tools;
    this.current = null; // the place that the keyboard is at
    this.moved = false; // the reader has gone somewhere
  }

  /** Whether there is a place that is still to be gone to. */
  get isGoing() {
    return this.#sought !== null;
  }

  get target() {
    return this.#target;
  }

  /** Whether a number is one of those that the address names. */
  names(number) {
    return this.#target !== null && number >= this.#target.first && number <= this.#target.last;
  }

  /** Go where the address says. */
  readAddress() {
    const { draw, panel, finder } = this.#log;
    if (!draw.anchors) return;
    this.#hash = location.hash;
    const place = this.#tools.placeOf(location.hash);
    if (place.query || place.levels || place.source) {
      panel.sought = place;
      finder.seek({ stay: Boolean(place.lines || place.at) });
    }
    if (place.lines) this.jump(place.lines, place.event);
    else if (place.at) this.jump(null, null, place.at);
  }

  /** Go to these lines, or that line which is to be at the top. */
  jump(lines, event = null, at = null) {
    this.#log.finder.stay();
    this.#target = lines;
    this.#event = event;
    this.#sought = lines ? { number: lines.first, event } : { number: at, top: true };
    this.#log.follow(false, false);
    this.#log.flush();
  }

  /** Go to a place with the next flush. */
  aim(key) {
    this.current = key;
    this.#sought = { key };
    this.#log.follow(false, false);
  }

  goTo(key) {
    this.aim(key);
    this.#log.flush();
  }

  /** Go nowhere: the reader is where they want to be. */
  stay() {
    this.moved = true;
    this.#sought = null;
    this.#log.finder.stay();
  }

  /** Go to what is sought, if it is there; whether it was. */
  arrive() {
    const sought = this.#sought;
    if (!sought) return false;
    const { pages, rows, folds, order, finder } = this.#log;
    const key = sought.key ?? (sought.event ? pages.findEvent(sought.event + pages.base) : pages.find(sought.number));
    if (key === null) {
      if (this.#log.finished) this.#missing(sought.number);
      return false;
    }
    const page = pages.all[this.#tools.pageOf(key)];
    if (!page.entries) {
      rows.show(key, sought.top ? "start" : "center"); // it is asked for by being shown
      pages.load(page.index);
      return true;
    }
    if (sought.event && !sought.key) this.#correct(key);
    this.#sought = null;
    this.#log.unseen = 0;
    if (folds.reveal(key)) order.changed();
    rows.show(key, sought.top ? "start" : "center");
    if (sought.number && !sought.top) this.current = key;
    finder.reveal(key);
    return true;
  }

  /* The event of a line says more than its number, where not all before it was counted. */
  #correct(key) {
    const by = this.#log.pages.number(key) - this.#target.first;
    this.#target = { first: this.#target.first + by, last: this.#target.last + by };
  }

  /** Nothing follows: a line that is not there never will be. */
  finish() {
    if (this.#sought?.number && this.#log.pages.find(this.#sought.number) === null) this.#missing(this.#sought.number);
  }

  #missing(line) {
    const { words, pages } = this.#log;
    const { t, number } = words;
    this.#sought = null;
    this.#log.flash(t("There is no line {number}: the log has {count}.", { number: String(line), count: number(pages.count) }));
    this.#log.follow(true);
  }

  /** Somebody clicked on a number: link its line, or with Shift up to it. */
  click(event) {
    const number = event.target.closest?.(".sl-n[data-n]");
    if (!number || !this.#log.draw.anchors || event.ctrlKey || event.metaKey || event.button !== 0) return;
    event.preventDefault();
    this.link(number.closest(".sl-line").key, event.shiftKey);
  }

  /** Name a line in the address, or those from the one that is named up to it; or no more, where it alone is named. */
  link(key, further) {
    const { pages } = this.#log;
    const number = pages.number(key);
    const from = further && this.#target ? this.#target.first : number;
    const single = !further && this.#target?.first === number && this.#target.last === number;
    this.#target = single ? null : { first: Math.min(from, number), last: Math.max(from, number) };
    const first = this.#target && pages.find(this.#target.first);
    this.#event = first && !pages.exactBefore(this.#tools.pageOf(first)) ? pages.entry(first)?.event ?? null : null;
    this.current = key;
    this.stay();
    this.#log.follow(false, false);
    this.#put();
  }

  /** Name no lines any more; whether some were. */
  clear() {
    if (!this.#target) return false;
    this.stay();
    this.#target = this.#event = null;
    this.#log.flush();
    this.#put();
    return true;
  }

  /** The line of the keyboard is another, so many further. */
  move(by) {
    const { rows, order } = this.#log;
    if (!order.count) return;
    this.stay();
    const from = this.current !== null && rows.row(this.current) ? order.indexOf(this.current) + by : order.indexOf(rows.top?.key ?? 0);
    this.#log.follow(false, false);
    this.current = order.key(Math.max(0, Math.min(order.count - 1, from)));
    rows.refresh();
    const row = rows.row(this.current) ?? rows.show(this.current);
    rows.reveal(row.getBoundingClientRect());
    for (const link of rows.view.querySelectorAll('a[tabindex="0"]')) link.tabIndex = -1;
    for (const link of row.querySelectorAll("a")) link.tabIndex = 0;
    row.querySelector(".sl-n").focus({ preventScroll: true });
  }

  /** The reader may be elsewhere: let the address say so in a while. */
  place() {
    if (!this.#log.draw.anchors || this.#placing) return;
    this.#placing = setTimeout(() => {
      this.#placing = 0;
      this.#put();
    }, PLACE_MS);
  }

  #put() {
    const { element, rows, pages, order, following, panel } = this.#log;
    if (!this.#log.opened || !element.isConnected) return;
    if (location.hash !== this.#hash) return this.readAddress(); // somebody wants to go elsewhere: the event of it is yet to come
    rows.settle();
    const { top } = rows;
    const inSight = this.#target !== null && rows.row(pages.find(this.#target.first)) !== null;
    const at = following.on || this.#sought || !top || order.filtered || inSight ? null : pages.number(top.key);
    const { sought } = panel;
    const around = sought.only || sought.levels || sought.source ? sought.around || null : null;
    const hash = this.#tools.hashOf({ ...sought, around, lines: this.#target, event: this.#event, at: at === 1 ? null : at });
    if (location.hash === hash || (location.hash && !hash && !this.#owns(location.hash))) return;
    history.replaceState(history.state, "", hash || location.pathname + location.search);
    this.#hash = location.hash;
  }

  #owns(hash) {
    return this.#tools.hashOf(this.#tools.placeOf(hash)) !== "";
  }
}
