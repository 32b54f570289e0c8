"use strict";

/* Colours of a terminal as elements with classes (sgr.css). Text never becomes markup. 16 colours, bold, dim, italic, underline;
   every other control sequence is dropped. */

const CONTROL = /\x1b\[([\d;:]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]?/g;
const STYLES = { 1: "bold", 2: "dim", 3: "italic", 4: "underline" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"] };

/* The nodes of one line. `state` is a Map that goes on from line to line: new Map() at the beginning. */
function sgr(state, text) {
  if (!text.includes("\x1b") && !state.size) return [document.createTextNode(text)];
  const nodes = [];
  let from = 0;
  const put = (to) => {
    if (to <= from) return;
    const piece = document.createElement("span");
    piece.className = [...state.values()].join(" ");
    piece.textContent = text.slice(from, to);
    nodes.push(piece);
  };
  for (const found of text.matchAll(CONTROL)) {
    put(found.index);
    from = found.index + found[0].length;
    if (found[2] === "m") apply(state, found[1]);
  }
  put(text.length);
  return nodes;
}

function apply(state, parameters) {
  const codes = parameters.split(";").map(Number);
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (!code) state.clear();
    else if (STYLES[code]) state.set(STYLES[code], STYLES[code]);
    else if (ENDS[code]) ENDS[code].forEach((style) => state.delete(style));
    else if (code >= 30 && code <= 37) state.set("colour", `colour-${code - 30}`);
    else if (code >= 90 && code <= 97) state.set("colour", `colour-${code - 82}`);
    else if (code === 39) state.delete("colour");
    else if (code === 38 || code === 48) at += codes[at + 1] === 5 ? 2 : 4; // 256 and true colours: dropped with their numbers
  }
}
