/* Tell who looks elsewhere that a log is over, once: the title, the icon of the tab, and where it was asked for a notification. */

const MARKS = { good: "✓", bad: "✗", other: "■" };
const ICONS = { good: "passed", bad: "failed", other: "ended" };

export class Finish {
  #told = false;
  #asked = false; // a notification is wanted
  #iconOf;

  /** `iconOf(name)`: the address of an icon. */
  constructor(iconOf) {
    this.#iconOf = iconOf;
  }

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

  /** The log is over: `tone` is "good", "bad" or another, `title` and `text` are for the notification. */
  tell(tone, title, text) {
    if (this.#told) return;
    this.#told = true;
    document.title = `${MARKS[tone]} ${document.title}`;
    this.#showIcon(ICONS[tone]);
    if (!this.#asked || (document.visibilityState === "visible" && document.hasFocus())) return;
    const notification = new Notification(`${MARKS[tone]} ${title}`, { body: text, tag: location.href });
    notification.addEventListener("click", () => {
      window.focus();
      notification.close();
    });
  }

  #showIcon(name) {
    for (const icon of document.querySelectorAll("link[rel~=icon]")) icon.remove();
    const link = document.createElement("link");
    Object.assign(link, { rel: "icon", type: "image/svg+xml", href: this.#iconOf(name) });
    document.head.append(link);
  }
}
