/* Rows near the view: of a log of any length only what is seen, and a little around it, is in the page. Above and below stand two
   empty elements as tall as the rest is assumed to be. Whatever changes, what the reader sees stays where it is.

   A browser lays out no element of more than some ten million pixels: beyond that the empty ones are lower than what they stand for,
   and a pixel of the scroll bar is more than one of the log. */

const AROUND = 60; // rows above and below what is seen
const SLACK = 20; // of them, after which others are made
const TALLEST = 8_000_000; // pixels of the whole
const NEAR_END = 24; // pixels

/** An element with a class, attributes and children. */
export function make(name, className, attributes = {}, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/* Empty, and as tall as it is told: by an element in its shadow, so that it has no `style` of its own where the page is kept as text. */
class Space {
  #inside = make("div", "");

  constructor() {
    this.element = make("div", "sl-space", { "aria-hidden": "true" });
    this.element.attachShadow({ mode: "open" }).append(this.#inside);
  }

  set height(pixels) {
    this.#inside.style.height = `${pixels}px`;
  }
}

export class Rows {
  #order;
  #draw;
  #want;
  #above = new Space();
  #body = make("div", "sl-rows");
  #below = new Space();
  #made = new Map(); // by place, {row, …}
  #first = 0; // of what is shown, what is in the page
  #last = 0;
  #frame = 0;
  #isPrinted = false; // what is in the page is for paper
  #place = null; // {key, over, width}: what the reader saw last at the top, and how wide the view was

  /** `order`: what is shown. `draw(key, known)`: {row, …} of a place, where `known` is what it gave for that place before, or null.
      `want(keys)`: told of what is in the page. */
  constructor(view, order, draw, want) {
    this.view = view;
    this.#order = order;
    this.#draw = draw;
    this.#want = want;
    view.append(this.#above.element, this.#body, this.#below.element);
    view.addEventListener("scroll", () => this.#later(), { passive: true });
    this.selected = null; // Selected of selected.js
  }

  get body() {
    return this.#body;
  }

  /** Whether the reader is at the end of the log. */
  get atEnd() {
    return this.#last >= this.#order.count && this.atBottom;
  }

  /** Whether the reader is at the end of what is in the page: there may be lines by now that are not. */
  get atBottom() {
    const { scrollHeight, scrollTop, clientHeight } = this.view;
    return scrollHeight - scrollTop - clientHeight <= NEAR_END;
  }

  /** The row of a place, or null where it is not in the page. */
  row(key) {
    return this.#made.get(key)?.row ?? null;
  }

  /** The places in the page. */
  keys() {
    return this.#made.keys();
  }

  /** The place at the top of the view, and how far above it its row begins. */
  get top() {
    const row = this.#seen();
    return row ? { key: row.key, over: this.view.scrollTop - row.offsetTop } : null;
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.settle();
    });
  }

  /** Make the rows where the reader is, and keep the place: the frame after a scroll does it by itself. Until then what is at the top of
      the page need not be what is at the top of the view. */
  settle() {
    if (!this.#order.count || this.#isPrinted) return;
    if (this.#place && this.#place.width !== this.view.clientWidth) return this.#keep(this.#place); // what wraps anew has moved it
    if (this.#isAway) return this.#follow();
    const { scrollTop, clientHeight } = this.view;
    const [begin, end] = [this.#body.offsetTop, this.#body.offsetTop + this.#body.offsetHeight];
    const slack = SLACK * this.#order.row;
    if ((scrollTop - begin < slack && this.#first > 0) || (end - scrollTop - clientHeight < slack && this.#last < this.#order.count)) this.refresh();
    else this.#remember();
  }

  /* Whether nothing of what is in the page is seen: the reader went far at once. */
  get #isAway() {
    const { scrollTop, clientHeight } = this.view;
    const { offsetTop, offsetHeight } = this.#body;
    const isBelow = scrollTop >= offsetTop + offsetHeight && this.#last < this.#order.count; // below the last one are drafts
    return offsetHeight > 0 && (scrollTop + clientHeight <= offsetTop || isBelow);
  }

  #follow() {
    const { scrollTop, clientHeight, scrollHeight } = this.view;
    if (scrollTop + clientHeight >= scrollHeight - 1) return this.toEnd();
    const index = this.#order.indexAt(this.#heightAt(scrollTop));
    this.#window(index - AROUND, index + this.#fits + AROUND);
    this.#space();
    const { offsetTop, offsetHeight } = this.#body;
    const isCovered = offsetTop <= scrollTop && offsetTop + offsetHeight >= scrollTop + clientHeight;
    if (!isCovered) this.#scrollTo(this.#body.children[index - this.#first]?.offsetTop ?? scrollTop); // rows are lower than was assumed
    this.#remember();
  }

  #remember() {
    if (!this.view.clientHeight) return; // in a tab or a <details> that is closed nothing is at the top
    const place = this.top;
    if (place) this.#place = { ...place, width: this.view.clientWidth };
  }

  get #fits() {
    return Math.ceil(this.view.clientHeight / this.#order.row);
  }

  get #scale() {
    return Math.max(1, this.#order.height / TALLEST);
  }

  /* What is assumed to stand at a height of the scrolled content. */
  #heightAt(y) {
    if (y < this.#body.offsetTop) return y * this.#scale;
    return this.#order.height - (this.view.scrollHeight - y) * this.#scale;
  }

  /* The row at the top of the view. */
  #seen() {
    const { children } = this.#body;
    let [low, high] = [0, children.length - 1];
    const { scrollTop } = this.view;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (children[middle].offsetTop + children[middle].offsetHeight <= scrollTop) low = middle + 1;
      else high = middle;
    }
    return children[low] ?? null;
  }

  /** What is shown is different, or the reader is elsewhere: the rows around the view are made anew where they must be. */
  refresh() {
    if (this.#isAway && this.#place?.width === this.view.clientWidth) this.#follow();
    else this.#keep(this.#place?.width === this.view.clientWidth ? this.top : this.#place);
  }

  /** Rows have other heights: what was at the top before is there again. */
  resized() {
    this.#keep(this.#place);
  }

  #keep(place) {
    if (!place) {
      this.#window(0, this.#fits + AROUND);
      this.#space();
      return this.#remember();
    }
    const index = this.#order.indexOf(place.key);
    this.#window(index - AROUND, index + this.#fits + AROUND);
    this.#space();
    const row = this.row(place.key);
    const kept = row ?? this.#body.children[Math.max(0, Math.min(index - this.#first, this.#body.children.length - 1))];
    if (kept) this.#scrollTo(kept.offsetTop + Math.min(place.over, row ? Math.max(0, row.offsetHeight - 1) : 0));
    this.#remember();
  }

  #scrollTo(top) {
    if (Math.abs(this.view.scrollTop - top) >= 1) this.view.scrollTop = top;
  }

  /** Bring a place into view: its row, and of that the part `within(row)` names, {top, bottom}, if it is too tall. */
  show(key, where = "center") {
    const index = this.#order.indexOf(key);
    this.#window(index - AROUND - (where === "center" ? this.#fits : 0), index + this.#fits + AROUND);
    this.#space();
    const row = this.row(key) ?? this.#body.children[Math.min(index - this.#first, this.#body.children.length - 1)];
    if (!row) return null;
    if (!this.view.clientHeight) this.#place = { key, over: 0, width: -1 }; // gone to when somebody opens it
    const room = this.view.clientHeight - row.offsetHeight;
    this.#scrollTo(row.offsetTop - (where === "center" ? Math.max(0, room / 2) : 0));
    this.#remember();
    return row;
  }

  /** Leave the view where it is if this is in sight, else move it so that it is. */
  reveal({ top, bottom, left, right }) {
    const box = this.view.getBoundingClientRect();
    const [above, below] = [box.top + this.view.clientTop, box.top + this.view.clientTop + this.view.clientHeight];
    if (top < above || bottom > below) this.view.scrollTop += (top + bottom) / 2 - (above + below) / 2;
    const [before, after] = [box.left + 80, box.left + this.view.clientWidth];
    if (left < before || right > after) this.view.scrollLeft += (left + right) / 2 - (before + after) / 2;
  }

  /** Show the end. */
  toEnd() {
    const { count } = this.#order;
    this.#window(count - this.#fits - AROUND, count);
    this.#space();
    this.#scrollTo(this.view.scrollHeight - this.view.clientHeight);
    this.#remember();
  }

  toTop() {
    this.#window(0, this.#fits + AROUND);
    this.#space();
    this.#scrollTo(0);
    this.#remember();
  }

  /** Every line that is shown, for printing; at most so many, and of those around the reader that `isHeld(key)`, since nothing can be waited
      for. Returns how many are left out: {before, after}. */
  all(most, isHeld) {
    const { count } = this.#order;
    const here = Math.max(0, Math.min(this.#place ? this.#order.indexOf(this.#place.key) : 0, count - 1));
    const least = count <= most ? 0 : Math.max(0, Math.min(here - AROUND, count - most));
    let [first, last] = [here, Math.min(count, here + 1)];
    while (first > least && isHeld(this.#order.key(first - 1))) first -= 1;
    while (last < count && last - first < most && isHeld(this.#order.key(last))) last += 1;
    this.#window(first, last);
    this.#isPrinted = true;
    for (const space of [this.#above, this.#below]) space.height = 0;
    return { before: first, after: count - last };
  }

  /* The rows of what is shown from `first` to `last` are in the page, and no others. */
  #window(first, last) {
    [first, last] = [Math.max(0, Math.min(first, this.#order.count - 1)), Math.min(this.#order.count, last)];
    this.selected?.read();
    this.#isPrinted = false;
    const wanted = new Map();
    for (let index = first; index < last; index += 1) {
      const key = this.#order.key(index);
      const known = this.#made.get(key) ?? null;
      const made = this.#draw(key, known);
      made.row.key = key;
      wanted.set(key, made);
    }
    const rows = new Set(Array.from(wanted.values(), ({ row }) => row));
    const active = /** @type {any} */ (document.activeElement);
    const focused = this.#body.contains(active) ? active.closest(".sl-line")?.key : undefined;
    for (const row of [...this.#body.children]) if (!rows.has(row)) row.remove();
    let next = this.#body.firstElementChild;
    for (const row of rows) {
      if (row === next) next = next.nextElementSibling;
      else this.#body.insertBefore(row, next);
    }
    this.#made = wanted;
    [this.#first, this.#last] = [first, last];
    if (focused !== undefined && !this.#body.contains(document.activeElement)) (wanted.get(focused)?.row.querySelector(".sl-n[tabindex]") ?? this.view).focus({ preventScroll: true });
    this.selected?.restore();
    this.#want(wanted.keys());
  }

  #space() {
    const { count, height } = this.#order;
    const scale = this.#scale;
    const above = this.#first ? this.#order.heightBefore(this.#first) : 0;
    const below = this.#last < count ? height - this.#order.heightBefore(this.#last) : 0;
    this.#above.height = above / scale;
    this.#below.height = below / scale;
  }
}

/** A Range of the characters `from` to `to` of a row's text; null where they are not there. */
export function rangeOf(row, from, to) {
  const walker = document.createTreeWalker(row.querySelector(".sl-t"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  let passed = 0;
  let begun = false;
  for (let node = /** @type {Text} */ (walker.nextNode()); node; node = /** @type {Text} */ (walker.nextNode())) {
    const end = passed + node.data.length;
    if (!begun && from < end) {
      range.setStart(node, from - passed);
      begun = true;
    }
    if (begun && to <= end) {
      range.setEnd(node, to - passed);
      return range;
    }
    passed = end;
  }
  return null;
}
