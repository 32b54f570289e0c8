/* Whether the end is followed: until somebody wants to go up, and again when the reader is back at the end. A wheel, a finger or a key
   that goes up is enough; so is any scroll away from the end, whoever did it: the viewer itself only ever scrolls to it. It is followed
   again where a wheel, a finger or a key that went down, or the scroll bar, led to it. */

const HANDLING = 1000; // milliseconds after which a scroll is not the reader's
const UP = new Set(["ArrowUp", "PageUp", "Home"]);
const DOWN = new Set(["ArrowDown", "PageDown", "End", " "]);

export class Following {
  #view;
  #rows;
  #changed;
  #moved;
  #handled = -Infinity; // when the reader last wanted to go down
  #held = false; // a button or a finger is down in the view
  #touched = 0;
  #reached = 0;

  /** `changed(on)` is told when the reader changes it, `moved()` when the reader goes anywhere in the view. */
  constructor(view, rows, changed, moved) {
    this.on = true;
    this.#view = view;
    this.#rows = rows;
    this.#changed = changed;
    this.#moved = moved;
    const listen = (kind, listener) => view.addEventListener(kind, listener, { passive: true });
    listen("wheel", ({ deltaY, ctrlKey }) => {
      if (!ctrlKey && deltaY) this.#want(deltaY > 0);
    });
    listen("touchstart", ({ touches }) => {
      this.#touched = touches[0].clientY;
      this.#held = true;
    });
    listen("touchmove", ({ touches }) => {
      if (touches[0].clientY !== this.#touched) this.#want(touches[0].clientY < this.#touched);
      this.#touched = touches[0].clientY;
    });
    listen("keydown", ({ key, shiftKey }) => {
      if (UP.has(key) || (key === " " && shiftKey)) this.#want(false);
      else if (DOWN.has(key)) this.#want(true);
    });
    listen("pointerdown", () => {
      this.#held = true;
      this.#reached = view.scrollTop;
    });
    listen("scroll", () => this.#scrolled());
  }

  /** Listen until `signal` aborts: a button may come up anywhere. */
  listen(signal) {
    const released = () => {
      if (!this.#held) return;
      this.#held = false;
      if (performance.now() - this.#handled < HANDLING) this.#handled = performance.now(); // it may go on for a while
      const selection = document.getSelection();
      if (!selection || selection.isCollapsed || !this.#view.contains(selection.anchorNode)) return;
      this.#moved();
      if (this.on) this.#turn(false);
    };
    for (const kind of ["pointerup", "pointercancel", "touchend", "touchcancel"]) window.addEventListener(kind, released, { signal });
  }

  /** Whether the end is to be shown now. */
  get pinned() {
    return this.on && !this.#held;
  }

  #want(down) {
    const { scrollTop, scrollHeight, clientHeight } = this.#view;
    if (down ? scrollTop + clientHeight < scrollHeight - 1 : scrollTop > 0) this.#moved(); // else it is the page that scrolls
    this.#handled = down ? performance.now() : -Infinity;
    if (!down && this.on && this.#view.scrollHeight > this.#view.clientHeight) this.#turn(false);
  }

  #turn(on) {
    this.on = on;
    this.#changed(on);
  }

  #scrolled() {
    const top = this.#view.scrollTop;
    const up = top < this.#reached - 1;
    const down = top > this.#reached + 1;
    this.#reached = top;
    if (this.#held && (up || down)) this.#moved();
    if (this.on && up && !this.#rows.atBottom) this.#turn(false); // rows that are lower than was assumed move it up too
    else if (!this.on && down && this.#rows.atEnd && (this.#held || performance.now() - this.#handled < HANDLING)) this.#turn(true);
  }
}
