/* What scripts say to a reader: the texts of t(), and literals that look like prose and are not among them. Prints JSON.

   node said.mjs FILE…  →  {"file.js": {"texts": [["one", "many" | ""], …], "prose": [[text, line], …], "wrong": [line, …]}} */

import { readFileSync } from "node:fs";
import { basename } from "node:path";

import { parse } from "acorn";

const PROSE = /^[A-Z][a-z]+(?:…|:|\.)?$|[a-z]{2,}[ ,:]+[a-z]{2,}|[A-Z][a-z]+[^<>]* [a-z]{2,}|^(?:Aa|…)$/;
const CODE = /^(?:sl-|mon-|sse-|kv-|[.#[(])|[=>{}()[\]]|^[a-z-]+(?: [a-z]+-[a-z-]+)+$|^[MmLlHhVvAaCcZz\d .,-]+$/;
const FOR_PROGRAMS = /Error$|^(?:closest|matches|querySelector|querySelectorAll|addEventListener|removeEventListener|getAttribute|hasAttribute|toggleAttribute|supports|matchMedia)$/;

const nameOf = (node) => node.property?.name ?? node.name ?? "";

function look(tree, found, said = false) {
  if (Array.isArray(tree)) return tree.forEach((one) => look(one, found, said));
  if (!tree || typeof tree.type !== "string") return undefined;
  let quiet = said;
  if (["CallExpression", "NewExpression"].includes(tree.type)) {
    const name = nameOf(tree.callee);
    if (name === "t") {
      const [message, plural] = tree.arguments;
      if (message?.type !== "Literal" || typeof message.value !== "string") found.wrong.push(tree.loc.start.line);
      else found.texts.push([message.value, plural?.type === "Literal" ? plural.value : ""]);
    }
    quiet ||= name === "t" || FOR_PROGRAMS.test(name) || tree.callee.object?.name === "console" || nameOf(tree.callee.object ?? {}) === "classList";
  }
  if (tree.type === "ThrowStatement" || tree.type === "ImportExpression" || tree.type === "ExportNamedDeclaration" && tree.source) quiet = true;
  const text = tree.type === "Literal" ? tree.value : tree.type === "TemplateElement" ? tree.value.cooked : null;
  if (typeof text === "string" && !quiet && PROSE.test(text.trim()) && !CODE.test(text.trim())) found.prose.push([text, tree.loc.start.line]);
  for (const [name, value] of Object.entries(tree)) if (typeof value === "object" && name !== "loc") look(value, found, quiet);
  return undefined;
}

const all = {};
for (const file of process.argv.slice(2)) {
  const found = (all[basename(file)] = { texts: [], prose: [], wrong: [] });
  look(parse(readFileSync(file, "utf8"), { ecmaVersion: "latest", sourceType: "module", locations: true }), found);
}
console.log(JSON.stringify(all));
