/* What a terminal would show of a line: text in runs of one style. Pure: no DOM, and nothing here makes markup.

   Of control sequences those have an effect that draw in one line: SGR (colours and styles), links (OSC 8), CR, BS, tabs, and what
   moves to a column, erases, inserts and deletes. The others are dropped; what goes to other lines is drawn before, by the server.
   A sequence may be cut anywhere between two calls of write(). Styles go on from line to line, as in a terminal. */

const ESC = "\x1b";
const LONGEST = 4096; // characters of a control sequence: what is longer is none
const KNOWN = 1000; // styles that are remembered by the sequence that led to them
const WIDTH = 512; // columns that the cursor can be moved to where there is no text yet
const TAB = 8;
const MOVED = 4_000_000; // cells that a line's sequences may move or fill: then they have no effect
const LONGEST_LINK = 2083;
const SPECIAL = /[\x00-\x08\x0a-\x1f\x7f-\x9f]/g; // C0 but tab, DEL, C1

/** What a style may be besides its colours. */
export const FLAGS = Object.freeze(["bold", "dim", "italic", "underline", "inverse", "strike", "conceal"]);

/** How a run of text looks. Colours are null, 0 to 15 (the terminal's own), or "#rrggbb". */
export class Style {
  constructor(fields = {}) {
    this.fg = null;
    this.bg = null;
    this.bold = this.dim = this.italic = this.underline = this.inverse = this.strike = this.conceal = false;
    Object.assign(this, fields);
  }

  with(fields) {
    return new Style({ ...this, ...fields });
  }

  get plain() {
    return this.fg === null && this.bg === null && !FLAGS.some((flag) => this[flag]);
  }
}

export const PLAIN = new Style();
const BLANK = Object.freeze([" ", PLAIN, null]);

const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 8: "conceal", 9: "strike", 21: "underline" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 28: ["conceal"], 29: ["strike"] };
const LEVELS = [0, 95, 135, 175, 215, 255]; // of the colour cube of 256 colours

const hex = (...rgb) => `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;

/** A colour of the 256: the first 16 are the terminal's own. null where there is no such colour. */
export function indexed(number) {
  if (!(number >= 0 && number <= 255)) return null;
  if (number < 16) return number;
  if (number > 231) return hex(...Array(3).fill(8 + 10 * (number - 232)));
  const cube = number - 16;
  return hex(LEVELS[Math.floor(cube / 36)], LEVELS[Math.floor(cube / 6) % 6], LEVELS[cube % 6]);
}

/** The style after the parameters of an SGR sequence: "1;38;5;208", or with colons "38:2::255:128:0". */
export function applied(style, parameters) {
  if (parameters === "" || parameters === "0") return PLAIN;
  const groups = parameters.split(";").map((group) => group.split(":").map((text) => (text === "" ? 0 : Number(text))));
  for (let at = 0; at < groups.length; at += 1) {
    const [code, ...own] = groups[at];
    if (code === 38 || code === 48 || code === 58) {
      const [colour, taken] = own.length ? [extended(own, true), 0] : following(groups, at + 1);
      at += taken;
      if (colour !== undefined && code !== 58) style = style.with({ [code === 38 ? "fg" : "bg"]: colour });
    } else {
      style = simple(style, code, own[0]);
    }
  }
  return style;
}

function simple(style, code, detail) {
  if (code === 0) return PLAIN;
  if (code === 4 && detail === 0) return style.with({ underline: false });
  if (ON[code]) return style.with({ [ON[code]]: true });
  if (OFF[code]) return style.with(Object.fromEntries(OFF[code].map((name) => [name, false])));
  if (code >= 30 && code <= 37) return style.with({ fg: code - 30 });
  if (code >= 90 && code <= 97) return style.with({ fg: code - 82 });
  if (code >= 40 && code <= 47) return style.with({ bg: code - 40 });
  if (code >= 100 && code <= 107) return style.with({ bg: code - 92 });
  if (code === 39) return style.with({ fg: null });
  if (code === 49) return style.with({ bg: null });
  return style;
}

/* 38;5;n and 38;2;r;g;b: the colour, and how many groups it took. */
function following(groups, at) {
  const values = groups.slice(at, at + 4).map((group) => group[0]);
  return [extended(values, false), values[0] === 5 ? 2 : values[0] === 2 ? 4 : 0];
}

function extended(values, colons) {
  if (values[0] === 5) return indexed(values[1]) ?? undefined;
  if (values[0] !== 2) return undefined;
  const rgb = colons && values.length > 4 ? values.slice(2, 5) : values.slice(1, 4); // 38:2:<colour space>:r:g:b
  return rgb.length === 3 && rgb.every((value) => Number.isInteger(value) && value >= 0 && value <= 255) ? hex(...rgb) : undefined;
}

/** One terminal line at a time: write() what comes, line() where it ends. */
export class Terminal {
  #style;
  #href = null; // of the link that is open
  #runs = []; // while nothing was overwritten: [{text, style, href}]
  #cells = null; // once something may be: [[character, style, href]], with holes where nothing was written; "" is the second half of a wide one
  #blank = 0; // so many cells at the beginning hold nothing but what EL has put there
  #column = 0;
  #returned = false; // a CR that nothing has followed yet
  #saved = 0; // the column that was saved
  #moved = 0; // cells that were
  #seen = 0; // up to here the text holds no end of a string
  #held = ""; // a control sequence that is not whole yet
  #known = new Map(); // by style and parameters, the style after them: logs use few, and equal ones are then the same
  #count = 0;

  /** `style` is the one that the lines before left on. */
  constructor(style = PLAIN) {
    this.#style = style;
  }

  /** The style that what follows begins with. */
  get style() {
    return this.#style;
  }

  write(chunk) {
    const text = this.#held + chunk;
    this.#held = "";
    this.#seen = 0;
    let at = 0;
    while (at < text.length) {
      SPECIAL.lastIndex = at;
      const special = SPECIAL.exec(text)?.index ?? text.length;
      if (special > at) this.#put(text.slice(at, special));
      if (special === text.length) return this;
      at = this.#control(text, special);
      if (at === -1) return this;
    }
    return this;
  }

  /** The runs of the line that ends here, [{text, style}], with `href` where they are a link. What was held of a broken sequence is shown without its introducer. */
  line() {
    if (this.#held) {
      const rest = this.#held.replace(/^(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])/, "");
      if (rest !== this.#held) this.#put(rest.replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f]/g, ""));
      this.#held = "";
    }
    const runs = this.#cells ? joined(this.#cells) : this.#runs;
    this.#runs = [];
    this.#cells = this.#href = null;
    this.#blank = this.#column = this.#saved = this.#moved = 0;
    this.#returned = false;
    return runs;
  }

  #put(text) {
    if (!text) return;
    if (this.#returned) this.#toCells();
    if (!this.#cells) {
      const last = this.#runs[this.#runs.length - 1];
      if (last && last.style === this.#style && (last.href ?? null) === this.#href) last.text += text;
      else this.#runs.push(run(text, this.#style, this.#href));
      return;
    }
    this.#blank = Math.min(this.#blank, this.#column);
    for (const character of text) this.#cell(character);
  }

  #cell(character) {
    const cells = this.#cells;
    if (character === "\t") {
      this.#column = (Math.floor(this.#column / TAB) + 1) * TAB;
      return;
    }
    const columns = width(character);
    if (!columns) {
      const before = this.#column - (cells[this.#column - 1]?.[0] === "" ? 2 : 1);
      if (cells[before]) cells[before] = [cells[before][0] + character, cells[before][1], cells[before][2]];
      return;
    }
    this.#split(this.#column);
    this.#split(this.#column + columns);
    cells[this.#column] = [character, this.#style, this.#href];
    if (columns === 2) cells[this.#column + 1] = ["", this.#style, this.#href];
    this.#column += columns;
  }

  /* A wide character that would be cut there becomes blank. */
  #split(column) {
    if (this.#cells[column]?.[0] !== "") return;
    this.#cells[column - 1] = this.#cells[column] = BLANK;
  }

  /* From here on the line is cells: something may be overwritten. */
  #toCells() {
    if (!this.#cells) {
      const [style, href] = [this.#style, this.#href];
      const runs = this.#runs;
      this.#cells = [];
      for (const one of runs) {
        this.#style = one.style;
        this.#href = one.href ?? null;
        for (const character of one.text) this.#cell(character);
      }
      [this.#style, this.#href] = [style, href];
    }
    if (this.#returned) this.#column = 0;
    this.#returned = false;
  }

  #to(column) {
    this.#toCells();
    this.#column = Math.max(0, Math.min(column, Math.max(WIDTH, this.#cells.length)));
  }

  /* Handles what begins at `at`; where to go on, or -1 where all of the rest is held. */
  #control(text, at) {
    const code = text[at];
    if (code === "\r") {
      this.#returned = this.#cells !== null || this.#runs.length > 0; // at the end of a line it draws nothing
    } else if (code === "\b") {
      this.#toCells();
      this.#column = Math.max(0, this.#column - 1);
    } else if (code === ESC) {
      return this.#escape(text, at);
    } else if (code === "\x9b") {
      return this.#sequence(text, at, at + 1);
    } else if (/[\x90\x98\x9d-\x9f]/.test(code)) {
      return this.#string(text, at, at + 1);
    }
    return at + 1;
  }

  #escape(text, at) {
    const kind = text[at + 1];
    if (kind === undefined) return this.#hold(text, at);
    if (kind === "[") return this.#sequence(text, at, at + 2);
    if ("]PX^_".includes(kind)) return this.#string(text, at, at + 2);
    if (kind === "7" || kind === "8") return this.#save(kind === "7", at + 2);
    let end = at + 1; // intermediates, then one final character: ESC ( B
    while (end < text.length && text[end] >= " " && text[end] <= "/" && end - at < LONGEST) end += 1;
    if (end === text.length) return this.#hold(text, at);
    return text[end] >= "0" && text[end] <= "~" ? end + 1 : end;
  }

  /* CSI: parameters, intermediates, a final character. */
  #sequence(text, at, from) {
    let end = from;
    while (end < text.length && text[end] >= " " && text[end] <= "?" && end - at < LONGEST) end += 1;
    if (end === text.length) return this.#hold(text, at);
    const final = text[end];
    if (!(final >= "@" && final <= "~")) return end; // broken: the character counts for itself
    const parameters = text.slice(from, end);
    if (final === "m" && /^[\d;:]*$/.test(parameters)) this.#style = this.#after(parameters);
    else if (final === "K") this.#erase(parameters);
    else if (final === "s" || final === "u") this.#save(final === "s", end);
    else if (/^\d*$/.test(parameters)) this.#move(final, Math.max(1, Number(parameters)));
    return end + 1;
  }

  #save(on, end) {
    this.#toCells();
    if (on) this.#saved = this.#column;
    else this.#to(this.#saved);
    return end;
  }

  /* What moves the cursor, and the cells right of it. */
  #move(final, count) {
    if (!"G`CDXP@".includes(final)) return;
    this.#toCells();
    const column = this.#column;
    if (final === "G" || final === "`") return this.#to(count - 1);
    if (final === "C") return this.#to(column + count);
    if (final === "D") return this.#to(column - count);
    const rest = this.#cells.length - column;
    this.#moved += Math.max(0, rest);
    if (rest <= 0 || this.#moved > MOVED) return undefined;
    this.#split(column);
    this.#split(column + count);
    this.#blank = Math.min(this.#blank, column);
    if (final === "X") this.#cells.fill(BLANK, column, column + count);
    else if (final === "P") this.#cells.splice(column, count);
    else this.#cells.splice(column, 0, ...Array(Math.min(count, WIDTH)).fill(BLANK));
    return undefined;
  }

  #after(parameters) {
    if (parameters === "" || parameters === "0") return PLAIN;
    let known = this.#known.get(this.#style);
    if (!known || this.#count > KNOWN) {
      if (this.#count > KNOWN) [this.#known, this.#count] = [new Map(), 0];
      this.#known.set(this.#style, (known = new Map()));
    }
    let style = known.get(parameters);
    if (!style) {
      known.set(parameters, (style = applied(this.#style, parameters)));
      this.#count += 1;
    }
    return style;
  }

  /* OSC, DCS, SOS, PM, APC: everything up to BEL or ST. */
  #string(text, at, from) {
    for (let end = Math.max(from, this.#seen); end < text.length; end += 1) {
      if (text[end] === "\x07" || text[end] === "\x9c") return this.#said(text, at, from, end, 1);
      if (text[end] === ESC) {
        if (text[end + 1] === undefined) break;
        return this.#said(text, at, from, end, text[end + 1] === "\\" ? 2 : 0); // another sequence ends it
      }
      if (end - at >= LONGEST) {
        this.#seen = end; // who begins within it need not look there again
        return from; // no terminal waits for ever either: the rest is text
      }
    }
    return this.#hold(text, at);
  }

  /* What a string says counts where it is a link's, OSC 8: an address begins it, none ends it. */
  #said(text, at, from, end, ends) {
    if ((text[from - 1] === "]" || text[at] === "\x9d") && text.startsWith("8;", from)) {
      const href = text.slice(text.indexOf(";", from + 2) + 1, end);
      this.#href = href.length <= LONGEST_LINK && isAddress(href) ? href : null;
    }
    return end + ends;
  }

  #erase(parameters) {
    if (!this.#cells && !this.#returned && (parameters === "" || parameters === "0")) return; // nothing is right of the end
    this.#toCells();
    if (parameters === "" || parameters === "0") this.#cells.length = Math.min(this.#cells.length, this.#column);
    else if (parameters === "2") this.#cells.length = 0;
    else if (parameters === "1") {
      const end = Math.min(this.#column + 1, this.#cells.length);
      if (end > this.#blank) this.#cells.fill(BLANK, this.#blank, end);
      this.#blank = Math.max(this.#blank, end);
    }
  }

  #hold(text, at) {
    if (text.length - at > LONGEST) return at + 1;
    this.#held = text.slice(at);
    return -1;
  }
}

function joined(cells) {
  const runs = [];
  for (const [character, style, href] of Array.from(cells, (cell) => cell ?? BLANK)) {
    const last = runs[runs.length - 1];
    if (last && last.style === style && (last.href ?? null) === href) last.text += character;
    else runs.push(run(character, style, href));
  }
  return runs;
}

const run = (text, style, href) => (href === null ? { text, style } : { text, style, href });

const WIDE = /[\p{Emoji_Presentation}\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18aff}\u{1b000}-\u{1b2ff}\u{1f200}-\u{1f265}\u{20000}-\u{3fffd}]/u;
const MARKS = /[\p{Mn}\p{Me}\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u;

/** The columns of a terminal that a character takes: 0, 1 or 2. */
export function width(character) {
  const code = character.codePointAt(0);
  if (code < 0x300) return 1;
  return MARKS.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

const PAIRS = { "(": ")", "[": "]", "{": "}" };
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`\x00-\x1f\x7f-\x9f]+/g;

/** The text in pieces, [{text, href}]: href where it is an http or https address, else undefined. */
export function linked(text) {
  if (!text.includes("://")) return [{ text }];
  const pieces = [];
  let from = 0;
  for (const found of text.matchAll(ADDRESS)) {
    const href = trimmed(found[0]);
    if (!isAddress(href)) continue;
    if (found.index > from) pieces.push({ text: text.slice(from, found.index) });
    pieces.push({ text: href, href });
    from = found.index + href.length;
  }
  if (from < text.length) pieces.push({ text: text.slice(from) });
  return pieces;
}

/* Without what ends the sentence around it, and without a bracket that was opened before it. */
function trimmed(address) {
  const open = Object.fromEntries(Array.from(")]}", (close) => [close, 0])); // of each kind, how many more are opened than closed
  for (const character of address) {
    if (character in PAIRS) open[PAIRS[character]] += 1;
    else if (character in open) open[character] -= 1;
  }
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    if (open[last] < 0) open[last] += 1;
    else if (!".,;:!?".includes(last)) break;
  }
  return address.slice(0, end);
}

function isAddress(text) {
  try {
    return ["http:", "https:"].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}
