/* Patterns are tried here, where one that explodes stops nothing else: who asks ends this worker after a while. No imports.

   Asked {id, source, flags, lines: [text], ranges}; answers {id, counts: [matches of each line]}, and with `ranges`
   {id, ranges: [[[from, to]] of each line]}; {id, slow: true} where the engine gave up by itself, as Firefox's does. */

const ranges = (expression, text) => {
  const found = [];
  for (const match of text.matchAll(expression)) if (match[0]) found.push([match.index, match.index + match[0].length]);
  return found;
};

self.addEventListener("message", ({ data: { id, source, flags, lines, ranges: wanted } }) => {
  try {
    const expression = new RegExp(source, flags);
    const all = lines.map((text) => ranges(expression, text));
    self.postMessage(wanted ? { id, ranges: all } : { id, counts: all.map((found) => found.length) });
  } catch {
    self.postMessage({ id, slow: true });
  }
});
self.postMessage({ id: 0 }); // it is there
