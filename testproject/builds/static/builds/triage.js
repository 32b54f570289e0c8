/* What the agent says, as it arrives: headings, lists, `code`, and #L24 for a line of the log. Text goes in as text, never as markup. */

import { follow, make, showConnection } from "./shared.js";

const said = document.getElementById("said");
const stop = document.getElementById("stop");
const more = document.getElementById("more");
let text = "";
let stream = null;
let frame = 0;

function inline(line) {
  return line.split(/(`[^`]*`|#L\d+)/).map((part) => {
    if (/^#L\d+$/.test(part)) return make("a", { href: said.dataset.build + part }, `line ${part.slice(2)}`);
    return /^`.*`$/.test(part) ? make("code", {}, part.slice(1, -1)) : part;
  });
}

function render() {
  frame = 0;
  const blocks = [];
  for (const line of text.split("\n").filter(Boolean)) {
    const [, mark, rest] = line.match(/^(## |- )?(.*)$/);
    if (mark === "- " && blocks.at(-1)?.tagName !== "UL") blocks.push(make("ul"));
    const element = make({ "## ": "h2", "- ": "li" }[mark] ?? "p", {}, ...inline(rest));
    if (mark === "- ") blocks.at(-1).append(element);
    else blocks.push(element);
  }
  said.replaceChildren(...blocks);
}

function changed(state, message) {
  const going = state === "live" || state === "reconnecting";
  showConnection(state, message);
  said.setAttribute("aria-busy", going);
  stop.hidden = !going;
}

function listen() {
  more.hidden = true;
  const { stream: address, login } = said.dataset;
  stream = follow({ address, login, live: "the agent is writing", changed });
  stream.addEventListener("open", () => { text = ""; }); // after a broken connection the agent begins anew
  stream.addEventListener("token", (event) => {
    text += event.data;
    frame ||= requestAnimationFrame(render);
  });
  stream.addEventListener("complete", () => {
    stream.close();
    render();
    changed("ended", "done");
  });
}

stop.addEventListener("click", () => {
  stream.close();
  changed("ended", "stopped");
  more.hidden = false;
});
more.addEventListener("click", listen);

listen();
