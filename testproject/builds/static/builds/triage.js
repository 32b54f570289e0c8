/* What the agent says, as it arrives: headings, lists, `code`, and #L24 for a line of the log. Text goes in as text, never as markup. */

import { follow } from "./shared.js";

const said = document.getElementById("said");
const connection = document.getElementById("connection");
const stop = document.getElementById("stop");
const more = document.getElementById("more");
let text = "";
let stream = null;
let frame = 0;

function inline(line) {
  return line.split(/(`[^`]*`|#L\d+)/).map((part) => {
    const element = document.createElement(part.startsWith("#L") ? "a" : "code");
    if (/^#L\d+$/.test(part)) {
      element.href = said.dataset.build + part;
      element.textContent = `line ${part.slice(2)}`;
    } else if (/^`.*`$/.test(part)) element.textContent = part.slice(1, -1);
    else return part;
    return element;
  });
}

function render() {
  frame = 0;
  const blocks = [];
  for (const line of text.split("\n").filter(Boolean)) {
    const [, mark, rest] = line.match(/^(## |- )?(.*)$/);
    if (mark === "- " && blocks.at(-1)?.tagName !== "UL") blocks.push(document.createElement("ul"));
    const element = document.createElement({ "## ": "h2", "- ": "li" }[mark] ?? "p");
    element.append(...inline(rest));
    if (mark === "- ") blocks.at(-1).append(element);
    else blocks.push(element);
  }
  said.replaceChildren(...blocks);
}

function show(state, message) {
  const going = state === "live" || state === "reconnecting";
  connection.dataset.state = state;
  connection.replaceChildren(message);
  said.setAttribute("aria-busy", going);
  stop.hidden = !going;
}

function listen() {
  more.hidden = true;
  const { stream: address, login } = said.dataset;
  stream = follow({ address, login, live: "the agent speaks", show });
  stream.addEventListener("open", () => { text = ""; }); // after a broken connection the agent begins anew
  stream.addEventListener("token", (event) => {
    text += event.data;
    frame ||= requestAnimationFrame(render);
  });
  stream.addEventListener("complete", () => {
    stream.close();
    render();
    show("ended", "that is all");
  });
}

stop.addEventListener("click", () => {
  stream.close();
  show("ended", "stopped");
  more.hidden = false;
});
more.addEventListener("click", listen);

listen();
