/* Tell who looks elsewhere that a log is over, once: the title, the icon of the tab, and where it was asked for a notification. */

const MARKS = { good: "✓", bad: "✗", other: "■" };
const COLOURS = { good: "#1a7f37", bad: "#cf222e", other: "#9a6700" };
const ICON = (tone) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const context = canvas.getContext("2d");
  context.fillStyle = COLOURS[tone];
  context.beginPath();
  context.arc(16, 16, 15, 0, 2 * Math.PI);
  context.fill();
  context.strokeStyle = "#fff";
  context.lineWidth = 4;
  context.beginPath();
  const lines = tone === "good" ? [[9, 17, 14, 22, 23, 11]] : tone === "bad" ? [[10, 10, 22, 22], [22, 10, 10, 22]] : [[10, 16, 22, 16]];
  for (const [x, y, ...rest] of lines) {
    context.moveTo(x, y);
    for (let at = 0; at < rest.length; at += 2) context.lineTo(rest[at], rest[at + 1]);
  }
  context.stroke();
  return canvas.toDataURL("image/png");
};

export class Finish {
  #told = false;
  #asked = false; // a notification is wanted

  get canNotify() {
    return "Notification" in window && window.isSecureContext && Notification.permission !== "denied";
  }

  get wanted() {
    return this.#asked;
  }

  /** Ask the reader's browser for leave; whether a notification will come. */
  async ask(on) {
    this.#asked = on && (Notification.permission === "granted" || (await Notification.requestPermission()) === "granted");
    return this.#asked;
  }

  /** The log is over: `tone` is "good", "bad" or "other", `title` and `text` are for the notification. */
  tell(tone, title, text) {
    if (this.#told) return;
    this.#told = true;
    document.title = `${MARKS[tone]} ${document.title}`;
    this.#showIcon(tone);
    if (!this.#asked || (document.visibilityState === "visible" && document.hasFocus())) return;
    const notification = new Notification(`${MARKS[tone]} ${title}`, { body: text, tag: location.href });
    notification.addEventListener("click", () => {
      window.focus();
      notification.close();
    });
  }

  #showIcon(tone) {
    const icons = [...document.querySelectorAll("link[rel~=icon]")];
    for (const icon of icons) icon.remove();
    const link = document.createElement("link");
    Object.assign(link, { rel: "icon", type: "image/png", href: ICON(tone) });
    document.head.append(link);
  }
}
