/* What failed, each failure once. A test runner tells of one again and again: as it runs, with its details, in a summary, as a total;
   and the build that fails for it says so as well. Pure: no DOM.

   Every way in which a runner tells of a failure is a form. Between two totals it has as many failures as lines of the form that has
   most: so none is missed where a form is switched off, and none counts twice where all are on. What is in no form stands for itself,
   and so does an annotation (`::error file=a.py,line=1::`), unless another failure names the same line of the same file. */

const BACK = 200; // lines of a traceback that are looked back over
const CHAIN = 25; // lines between totals that tell of the same failures: of a runner, of make, of the job
const MOST = 50_000; // lines that are errors: those beyond them stand for themselves
const TOTAL = "total";
const AGAIN = "again"; // what follows was told of before
const MORE = "more"; // of what stands above
const EXCEPTION = "exception";
const ANNOTATION = "annotation";
const LOOKED_FOR = 100; // failures of a page whose places are looked for in the lines about them
const EXPLAINED = ["unittest", "js", "ruby"]; // runners whose details end with an exception

/** [form, expression of the text as it is read, whether it is what a reader looks for]: the first that matches decides. A form begins
    with its runner.
    @type {[string, RegExp, boolean?][]} */
export const FORMS = [
  // what a runner says before it tells of failures, of which there may be more
  ["js: count", /^[ \t]*[1-9][0-9]{0,6} failing$/],
  ["phpunit: count", /^There (?:was|were) [1-9][0-9]{0,6} failures?:$/],
  ["gradle: task", /^> Task .{1,300} FAILED$/],
  [AGAIN, /^(?:✖ failing tests:|Failed examples:|The following tests FAILED|=== Failed$| +Summary \[)/],
  // the end of a run of tests, of a build, of a job
  [TOTAL, /^[=*!> \t-]{0,200}(?:✖ )?(?:Tests?:? |Test Suites: |Test Files |Found |Interrupted: |[0-9]{1,7} warnings? and )?[ \t]{0,40}[1-9][0-9]{0,6} (?:failed|failing|failures?|errors?|problems?)\b/],
  [TOTAL, /^[= \t]*(?:(?:Tests?(?: run)?:|DONE) [0-9]{1,7}(?: tests)?, |[0-9]{1,7} (?:examples?|runs?|tests?|specs?|passed|passing|skipped)\b)/],
  [TOTAL, /^[ \t]*(?:FAILED \((?:failures|errors)=|FAILURES!$|test result: FAILED|Result: FAIL|FAIL(?:[ \t]+[^ \t]+[ \t]+[0-9.]+s)?[ \t]*$|Failed!  - |[0-9]{1,3}% tests passed|Failed test:|Failed [0-9]+\/[0-9]+ subtests|Non-zero exit status)/],
  [TOTAL, /^(?:# Looks like you |[#ℹ] fail |Test Suite |(?:FAILURE: |✗ )?(?:BUILD|Build) (?:FAILED|failed)|error during build|nox > Session )/],
  [TOTAL, /^(?:[^ ]{0,80}make(?:\[[0-9]{1,4}\])?: \*\*\* |ninja: (?:build stopped|fatal)|collect2: error: ld returned|error: (?:could not compile |test failed, to rerun)|(?:ERROR: )?failed to solve: |rsync error: )/],
  [TOTAL, /^(?:(?:##\[error\]|::error::)?(?:ERROR: |🚨 Error: )?(?:Job failed|Process completed with|The command exited with|Command .{1,200} failed)|[^ ]{1,200} +: ok=[0-9]{1,7} )/],
  [TOTAL, /^error: test run failed|^\[error\] (?:Failed(?: tests)?: |\(.{1,100}\) sbt\.)|^\[info\] \*\*\* |^[0-9]{1,7} files? inspected, |^webpack .{1,40}compiled with |^Automatic merge failed|^-- Configuring incomplete/],
  [TOTAL, /^(?:[0-9:]{4,8} [+0-9 ~-]{1,30}: )?(?:All |Some |[0-9]{1,7} (?:of [0-9]{1,7} )?)?(?:[Tt]ests?|[Cc]hecks?|[Ss]pecs?|[Ss]uites?) failed[.!]?$/],
  [TOTAL, /\bexit(?:ed)?(?:(?: with)?[ -](?:code|status|value)[:=]?| with) [1-9][0-9]{0,2}[.)\]'"]{0,3}$/],
  [MORE, /^[ \t|+]*(?:Caused by: |#   Failed test|ExceptionGroup: )|^INFO: Build completed, /],
  ["pytest: test", /^(?:[^ ]{1,300}::[^ ]{1,300}|\[gw[0-9]{1,4}\] \[[ 0-9]{1,4}%\]) (?:FAILED|ERROR)\b/],
  ["pytest: details", /^E {2,}/, true],
  ["pytest: place", /^[^ \t]{1,300}:[0-9]{1,7}: (?:Failure$|FAILED:|Failed\b|[\w.]{0,200}(?:Error|Exception)\b)/],
  ["pytest: summary", /^(?:FAILED|ERROR) [^ ]{1,300}(?:::|\.py\b)/],
  ["unittest: test", /^\w{1,200} \([\w.]{1,300}\) \.\.\. (?:FAIL|ERROR)$/],
  ["unittest: details", /^(?:FAIL|ERROR): \w{1,200} \(/, true],
  ["go: test", /^--- FAIL: /, true],
  ["go: summary", /^=== FAIL: /, true],
  ["go: part of a test", /^[ \t]+--- FAIL: /],
  ["cargo: test", /^test .{1,300} \.\.\. FAILED$/],
  ["cargo: details", /^thread .{1,200} panicked at /, true],
  ["nextest: test", /^ +(?:FAIL|TIMEOUT|ABORT|SIGSEGV|SIGABRT) \[ *[0-9.]{1,12}s\] /, true],
  ["js: test", /^[ \t]*[✕✖✗✘×][ \t]/],
  ["js: file", /^[ \t]*FAIL  [^>]{1,300}$/],
  ["js: details of Jest", /^[ \t]*● .{1,300} › /, true],
  ["js: details of Playwright", /^ +[0-9]{1,5}\) \[[\w -]{1,40}\] › /, true],
  ["js: details of Vitest", /^[ \t]*FAIL  [^>]{1,300} > /, true],
  ["TAP: test", /^[ \t]*not ok\b/],
  ["phpunit: details", /^[ \t]*Failed asserting that /, true],
  ["ruby: summary", /^rspec [^ ]{1,300}:[0-9]/],
  ["ruby: details", /^[ \t]*(?:[0-9]{1,6}\) (?:Failure|Error):$|Failure\/Error: |Assertion .{1,200} failed$)/, true],
  ["ctest: test", /\*\*\*(?:Failed|Exception|Timeout)\b/],
  ["ctest: summary", /^[ \t]+[0-9]{1,6} - .{1,300} \((?:Failed|Timeout|SEGFAULT|Not Run)\)/],
  ["scala: test", /^\[info\] .{0,300}\*\*\* FAILED \*\*\*/, true],
  ["dart: test", /^[0-9:]{4,8} .{1,400} \[E\]$/, true],
  ["dotnet: test", / \[FAIL\]$/],
  ["dotnet: details", /^[ \t]*Failed [^ ]{1,300} \[/, true],
  ["swift: test", /^Test Case .{1,300} failed \(/],
  ["swift: details", /: error: [\w.]{1,200} : /, true],
  ["bazel: test", /^FAIL: \/\//, true],
  ["bazel: summary", /^\/\/[^ ]{1,300} {1,200}FAILED in /],
  ["gradle: test", /^[\w ]{1,100} > .{1,200} FAILED$/, true],
  ["ansible: task", /^\[ERROR\]: Task failed/],
  ["ansible: details", /^fatal: \[/, true],
  [EXCEPTION, /^[ \t]{1,16}Error: [^ ]/, true],
  [EXCEPTION, /^[ \t]*(?:[A-Za-z_]\w{0,80}(?:[.$]|::)){0,12}(?:[A-Z]\w{0,80}(?:Error|Exception|Interrupt|Exit|Expired)|DoesNotExist)\b/, true],
];
/* Lines that go on with what the line above them says. */
const FURTHER = [/^E {2,}/, /^npm (?:error|ERR!)/, /^\[error\] /];
const HEAD = /^[ \t|+]*(?:Exception Group )?Traceback \(/;
const CHAINED = /^(?:During handling of the above exception|The above exception was the direct cause)/;
const COMMAND = /^(?:::error(?: .{0,400}?)?::|##\[error\])/;
const KNOWN = new Set(FORMS.filter(([, , sought]) => sought).map(([form]) => form));

/** The form of a line that is an error; null where it stands for itself. */
export function formOf(text) {
  return FORMS.find(([, expression]) => expression.test(text))?.[0] ?? null;
}

export class Failures {
  #pages;
  #tools;
  #items = []; // by page, [{line, form, place}] of its errors
  #versions = []; // by page, which of it they are of
  #keys = null; // of what failed, in order
  #known = new Set(); // those keys

  /** `tools`: {keyOf} of pages.js, {shownOf, placeNear} of levels.js. */
  constructor(pages, tools) {
    this.#pages = pages;
    this.#tools = tools;
  }

  /** A page came, or has more lines. */
  note(page) {
    const version = `${page.version} ${page.cuts}`;
    if (!page.entries || this.#versions[page.index] === version) return;
    this.#versions[page.index] = version;
    const items = [];
    let looks = LOOKED_FOR;
    page.entries.forEach(({ severity }, line) => {
      if (severity !== "error") return;
      const form = this.#formAt(page, line);
      const seeks = ![TOTAL, AGAIN, MORE].includes(form) && (looks -= 1) >= 0;
      items.push({ line, form, place: seeks ? this.#tools.placeNear((by) => this.#above(page.index, line, -by)?.text) : null });
    });
    if (items.length || this.#items[page.index]?.length) this.#keys = null;
    this.#items[page.index] = items;
  }

  /** Where they are told of, each once and where most is said, in the order of the log: of the pages that were read. */
  get keys() {
    if (this.#keys) return this.#keys;
    const run = new Run((key) => this.#pages.number(key));
    this.#items.forEach((items, index) => {
      for (const { line, form, place } of items) run.take(form, this.#tools.keyOf(index, line), place);
    });
    this.#keys = run.found();
    this.#known = new Set(this.#keys);
    return this.#keys;
  }

  get count() {
    return this.keys.length;
  }

  /** Whether a line is one of them. */
  has(key) {
    return this.keys.length > 0 && this.#known.has(key);
  }

  /** Whether a page was read. */
  knows(index) {
    return this.#items[index] !== undefined;
  }

  /* What stands `by` lines above, or below where it is negative; undefined where that is not held. */
  #above(index, line, by) {
    let at = line - by;
    for (; at < 0; at += this.#pages.all[index].entries.length) {
      index -= 1;
      if (!this.#pages.all[index]?.entries) return undefined;
    }
    for (; at >= this.#pages.all[index].entries.length; index += 1) {
      at -= this.#pages.all[index].entries.length;
      if (!this.#pages.all[index + 1]?.entries) return undefined;
    }
    return this.#pages.all[index].entries[at];
  }

  #formAt({ entries, index }, line) {
    const at = (by) => this.#above(index, line, by);
    const textAt = (by) => this.#tools.shownOf(at(by)?.text ?? "");
    const { event, level } = entries[line];
    if (level) return at(1)?.level === level && at(1).event === event ? MORE : null; // of one record
    const text = textAt(0);
    if (FURTHER.some((expression) => expression.test(text) && expression.test(textAt(1)))) return MORE;
    const command = COMMAND.exec(text);
    if (command) return formOf(text) ?? formOf(text.slice(command[0].length)) ?? ANNOTATION;
    const form = formOf(text);
    return form === EXCEPTION && isLogged(at, textAt) ? MORE : form;
  }
}

/* Whether the traceback that ends here stands under an error that was logged with it, or goes on another one. */
function isLogged(at, textAt) {
  for (let by = 1; by < BACK && at(by); by += 1) {
    if (!HEAD.test(textAt(by))) continue;
    let above = by + 1;
    while (above < by + 4 && at(above) && textAt(above).trim() === "") above += 1;
    return CHAINED.test(textAt(above)) || (at(above)?.severity === "error" && ![TOTAL, EXCEPTION].includes(formOf(textAt(above))));
  }
  return false;
}

/* Reads the lines that are errors one after the other. */
class Run {
  #keys = []; // of failures that are done with
  #here = new Map(); // by runner, the failures since the last total, {key, known}
  #counts = new Map(); // by form, since then
  #runner = ""; // the last one
  #others = 0; // since then, in no form
  #total = -Infinity; // the number of the last one
  #again = -Infinity; // the number of the line after which all is told again
  #read = 0;
  #annotations = []; // {key, place}
  #places = new Map(); // by a file's last name and a line, the files that failures name
  #number;

  /** `number` of a key. */
  constructor(number) {
    this.#number = number;
  }

  take(form, key, place) {
    this.#read += 1;
    if (form === ANNOTATION) return void this.#annotations.push({ key, place });
    if (place) this.#name(place);
    if (form !== null && form !== TOTAL && this.#again > -Infinity && this.#number(key) - this.#again < BACK) return;
    if (form === EXCEPTION && EXPLAINED.includes(this.#runner)) form = `${this.#runner}: exception`;
    if (form === null || form === EXCEPTION || this.#read > MOST) {
      this.#others += 1;
      this.#keys.push(key);
    } else if (form === AGAIN) {
      if (this.#total > -Infinity || this.#here.size) this.#again = this.#number(key);
    } else if (form === TOTAL) {
      this.#end(key, this.#number(key));
    } else if (form !== MORE) {
      this.#tell(form, key);
    }
  }

  #tell(form, key) {
    [this.#runner] = form.split(":");
    if (!this.#here.has(this.#runner)) this.#here.set(this.#runner, []);
    const failures = this.#here.get(this.#runner);
    const count = (this.#counts.get(form) ?? 0) + 1;
    this.#counts.set(form, count);
    const known = KNOWN.has(form) || form.endsWith(EXCEPTION);
    const told = failures[count - 1];
    if (!told) failures.push({ key, known });
    else if (known && !told.known) Object.assign(told, { key, known });
  }

  #end(key, number) {
    if (!this.#here.size && !this.#others && number - this.#total >= CHAIN) this.#keys.push(key);
    this.#keys.push(...this.#open());
    this.#here.clear();
    this.#counts.clear();
    this.#runner = "";
    this.#others = 0;
    this.#total = number;
    this.#again = -Infinity;
  }

  #open() {
    return [...this.#here.values()].flatMap((failures) => failures.map(({ key }) => key));
  }

  #name(place) {
    const files = this.#places.get(lastOf(place)) ?? new Set();
    this.#places.set(lastOf(place), files.add(place.file));
  }

  #isNamed(place) {
    const within = (one, other) => one === other || one.endsWith(`/${other}`);
    return place !== null && [...(this.#places.get(lastOf(place)) ?? [])].some((file) => within(file, place.file) || within(place.file, file));
  }

  found() {
    const annotated = this.#annotations.filter(({ place }) => !this.#isNamed(place)).map(({ key }) => key);
    return [...this.#keys, ...this.#open(), ...annotated].sort((one, other) => one - other);
  }
}

const lastOf = ({ file, line }) => `${file.slice(file.lastIndexOf("/") + 1)}:${line}`;
