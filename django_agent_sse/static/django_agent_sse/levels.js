/* The level of a line, and the place in a file that it names: read as compilers, test runners and loggers write them.

   The same rules stand in wire/levels.py; tests hold them equal. Pure: no DOM. */

export const SEEN = 500; // characters of a line that are looked at: a level stands at the beginning, so that a long line costs no more
const PRINTED = 2000; // characters, control sequences among them, from which those are taken
const LEVELS = {
  error: "emergency emerg alert critical crit fatal fata panic severe error erro err e f a 50 60",
  warning: "warning warn w 40",
  info: "notice info i 30",
  debug: "debug debu trace trac verbose verb d 20 10",
};
const BY_WORD = new Map(Object.entries(LEVELS).flatMap(([level, words]) => words.split(" ").map((word) => [word, level])));
/** A line without any of them, in whatever case, has no level, unless it begins as BARE says. Most lines are done with here. */
export const HINTS = [
  "err", "warn", "info", "debu", "trac", "crit", "emerg", "alert", "fata", "panic", "severe", "notice", "verbose", "::", "##[", "level", "lvl",
  "severity", "fail", "exception", "interrupt", "exist", "exit", "uncaught", "unhandled", "caused by", "undefined", "stopped", "***", "** (",
  "not ok", "rspec", "problem", ".go:", ".py:", "fault", "abort", "killed", "illegal", "not found", "no such", "denied", "permitted", "refused",
  "no space", "allocate", "curl: (", "conflict", "reject", "ok=", "elifecycle", "issue:", ".rb:", "offense", "unable to", "cannot", "[e]", "could not",
  "summary [", "] ›", "expired",
];
const BARE = /^(?:[IWEF][0-9]{4} |[EWew]: |E {2,}|[ \t]*[^ -~\t])/;
const PREFIX = /^(?:#[0-9]{1,6} (?:[0-9.]{1,12} )?)?(?:[\w.-]{1,60} {1,60}\| ?|[ ]{0,16}[│|](?:[ ]{0,16}[│|]){0,8} ?)?/; // of docker build, docker compose, Terraform, groups of Python's exceptions
const CONTROL = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]/g;
const STAMP = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z (?:[0-9]{2}[OE]\+? ?)?/; // what runners put before each line
const SECTION = /section_(?:start|end):[0-9]{1,12}:[\w.-]{1,200}(?:\[[^\]\r]{0,200}\])?\r?\x1b\[0?K/g; // GitLab's markers, which a terminal erases with what stands before them
const PROPERTIES = /^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z )?::[a-z-]{1,30} (.*?)::/s;
const PLACE = /(?:^|[ \t"'`()=,<>|[\]{}:])((?:[A-Za-z]:[/\\])?[^ \t"'`()=,<>|[\]{}:;]{0,300}(?:\.(?:pyi|py|jsx|js|mjs|cjs|tsx|ts|mts|cts|vue|svelte|go|rs|java|kts|kt|scala|groovy|gradle|rb|erb|php|pl|pm|t|exs|ex|erl|hs|cpp|cxx|cc|c|hpp|hh|h|mm|m|swift|csproj|cs|fs|vb|lua|r|R|jl|dart|zig|nim|ml|clj|bash|zsh|sh|ps1|sql|html|scss|css|less|json|yaml|yml|toml|ini|cfg|conf|xml|md|rst|txt|tfvars|tf|hcl|bzl|bazel|cmake|proto|graphql|f90|asm|S|s)|(?:Make|make|Docker|Jenkins|Just|just|Rake|Gem)file|BUILD|WORKSPACE))(?::|:\[|\(|", line | on line |:? line )([0-9]{1,7})\b/;
const ENCODED = [["%0D", "\r"], ["%0A", "\n"], ["%3A", ":"], ["%2C", ","], ["%25", "%"]];
const NUMBER = /^[0-9]{1,7}$/;
const BELOW = 4; // lines below a message that may point to its place
const ABOVE = 8; // lines of a traceback above its exception
const POINTER = /^[ \t]*(?:-->|╭─\[|┌─|at [^ ]|on [^ ]+ line )/;
const FRAME = /^[ \t]*File "/;
const DETAILS = 40; // lines of a failed test's details, in which its place stands
const TEST = /^(?:E {2,}|[ \t]*--- FAIL: |(?:FAIL|ERROR): |[ \t]*● |[ \t]*FAIL  |[ \t]*(?:[✕✖✗✘×]|not ok) |[ \t]*Failure\/Error: )/;
const OF_TEST = /^(?:[^ \t]{1,300}:[0-9]{1,7}: |[ \t]+(?:File "|# \.\/|at [^ ]|❯ [^ ]|[\w./-]{1,300}:[0-9]{1,7}: ))/;
const TRACEBACK = /^[ \t+]*(?:Exception Group )?Traceback \(/;
const SAID = ""; // the level is the one that the line says: the first group that matched
/** [level, expression]: the first that matches decides. null is no level. @type {[string | null, RegExp][]} */
export const RULES = [
  // commands of GitHub and Azure
  [SAID, /^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z )?(?:::([a-z-]{1,30})(?: .*?)?::|##\[([a-z-]{1,30})\])/s],
  // what passed or was not run, and commands that a shell shows
  [null, /^[ \t]*(?:ok\b|(?:not ok\b|✖).*# ?(?:TODO|SKIP|todo|skip)\b|PASS(?:ED)?\b|--- (?:PASS|SKIP)|[✓✔√]|[+]{1,4} |\$ )/s],
  // build tools, which say it at the level of information
  ["error", /^(?:\[INFO\] |\*\* )?[A-Z]{3,12} FAIL(?:ED|URE)\b|^\[info\] .{0,300}\*\*\* (?:[1-9][0-9]{0,6} TESTS? )?FAILED \*\*\*|^INFO: Build completed, [1-9][0-9]{0,6} tests? FAILED/s],
  // headers of loggers
  [SAID, /^[[(]?(?:[A-Z][a-z]{2} [ 0-9][0-9] |[0-9]{1,4}[-/][A-Za-z0-9]{2,3}[-/][0-9]{2,4}[T _:])?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z| ?[+-][0-9]{2}:?[0-9]{2}| UTC)?[\])]?:?[ \t-]*(?:[^ \t]{1,80}[ \t]+){0,4}?(?:[[(<|]?(EMERGENCY|EMERG|ALERT|CRITICAL|CRIT|FATAL|FATA|PANIC|SEVERE|ERROR|ERRO|ERR|WARNING|WARN|NOTICE|INFO|DEBUG|DEBU|TRACE|TRAC|VERBOSE)(?=[\]:|>/,) \t-]|$)|\[(emerg|alert|crit|critical|fatal|error|warning|warn|notice|info|debug|trace)\])/s],
  [SAID, /^[ \t]*(?:[✘▲✖×⚠] )?[[(<|]?[ \t]{0,2}(EMERGENCY|EMERG|ALERT|CRITICAL|CRIT|FATAL|FATA|PANIC|SEVERE|ERROR|ERRO|ERR|WARNING|WARN|NOTICE|INFO|DEBUG|DEBU|TRACE|TRAC|VERBOSE)(?=[\]:|>/) \t[-]|$)(?![\]:=) \t]{1,4}0\b)/s],
  [SAID, /^\[(emerg|alert|crit|critical|fatal|error|warning|warn|notice|info|debug|trace)\][ :]/s],
  [SAID, /^([DIWEFA]), \[[0-9]{4}-/s],
  [SAID, /^([IWEF])[0-9]{4} [0-9:.]{8,15} +[0-9]+ [^ ]{1,200}:[0-9]+\]/s],
  [SAID, /^\{.{0,500}?"(?:level|levelname|log\.level|severity|lvl)" ?: ?"?([A-Za-z]{3,9}|[0-9]{2})\b/s],
  [SAID, /^(?:[\w.]{1,40}=(?:"[^"]{0,200}"|[^ "]{0,200}) ){0,8}(?:level|lvl)="?([A-Za-z]{3,9})\b/s],
  // compilers, linters, package managers
  ["warning", /^.*\(0 errors, [1-9]/s],
  [SAID, /^.{1,300}?:[0-9]{1,7}(?::[0-9]{1,7})?:?(?: -)? (?:(?:fatal|runtime|internal|syntax) )?(error|ERROR|warning|WARNING)(?::|\[| [A-Z]{1,4}[0-9])/s],
  [SAID, /^.{1,300}?\([0-9]{1,7}(?:,[0-9]{1,7}){0,3}\) ?: (?:fatal )?(error|warning) [A-Z]/s],
  ["error", /^(?:vet: )?[\w./@~-]{1,300}\.go:[0-9]{1,7}:[0-9]{1,7}: /s],
  ["error", /^[^ \t]{1,300}\.pyi?:[0-9]{1,7}:[0-9]{1,7}: [EF][0-9]{1,5}[: ]/s],
  ["warning", /^[^ \t]{1,300}\.pyi?:[0-9]{1,7}:[0-9]{1,7}: [A-Z]{1,5}[0-9]{1,5}[: ]/s],
  [SAID, /^ +[0-9]{1,7}:[0-9]{1,7} +(error|warning) /s],
  [SAID, /^(?:(?:npm|lerna|pnpm|yarn) )(ERR|error|WARN|warn|notice|info|verbose)\b/s],
  ["error", /^➤ YN(?:00(?:01|09|16|18|28|35|41|82)|0000: (?:[│└·┌] )?Failed with errors)/s],
  ["warning", /^➤ YN(?:00(?:02|60|86)|0000: (?:[│└·┌] )?Done with warnings)/s],
  ["error", /^[^ \t]{1,300}:[0-9]{1,7}:[0-9]{1,7}: [EF]: (?:\[Correctable\] )?[A-Z]\w{1,40}\//s],
  ["warning", /^[^ \t]{1,300}:[0-9]{1,7}:[0-9]{1,7}: [CRW]: (?:\[Correctable\] )?[A-Z]\w{1,40}\//s],
  [SAID, /^[^ \t]{1,300}:[0-9]{1,7} (?:DL|SC)[0-9]{4} (error|warning|info)\b/s],
  [SAID, /^(?:[\w.+/-]{1,80}: )?(?:PHP )?(?:(?:[Ff]atal|[Ii]nternal|[Pp]arse|[Ss]yntax|[Tt]ype|[Ll]inker|[Rr]untime|rsync) )?(error|Error|fatal|Fatal|warning|Warning)(?:\[[\w:-]{1,60}\])?: (?! *(?:0|null|None|nil|false|~)(?:,|$| ))/s],
  [SAID, /^([EWew]): [^ ]/s],
  ["error", /^(?:[\w-]{1,40}: )?(?:Error (?:from server|response from daemon|in .{1,200}:)|error (?:during|processing|-) |error [A-Z"'])|^\[!\] /s],
  ["warning", /^warning (?:"|[A-Z]|[\w@/.-]{1,80}: )|^\[[A-Z]{4,20} WARNING\]/s],
  [SAID, /^CMake (?:Deprecation )?(Error|Warning)\b/s],
  ["error", /^[^ ]{0,80}make(?:\[[0-9]{1,4}\])?: \*\*\* (?!.*\(ignored\))|^ninja: (?:build stopped|fatal)|^(?:.*: )?undefined reference to /s],
  // exceptions
  ["error", /^[ \t]*(?:Caused by: |Exception in thread |Uncaught |Unhandled[A-Za-z]{0,30}(?: exception)?:|panic: |thread .{1,200} panicked at |\*\* \([A-Z])/s],
  ["error", /^[ \t]*(?:[A-Za-z_]\w{0,80}(?:[.$]|::)){0,12}(?:[A-Z]\w{0,80}(?:Error|Exception|Interrupt|Exit|Expired)|ExceptionGroup|DoesNotExist)\b(?: \[\w{1,60}\])?(?::|[ \t]*$)/s],
  ["error", /^[ \t]{1,16}Error: (?!(?:0|null|none|None|nil|false|~)(?:,|$| ))[^ ]/s],
  ["error", /^[ \t]*(?:[A-Za-z_]\w{0,80}\.){0,12}(?:exceptions?|errors?)\.[A-Z]\w{0,80}:/s],
  ["error", /^[^ \t]{1,300}:[0-9]{1,7}: (?:Failure$|FAILED:|Failed\b|[\w.]{0,200}(?:Error|Exception)\b)/s],
  ["warning", /^[ \t]*(?:[^ \t]{1,300}:[0-9]{1,7}: |\([^)]{1,40}\) )?(?:\[\w{1,20}\] )?\w{0,80}Warning: /s],
  ["error", /^.{1,300}?:[0-9]{1,7}:in .{1,400}\([\w:]{0,100}(?:Error|Exception|Interrupt)\)$/s],
  // test runners
  ["error", /^E {2,}(?:assert\b|fixture |[A-Za-z_][\w.]{0,200}(?::|$))|^[ \t]*not ok\b|^rspec [^ ]{1,300}:[0-9]/s],
  ["error", /^[ \t]*(?:--- |=== |\[ {0,3}|\[gw[0-9]+\] \[[ 0-9]+%\] |[\w. -]{1,40}: )?FAIL(?:ED|URE|URES)?\b(?![\]:=) \t]{0,4}0\b)(?!-[A-Za-z])/s],
  ["error", /^.*[ .\t]FAILED:?(?: +(?:\[ *[0-9]{1,3}%\]|\([^)]{1,60}\)|in [0-9].{0,60}))?[ \t]*$/s],
  ["error", /^.*(?:::[^ ]{1,300} |\.\.\. ?)(?:FAIL|ERROR)(?: +\[ *[0-9]{1,3}%\])?[ \t]*$/s],
  ["error", /^[ \t]*(?:✕|✖|✗|✘|×|❌|🚨|💥|⨯)[ \t]|^[ \t]*● .{1,300} › /s],
  ["warning", /^[ \t]*(?:⚠|▲)/s],
  ["error", /^.*\*\*\*(?:Failed|Exception|Timeout)\b|^ *[1-9][0-9]{0,6} FAILED |^[0-9]{1,3}% tests passed, [1-9]/s],
  ["error", /^[ \t]*[Ff]ailed[!:]?[ \t]+(?!0\b)[^ \t0]|^Test (?:Case|Suite) .{1,300} failed (?:\(|at )/s],
  ["error", /^[=*!> \t-]{0,200}(?:✖ )?(?:Tests?:? |Test Suites: |Test Files |Found |There was |There were |Interrupted: |[0-9]{1,7} warnings? and )?[ \t]{0,40}[1-9][0-9]{0,6} (?:failed|failing|failures?|errors?|problems?)\b/s],
  ["error", /^[= \t]*(?:(?:Tests?(?: run)?:|DONE) [0-9]{1,7}(?: tests)?, |[0-9]{1,7} (?:examples?|runs?|tests?|specs?|passed|passing|skipped)\b).{0,200}?(?:\b[1-9][0-9]{0,6} (?:failures?|failed|failing|errors?)\b|\b(?:Failures|Errors|Failed): {1,8}[1-9])/s],
  ["warning", /^[1-9][0-9]{0,6} warnings? generated/s],
  ["error", /^ +Summary \[.{1,20}\] .{1,100} [1-9][0-9]{0,6} (?:failed|timed out)\b|^[ \t]+[0-9]{1,6} - .{1,300} \((?:Failed|Timeout|SEGFAULT|Not Run)\)|^ +[0-9]{1,5}\) \[[\w -]{1,40}\] › |^[0-9:]{4,8} .{1,400} \[E\]$|^[^.]{1,200}\.{3,}Failed$|^Test Failed at |^[0-9]{1,7} files? inspected, [1-9][0-9]{0,6} offenses? |^webpack .{1,40}compiled with [1-9][0-9]{0,6} error/s],
  ["error", /^(?!.{0,80}\b(?:0|[Nn]o|[Nn]one|[Nn]othing|[Ii]f|[Ww]hen|[Ww]hether|[Nn]ot|[Nn]ever|once|that|because|[Ss]kipped)\b)(?:[0-9:]{4,8} [+0-9 ~-]{1,30}: )?[A-Z0-9][^.:!?]{0,60} failed[.!]?$|^-- Configuring incomplete, errors |^=== Failed$|^Build FAILED|^Automatic merge failed|^dependency failed to start|^Your requirements could not be resolved|^An error occurred \(/s],
  ["error", /^[ \t]*(?:[0-9]{1,6}\) (?:Failure|Error):$|Failure\/Error: )/s],
  [SAID, /^[ \t]*\^-+ SC[0-9]{4} \((error|warning|info)\)/s],
  ["error", /^\[gw[0-9]{1,4}\] \[[ 0-9]{1,4}%\] ERROR |^>> Issue: \[|^Coverage failure/s],
  ["error", /^.{1,300} \[FAIL\]$|^ => ERROR |^[ \t]*Assertion .{1,200} failed$/s],
  ["error", /^[#ℹ] (?:fail|cancelled) [1-9]|^[ \t]*#   Failed test|^# Looks like you (?:failed|planned)|^ +[1-9][0-9]{0,6} Error\(s\)/s],
  ["error", /^.{0,12}\b(?:Build|Job|Command|Compilation|Installation|Deployment|Pipeline|Task|Step|Script|Session [^ ]{1,60}|Process|Hook|Check|Tests?|build|job|command|compilation) failed\b(?![ :=]{1,3}0\b)/s],
  // programs that end badly
  ["error", /^.*: Assertion .{1,300} failed\.?$|^==[0-9]{1,9}== ?ERROR(?:: | SUMMARY: [1-9])/s],
  ["error", /^(?:.{1,300}: )?(?:Segmentation fault|Aborted|Bus error|Illegal instruction|Floating point exception|Killed)(?: \(core dumped\))?$/s],
  ["error", /^.{1,400}: (?:\[Errno [0-9]{1,4}\] )?(?:command not found|No such file or directory|Permission denied|Operation not permitted|Connection refused|No space left on device|Cannot allocate memory)(?: \([0-9]{1,4}\))?\.?$|^[\w./-]{0,40}sh: (?:(?:line )?[0-9]{1,7}: )?.{1,300}: not found$|^Permission denied \(|^denied: |^(?!(?:note|help|info|hint|tip|debug): )[a-z][a-z0-9_.+-]{0,20}: (?:cannot|unable to) /s],
  ["error", /^.*\bexit(?:ed)?(?:(?: with)?[ -](?:code|status|value)[:=]?| with) [1-9][0-9]{0,2}[.)\]'"]{0,3}$/s],
  ["error", /^curl: \([0-9]{1,3}\) |^CONFLICT \(| ! \[(?:remote )?rejected\]|^[^ ]{1,200} +: ok=[0-9]{1,7} .*(?:failed|unreachable)=[1-9]/s],
  ["error", /^[ \t]*(?:ERR_[A-Z_]{3,60}|ELIFECYCLE)\b/s],
];

/** "error", "warning", "info" or "debug"; null for a line that says none. `line` as it was printed, with its control sequences. */
export function levelOf(line) {
  const text = beginning(line);
  const lower = text.toLowerCase();
  if (!HINTS.some((hint) => lower.includes(hint)) && !BARE.test(text)) return null;
  for (const [level, expression] of RULES) {
    const found = expression.exec(text);
    if (found) return level === SAID ? BY_WORD.get(found.slice(1).find((word) => word !== undefined).toLowerCase()) ?? null : level;
  }
  const stamp = STAMP.exec(text);
  return stamp && levelOf(text.slice(stamp[0].length));
}

/** The first line of a file that a line names, such as app.py:12: {file, line}; null where it names none. */
export function placeOf(line) {
  const text = beginning(line);
  const command = PROPERTIES.exec(text);
  if (command) {
    const { file, line: number } = properties(command[1]);
    return file && NUMBER.test(number ?? "") ? { file, line: Number(number) } : null;
  }
  const found = PLACE.exec(text);
  return found && { file: found[1].startsWith("//") ? found[1].slice(2) : found[1], line: Number(found[2]) };
}

/** The place that a line names, or the lines about it: of a traceback the last frame, what compilers put below a message, and test runners
    below a failure. `textAt(0)`
    is the line, `textAt(1)` the next one, `textAt(-1)` the one before; undefined where there is none. */
export function placeNear(textAt) {
  const own = placeOf(textAt(0));
  if (own) return own;
  return pointed(textAt, 1, BELOW, POINTER) ?? pointed(textAt, -1, ABOVE, FRAME) ?? (TEST.test(beginning(textAt(0))) ? pointed(textAt, 1, DETAILS, OF_TEST) : null);
}

function pointed(textAt, step, most, marks) {
  for (let at = 1; at <= most; at += 1) {
    const text = textAt(step * at);
    if (text === undefined) return null;
    const read = beginning(text);
    if (marks.test(read)) return placeOf(read);
    if (step < 0 && TRACEBACK.test(read)) return null;
  }
  return null;
}

/** The properties of one of GitHub's commands, "file=app.js,line=1", decoded. */
export function properties(text) {
  const named = {};
  for (const part of text.split(",")) {
    const at = part.indexOf("=");
    if (at > 0) named[part.slice(0, at).trim()] = decoded(part.slice(at + 1));
  }
  return named;
}

/** A value of one of them: only what GitHub encodes is decoded. */
export function decoded(text) {
  return ENCODED.reduce((all, [code, character]) => all.replaceAll(code, character), text);
}

/** What a terminal shows of the beginning of a line, without what other tools and runners put before it. */
export function shownOf(line) {
  return beginning(line).replace(STAMP, "");
}

/* What a terminal shows of the beginning of a line, without what other tools put before it. */
function beginning(raw) {
  let line = raw.includes("section_") ? raw.replace(SECTION, "") : raw;
  if (line.includes("\x1b[")) line = line.replaceAll("\x1b[1G", "\r").replaceAll("\x1b[G", "\r");
  let end = line.length;
  while (end && line[end - 1] === "\r") end -= 1;
  const from = end ? line.lastIndexOf("\r", end - 1) + 1 : 0;
  const text = line.slice(from, Math.min(end, from + PRINTED)).replace(CONTROL, "");
  const cut = text.length > SEEN || end - from > PRINTED ? `${text.slice(0, SEEN)}…` : text; // so that nothing ends here
  return cut.slice(PREFIX.exec(cut)[0].length);
}
