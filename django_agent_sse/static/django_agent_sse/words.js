/* Words, numbers and times in the language of the page. The server hands its translations over as JSON beside the script's tag
   (script_words.py); what is not among them is said in English, so a page without them needs nothing. */

const GIVEN = "script[data-agent-sse-words]";
const TABLE = 200; // counts whose plural form the server has written down; above them gettext's rules go round in hundreds
const RIGHT_TO_LEFT = /^(?:ar|ckb|dv|fa|he|ks|ps|sd|ug|ur|yi)(?:-|$)/i;
const ISOLATE = ["\u2068", "\u2069"]; // around text of another direction
const LETTER = /\p{L}/u;
const HOLES = /\{(\w+)\}/g;
const STATUSES = (t) => ({
  waiting: t("Waiting"), queued: t("Queued"), pending: t("Pending"), running: t("Running"), started: t("Started"), passed: t("Passed"), succeeded: t("Succeeded"),
  success: t("Success"), completed: t("Completed"), finished: t("Finished"), ended: t("Ended"), failed: t("Failed"), error: t("Error"), lost: t("Lost"),
  timeout: t("Timeout"), cancelled: t("Cancelled"), stopped: t("Stopped"), interrupted: t("Interrupted"), unknown: t("Unknown"),
});

/** What a page, or a part of it that has a language of its own, says things with. */
export function words(element = document.documentElement) {
  const given = [...document.querySelectorAll(GIVEN)].map((script) => JSON.parse(script.textContent));
  return speaker(given, element.closest("[lang]")?.getAttribute("lang") ?? "");
}

/** The same, of what was handed over and the language of a page. */
export function speaker(given = [], pageLanguage = "") {
  const language = [given[0]?.language, pageLanguage].find(isKnown) ?? "en";
  const direction = RIGHT_TO_LEFT.test(language) ? "rtl" : "ltr";
  const numbers = new Intl.NumberFormat(language);
  const tenths = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const twoDigits = new Intl.NumberFormat(language, { minimumIntegerDigits: 2 });
  const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
  const [before, after] = given.length && direction === "rtl" ? ISOLATE : ["", ""];

  /** `t("Search")`, `t("Line {number}", { number })`, and with a plural `t("{count} line", "{count} lines", { count })`.
      Numbers are written as the language writes them; give text where that is not wanted. */
  function t(message, ...rest) {
    const plural = typeof rest[0] === "string" ? rest[0] : null;
    const values = rest[plural === null ? 0 : 1] ?? {};
    return filled(translated(message, plural, values.count), values);
  }

  function translated(message, plural, count) {
    for (const { words: known, rules } of given) {
      if (!Object.hasOwn(known, message)) continue;
      const found = known[message];
      if (plural === null) return found;
      const [rule, ...forms] = found;
      return forms[rules[rule][placeOf(count)]];
    }
    return plural !== null && count !== 1 ? plural : message;
  }

  function filled(text, values) {
    return text.replace(HOLES, (hole, name) => {
      if (!Object.hasOwn(values, name)) return hole;
      const value = values[name];
      if (typeof value === "number") return numbers.format(value);
      return LETTER.test(value) ? `${before}${value}${after}` : value;
    });
  }

  /** A stretch of time: "3.2 s", "1 min 05 s", "2 h 07 min". Cut, not rounded, so that it never says more than has passed. */
  function duration(seconds) {
    if (seconds < 60) return t("{seconds} s", { seconds: tenths.format(Math.floor(seconds * 10) / 10) });
    const minutes = Math.floor(seconds / 60);
    const two = (value) => twoDigits.format(value);
    if (minutes < 60) return t("{minutes} min {seconds} s", { minutes, seconds: two(Math.floor(seconds) % 60) });
    return t("{hours} h {minutes} min", { hours: Math.floor(minutes / 60), minutes: two(minutes % 60) });
  }

  /** How that goes which a log is of, or how it ended: a word that is known in the language, any other as it is. */
  function status(word) {
    const known = STATUSES(t);
    return Object.hasOwn(known, word.toLowerCase()) ? known[word.toLowerCase()] : word.charAt(0).toUpperCase() + word.slice(1);
  }

  return { language, direction, t, status, number: (value) => numbers.format(value), time: (date) => clock.format(date), duration };
}

/** Where a count stands in a rule: a text with a digit, the form's, for each count up to TABLE, and one for whole millions. */
function placeOf(count) {
  const whole = Math.floor(Math.abs(count));
  if (whole < TABLE) return whole;
  return whole % 1_000_000 === 0 ? TABLE : TABLE / 2 + (whole % (TABLE / 2));
}

function isKnown(language) {
  try {
    return Boolean(language) && Intl.NumberFormat.supportedLocalesOf(language).length > 0;
  } catch {
    return false; // not a language at all
  }
}
