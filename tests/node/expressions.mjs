/* Every regular expression in the package's JavaScript, found in its source by a parser. */

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { parse } from "acorn";

const files = readdirSync(process.env.STATIC).filter((name) => name.endsWith(".js")).sort();

function* nodes(tree) {
  if (Array.isArray(tree)) {
    for (const one of tree) yield* nodes(one);
  } else if (tree && typeof tree.type === "string") {
    yield tree;
    for (const value of Object.values(tree)) if (typeof value === "object") yield* nodes(value);
  }
}

/** Of each file: what stands in it, "file.js: /…/flags", or the call that makes one. */
export const expressions = files.flatMap((file) => {
  const source = readFileSync(join(process.env.STATIC, file), "utf8");
  const found = [];
  for (const node of nodes(parse(source, { ecmaVersion: "latest", sourceType: "module" }))) {
    if (node.regex) found.push({ file, name: `${file}: ${node.raw}`, expression: new RegExp(node.regex.pattern, node.regex.flags) });
    else if (["NewExpression", "CallExpression"].includes(node.type) && /(^|\.)RegExp$/.test(source.slice(node.callee.start, node.callee.end))) {
      found.push({ file, name: `${file}: ${source.slice(node.start, node.end)}`, expression: null });
    }
  }
  return found;
});
