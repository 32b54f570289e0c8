/* Keys, as the sheet of panel.js names them: in the viewer, and for the first one of a page also where nothing has the focus. */

const TYPED = "input:not([type=checkbox], [type=radio], [type=button], [type=submit]), textarea, select, [contenteditable]";
const isEditable = (target) => target instanceof Element && target.closest(TYPED) !== null; // a checkbox keeps the focus for a moment after its dialog is gone

/** Act on a key. `log`: the parts of log.js; `actions`: what they do, by name. */
export function press(event, log, actions) {
  const { element, panel, prefs, draw, rows, navigation, finder, following } = log;
  const active = /** @type {any} */ (document.activeElement);
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || panel.isBusy || isEditable(event.target)) return;
  const own = element.contains(active);
  if (event.key === "Escape" && (own || active === document.body)) actions.escape();
  const inView = own && rows.view.contains(active);
  const act = (does) => {
    event.preventDefault();
    does();
  };
  const toTop = () => {
    navigation.stay();
    rows.toTop();
  };
  const always = { End: () => log.follow(true), Home: toTop };
  if (inView && Object.hasOwn(always, event.key)) return act(always[event.key]);
  if (event.key === "Enter" && inView && event.shiftKey && active.classList.contains("sl-n")) return act(() => navigation.link(active.closest(".sl-line").key, true));
  if (!prefs.keys || !(own || (active === document.body && draw.anchors))) return;
  const keys = {
    "/": () => panel.query.focus(), n: () => finder.step(1), N: () => finder.step(-1), e: () => finder.stepError(1), E: () => finder.stepError(-1),
    f: () => log.follow(!following.on), t: actions.times, w: actions.wrap, z: actions.foldAll, m: actions.fill,
    "?": () => panel.keys.showModal(), G: () => log.follow(true), l: () => panel.jump.showModal(), j: () => navigation.move(1), k: () => navigation.move(-1),
    g: () => {
      log.follow(false, false);
      toTop();
    },
  };
  if (Object.hasOwn(keys, event.key)) act(keys[event.key]);
}
