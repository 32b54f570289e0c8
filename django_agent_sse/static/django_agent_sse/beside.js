/* What a row says beside its text: its number, how deep it stands, its time, the title of a group, and what the reader is after. */

/** {number, depth, title, open, took, foldLabel, classes, time} of a place, as draw.js wants it. `log`: the parts of log.js; `tools`: {pageOf,
    lineOf} of pages.js, {nameOf} of folds.js. */
export function beside(key, log, { pageOf, lineOf, nameOf }) {
  const { pages, folds, order, navigation, words } = log;
  const number = pages.number(key);
  const group = order.filtered ? null : folds.titled(key);
  let depth = 0;
  for (let around = folds.around(key); around; around = around.parent) depth += 1;
  const classes = marksOf(key, log, pageOf(key), lineOf(key));
  if (navigation.names(number)) classes.push("sl-target");
  const about = { number, depth, title: group !== null, open: false, took: "", foldLabel: "", classes, time: timeOf(pages.entry(key), log) };
  if (group) {
    const { t, duration } = words;
    classes.push("sl-title", ...(group.failed || group.errors ? ["sl-failed"] : []), ...(group.over ? ["sl-over"] : []));
    about.open = folds.isOpen(group);
    about.took = !group.over ? t("running") : group.duration === null ? "" : duration(group.duration);
    about.foldLabel = t("Group {name}", { name: nameOf(group) });
  }
  return about;
}

function marksOf(key, { pages, finder, order, navigation, panel }, index, line) {
  const { find } = finder;
  const classes = [];
  if (key === navigation.current) classes.push("sl-current");
  if (find.sought && find.has(index, line)) classes.push("sl-hit");
  if (order.filtered) {
    const before = pages.all[index - 1];
    const isNext = line ? find.shows(pages.all[index], line - 1, panel.sought.around) : find.shows(before, (before?.count ?? 0) - 1, panel.sought.around);
    if (!isNext) classes.push("sl-gap"); // lines between are left out
  }
  return classes;
}

function timeOf(entry, { prefs, words, outcome }) {
  if (prefs.times === "off" || entry?.at == null) return "";
  return prefs.times === "clock" ? words.time(new Date(entry.at * 1000)) : `+${words.duration(Math.max(0, entry.at - (outcome.started ?? entry.at)))}`;
}
