/* What went wrong: the run in which an agent says it. Whoever comes first starts it; who comes later reads the same. */

import { Markup } from "./markup.js";
import { newKey, read, Refused, start, stop } from "./run.js";
import { announce, showConnection } from "./shared.js";

const ENDS = {
  finished: "done",
  stopped: "stopped",
  failed: "the agent has failed",
  interrupted: "interrupted: the server was told to end",
  lost: "lost: the process in which the agent worked was killed",
};

const said = document.getElementById("said");
const buttons = { stop: document.getElementById("stop"), again: document.getElementById("again") };
const about = document.getElementById("about");
const { run: runs, build, login, user } = said.dataset;
const text = new Markup(said.firstElementChild, build);
let begun = null; // what the run says of itself

function changed(state, message = "the agent is writing") {
  const going = state === "live" || state === "reconnecting";
  showConnection(state, message);
  said.setAttribute("aria-busy", going);
  buttons.stop.hidden = !going || begun?.by !== user;
}

function over(reason) {
  if (reason === "no_content") return void begin(); // nobody has asked yet
  text.draw();
  changed("ended", ENDS[reason] ?? reason);
  buttons.again.hidden = reason === "finished";
  announce(reason === "finished" ? said.textContent : ENDS[reason]);
}

function begins() {
  begun = null;
  about.textContent = "";
  text.clear();
}

function listen(address) {
  buttons.again.hidden = true;
  const heard = {
    begun(data) {
      begun = JSON.parse(data);
      about.textContent = `asked by ${begun.by}, in process ${begun.process}`;
      changed("live");
    },
    token: (data) => text.add(data),
  };
  read(address, { heard, begins, over, changed, login });
}

async function begin() {
  try {
    listen((await start(runs, { key: newKey(), login })).url);
  } catch (error) {
    changed("refused", error instanceof Refused ? error.told : "The server cannot be reached; reload to try again.");
  }
}

buttons.stop.addEventListener("click", () => {
  stop(`${runs}${begun.run}/`, login).catch((error) => changed("live", error.told ?? "it could not be stopped: try again"));
});
buttons.again.addEventListener("click", begin);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !buttons.stop.hidden) buttons.stop.click();
});

listen(runs);
