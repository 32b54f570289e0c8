/* Whether the end is followed: until somebody wants to go up, and again when the reader is back at the end. A wheel, a finger or a key
   that goes up is enough; so is any scroll away from the end, whoever did it: the viewer itself only ever scrolls to it. */

const HANDLING = 1000; // milliseconds after which a scroll is not the reader's
const UP = new Set(["ArrowUp", "PageUp", "Home"]);

export class Following {
  #view;
  #rows;
  #changed;
  #handled = -Infinity; // when the reader last did what can scroll
  #held = false; // a button or a finger is down in the view
  #touched = 0;
  #reached = 0;

  /** `changed(on)` is told when the reader changes it. */
  constructor(view, rows, changed) {
    this.on = true;
    this.#view = view;
    this.#rows = rows;
    this.#changed = changed;
    const listen = (kind, listener) => view.addEventListener(kind, listener, { passive: true });
    listen("wheel", ({ deltaY, ctrlKey }) => {
      if (ctrlKey) return;
      this.#handle();
      if (deltaY < 0) this.#up();
    });
    listen("touchstart", ({ touches }) => {
      this.#touched = touches[0].clientY;
      this.#held = true;
    });
    listen("touchmove", ({ touches }) => {
      this.#handle();
      if (touches[0].clientY > this.#touched) this.#up();
      this.#touched = touches[0].clientY;
    });
    listen("keydown", ({ key, shiftKey }) => {
      this.#handle();
      if (UP.has(key) || (key === " " && shiftKey)) this.#up();
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
      this.#handle();
      const selection = document.getSelection();
      if (this.on && selection && !selection.isCollapsed && this.#view.contains(selection.anchorNode)) this.#turn(false);
    };
    for (const kind of ["pointerup", "pointercancel", "touchend", "touchcancel"]) window.addEventListener(kind, released, { signal });
  }

  /** Whether the end is to be shown now. */
  get pinned() {
    return this.on && !this.#held;
  }

  #handle() {
    this.#handled = performance.now();
  }

  #up() {
    if (this.on && this.#view.scrollHeight > this.#view.clientHeight) this.#turn(false);
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
    if (this.on && up && !this.#rows.atEnd) this.#turn(false);
    else if (!this.on && down && this.#rows.atEnd && (this.#held || performance.now() - this.#handled < HANDLING)) this.#turn(true);
  }
}
