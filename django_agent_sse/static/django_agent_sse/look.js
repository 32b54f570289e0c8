/* How the runs of a line look in a page: in pieces that are text, links or marks, and in colours that can be read. Pure: no DOM.

   The text of the pieces, one after the other, is the text of the line, so that what is selected is what was printed. A mark only
   says what is seen in its place. */

const CONTRAST = 4.5; // of WCAG 2, between text and ground: what terminals call the minimum contrast
const THEMES = [{ ground: "#ffffff", text: "#1f2328" }, { ground: "#1e1e1e", text: "#e6edf3" }]; // light and dark: the least favourable grounds
/* Of the sixteen colours: text on a ground of its own, and grounds. Text on the page's ground has its colours from log.css. */
const INKS = ["#000000", "#cd3131", "#0dbc79", "#e5e510", "#2472c8", "#bc3fbc", "#11a8cd", "#e5e5e5", "#666666", "#f14c4c", "#23d18b", "#f5f543", "#3b8eea", "#d670d6", "#29b8db", "#ffffff"];
const GROUNDS = ["#24292f", "#b3261e", "#11693a", "#f2cc60", "#1558b0", "#8a2a8c", "#0f6674", "#eaeef2"];

/* What is seen as nothing, or turns what is around it: joiners too, where they do not join emoji or letters of scripts that need them. */
const UNSEEN = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/u;
const JOINERS = /[\u200c\u200d]/;
const JOINED = /[\p{Extended_Pictographic}\u{1f3fb}-\u{1f3ff}\ufe0f\p{Script=Arabic}\p{Script=Syriac}\p{Script=Mongolian}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Gujarati}\p{Script=Gurmukhi}\p{Script=Kannada}\p{Script=Khmer}\p{Script=Malayalam}\p{Script=Oriya}\p{Script=Sinhala}\p{Script=Tamil}\p{Script=Telugu}]/u;
const CODES = { "%0A": "\n", "%0D": "", "%25": "%" };
const CODE = /%(?:0A|0D|25)/;

/** The runs of a line in pieces, [{text, style}]: with `href`, a link; with `mark`, "marker" (of a group), "command" (of an annotation,
    of which the message alone is read), "code" or "unseen", for which `shown` is seen. `command` and `level` as the line has them, `linked` of sgr.js. */
export function pieces(runs, linked, { command = null, level = null } = {}) {
  const found = [];
  let passed = 0;
  for (const { text, style, href } of runs) {
    const end = passed + text.length;
    const [from, to] = command ? [clamp(command[0], passed, end), clamp(command[1], passed, end)] : [passed, passed];
    const parts = [[text.slice(0, from - passed), false], [text.slice(from - passed, to - passed), true], [text.slice(to - passed), false]];
    for (const [part, isCommand] of parts) {
      if (!part) continue;
      if (isCommand) found.push({ text: part, style, mark: level ? "command" : "marker", shown: "" });
      else for (const piece of seen(part, level !== null && command !== null && end > command[1])) found.push(...dressed(piece, style, href, linked));
    }
    passed = end;
  }
  return found;
}

const clamp = (value, from, to) => Math.min(Math.max(value, from), to);

function dressed(piece, style, href, linked) {
  if (piece.mark) return [{ ...piece, style }];
  if (href) return [{ text: piece.text, style, href }];
  return linked(piece.text).map(({ text, href: address }) => (address ? { text, style, href: address } : { text, style }));
}

/* Text, and what is seen in place of what cannot be. */
function seen(text, coded) {
  if (!UNSEEN.test(text) && !(coded && CODE.test(text))) return [{ text }];
  const found = [];
  let plain = "";
  const mark = (part, name, shown) => {
    if (plain) found.push({ text: plain });
    plain = "";
    found.push({ text: part, mark: name, shown });
  };
  for (let at = 0; at < text.length; ) {
    const code = coded && text[at] === "%" ? text.slice(at, at + 3) : "";
    const character = String.fromCodePoint(text.codePointAt(at));
    if (Object.hasOwn(CODES, code)) mark(code, "code", CODES[code]);
    else if (UNSEEN.test(character) && !joins(text, at, character)) mark(character, "unseen", `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
    else plain += character;
    at += code in CODES ? code.length : character.length;
  }
  if (plain) found.push({ text: plain });
  return found;
}

function joins(text, at, character) {
  if (!JOINERS.test(character) || at === 0 || at + 1 >= text.length) return false;
  const low = text.charCodeAt(at - 1);
  const before = String.fromCodePoint(text.codePointAt(low >= 0xdc00 && low <= 0xdfff && at > 1 ? at - 2 : at - 1));
  return JOINED.test(before) && JOINED.test(String.fromCodePoint(text.codePointAt(at + 1)));
}

/** The colours of a style where classes do not have them: {color, background} as CSS, for light and dark; background is null for the page's. null for none. */
export function paint({ fg, bg, inverse }) {
  const own = typeof fg === "string" || typeof bg === "string" || (fg !== null && bg !== null) || (inverse && (fg !== null || bg !== null));
  if (!own) return null;
  const [light, dark] = THEMES.map(({ ground, text }) => {
    const [ink, behind] = inverse ? [groundOf(bg) ?? ground, inkOf(fg) ?? text] : [inkOf(fg) ?? text, groundOf(bg) ?? ground];
    return [readable(ink, behind), behind];
  });
  const both = (at) => (light[at] === dark[at] ? light[at] : `light-dark(${light[at]}, ${dark[at]})`);
  return { color: both(0), background: bg !== null || inverse ? both(1) : null };
}

const inkOf = (colour) => (typeof colour === "number" ? INKS[colour] : colour);
const groundOf = (colour) => (typeof colour === "number" ? GROUNDS[colour % 8] : colour);
const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

function luminance(hex) {
  const [red, green, blue] = channels(hex).map((value) => (value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** The contrast of two colours, "#rrggbb", as WCAG 2 counts it: 1 to 21. */
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** A colour that can be read on a ground: itself, or as much lighter or darker as that takes. */
export function readable(ink, ground, least = CONTRAST) {
  if (contrast(ink, ground) >= least) return ink;
  const end = contrast("#ffffff", ground) >= contrast("#000000", ground) ? 255 : 0;
  const mixed = (part) => `#${channels(ink).map((value) => Math.round(value + (end - value) * part).toString(16).padStart(2, "0")).join("")}`;
  let [low, high] = [0, 1];
  for (let step = 0; step < 8; step += 1) {
    const middle = (low + high) / 2;
    if (contrast(mixed(middle), ground) >= least) high = middle;
    else low = middle;
  }
  return mixed(high);
}
