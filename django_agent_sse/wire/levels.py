"""The level of a line of text, and the place in a file that it names: read as compilers, test runners and loggers write them.

The same rules stand in ``static/django_agent_sse/levels.js``; tests hold them equal.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SEEN: Final = 500
"""Characters of a line that are looked at: a level stands at the beginning, so that a long line costs no more."""
_PRINTED: Final = 2000
"""Characters, control sequences among them, from which those are taken."""
_LEVELS: Final = {
    "error": "emergency emerg alert critical crit fatal fata panic severe error erro err e f a 50 60",
    "warning": "warning warn w 40",
    "info": "notice info i 30",
    "debug": "debug debu trace trac verbose verb d 20 10",
}
_BY_WORD: Final = {word: level for level, words in _LEVELS.items() for word in words.split()}
HINTS: Final = (
    "err", "warn", "info", "debu", "trac", "crit", "emerg", "alert", "fata", "panic", "severe", "notice", "verbose", "::",
    "##[", "level", "lvl", "severity", "fail", "exception", "interrupt", "exist", "exit", "uncaught", "unhandled",
    "caused by", "undefined", "stopped", "***", "** (", "not ok", "rspec", "problem", ".go:", ".py:", "fault", "abort",
    "killed", "illegal", "not found", "no such", "denied", "permitted", "refused", "no space", "allocate", "curl: (",
    "conflict", "reject", "ok=", "elifecycle", "issue:", ".rb:", "offense",
    "unable to", "cannot", "[e]", "could not", "summary [", "] ›", "expired",
)  # fmt: skip
"""A line without any of them, in whatever case, has no level, unless it begins as ``_BARE`` says: most lines end here."""
_BARE = re.compile(r"^(?:[IWEF][0-9]{4} |[EWew]: |E {2,}|[ \t]*[^ -~\t])")
_PREFIX = re.compile(
    r"^(?:#[0-9]{1,6} (?:[0-9.]{1,12} )?)?(?:[\w.-]{1,60} {1,60}\| ?|[ ]{0,16}[│|](?:[ ]{0,16}[│|]){0,8} ?)?",
    re.ASCII,
)
"""What ``docker build``, ``docker compose``, Terraform and groups of Python's exceptions put before a line."""
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_STAMP = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z (?:[0-9]{2}[OE]\+? ?)?")
"""What runners put before each line."""
_SECTION = re.compile(r"section_(?:start|end):[0-9]{1,12}:[\w.-]{1,200}(?:\[[^\]\r]{0,200}\])?\r?\x1b\[0?K", re.ASCII)
"""GitLab's markers, which a terminal erases with what stands before them."""
_PROPERTIES = re.compile(r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z )?::[a-z-]{1,30} (.*?)::", re.DOTALL)
_PLACE = re.compile(
    r"""(?:^|[ \t"'`()=,<>|\[\]{}:])((?:[A-Za-z]:[/\\])?[^ \t"'`()=,<>|\[\]{}:;]{0,300}(?:\.(?:pyi|py|jsx|js|mjs"""
    r"|cjs|tsx|ts|mts|cts|vue|svelte|go|rs|java|kts|kt|scala|groovy|gradle|rb|erb|php|pl|pm|t|exs|ex|erl|hs|cpp|cxx"
    r"|cc|c|hpp|hh|h|mm|m|swift|csproj|cs|fs|vb|lua|r|R|jl|dart|zig|nim|ml|clj|bash|zsh|sh|ps1|sql|html|scss|css"
    r"|less|json|yaml|yml|toml|ini|cfg|conf|xml|md|rst|txt|tfvars|tf|hcl|bzl|bazel|cmake|proto|graphql|f90|asm|S|s)"
    r"""|(?:Make|make|Docker|Jenkins|Just|just|Rake|Gem)file|BUILD|WORKSPACE))(?::|:\[|\(|", line | on line """
    r"|:? line )([0-9]{1,7})\b",
    re.ASCII,
)
_NUMBER = re.compile(r"^[0-9]{1,7}$")
_ENCODED: Final = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
SAID: Final = ""
"""The level is the one that the line says: the first group that matched."""
RULES: Final = (
    # commands of GitHub and Azure
    (SAID, r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}Z )?(?:::([a-z-]{1,30})(?: .*?)?::|##\[([a-z-]{1,30})\])"),
    # what passed or was not run, and commands that a shell shows
    (None, r"^[ \t]*(?:ok\b|(?:not ok\b|✖).*# ?(?:TODO|SKIP|todo|skip)\b|PASS(?:ED)?\b|--- (?:PASS|SKIP)|[✓✔√]|[+]{1,4} |\$ )"),
    # build tools, which say it at the level of information
    (
        "error",
        r"^(?:\[INFO\] |\*\* )?[A-Z]{3,12} FAIL(?:ED|URE)\b|^\[info\] .{0,300}\*\*\* (?:[1-9][0-9]{0,6} TESTS? )?FAILED \*\*\*"
        r"|^INFO: Build completed, [1-9][0-9]{0,6} tests? FAILED",
    ),
    # headers of loggers
    (
        SAID,
        r"^[\[(]?(?:[A-Z][a-z]{2} [ 0-9][0-9] |[0-9]{1,4}[-/][A-Za-z0-9]{2,3}[-/][0-9]{2,4}[T _:])?[0-9]{2}:[0-9]{2"
        r"}:[0-9]{2}(?:[.,][0-9]{1,9})?(?:Z| ?[+-][0-9]{2}:?[0-9]{2}| UTC)?[\])]?:?[ \t-]*"
        r"(?:[^ \t]{1,80}[ \t]+){0,4}?(?:[\[(<|]?(EMERGENCY|EMERG|ALERT|CRITICAL|CRIT|FATAL|FATA|PANIC|SEVERE"
        r"|ERROR|ERRO|ERR|WARNING|WARN|NOTICE|INFO|DEBUG|DEBU|TRACE|TRAC|VERBOSE)(?=[\]:|>/,) \t-]|$)|\[(emerg"
        r"|alert|crit|critical|fatal|error|warning|warn|notice|info|debug|trace)\])",
    ),
    (
        SAID,
        r"^[ \t]*(?:[✘▲✖×⚠] )?[\[(<|]?[ \t]{0,2}(EMERGENCY|EMERG|ALERT|CRITICAL|CRIT|FATAL|FATA|PANIC|SEVERE|ERROR"
        r"|ERRO|ERR|WARNING|WARN|NOTICE|INFO|DEBUG|DEBU|TRACE|TRAC|VERBOSE)(?=[\]:|>/) \t\[-]"
        r"|$)(?![\]:=) \t]{1,4}0\b)",
    ),
    (SAID, r"^\[(emerg|alert|crit|critical|fatal|error|warning|warn|notice|info|debug|trace)\][ :]"),
    (SAID, r"^([DIWEFA]), \[[0-9]{4}-"),
    (SAID, r"^([IWEF])[0-9]{4} [0-9:.]{8,15} +[0-9]+ [^ ]{1,200}:[0-9]+\]"),
    (SAID, r'^\{.{0,500}?"(?:level|levelname|log\.level|severity|lvl)" ?: ?"?([A-Za-z]{3,9}|[0-9]{2})\b'),
    (SAID, r'^(?:[\w.]{1,40}=(?:"[^"]{0,200}"|[^ "]{0,200}) ){0,8}(?:level|lvl)="?([A-Za-z]{3,9})\b'),
    # compilers, linters, package managers
    ("warning", r"^.*\(0 errors, [1-9]"),
    (
        SAID,
        r"^.{1,300}?:[0-9]{1,7}(?::[0-9]{1,7})?:?(?: -)? (?:(?:fatal|runtime|internal|syntax) )?(error|ERROR"
        r"|warning|WARNING)(?::|\[| [A-Z]{1,4}[0-9])",
    ),
    (SAID, r"^.{1,300}?\([0-9]{1,7}(?:,[0-9]{1,7}){0,3}\) ?: (?:fatal )?(error|warning) [A-Z]"),
    ("error", r"^(?:vet: )?[\w./@~-]{1,300}\.go:[0-9]{1,7}:[0-9]{1,7}: "),
    ("error", r"^[^ \t]{1,300}\.pyi?:[0-9]{1,7}:[0-9]{1,7}: [EF][0-9]{1,5}[: ]"),
    ("warning", r"^[^ \t]{1,300}\.pyi?:[0-9]{1,7}:[0-9]{1,7}: [A-Z]{1,5}[0-9]{1,5}[: ]"),
    (SAID, r"^ +[0-9]{1,7}:[0-9]{1,7} +(error|warning) "),
    (SAID, r"^(?:(?:npm|lerna|pnpm|yarn) )(ERR|error|WARN|warn|notice|info|verbose)\b"),
    ("error", r"^➤ YN(?:00(?:01|09|16|18|28|35|41|82)|0000: (?:[│└·┌] )?Failed with errors)"),
    ("warning", r"^➤ YN(?:00(?:02|60|86)|0000: (?:[│└·┌] )?Done with warnings)"),
    ("error", r"^[^ \t]{1,300}:[0-9]{1,7}:[0-9]{1,7}: [EF]: (?:\[Correctable\] )?[A-Z]\w{1,40}/"),
    ("warning", r"^[^ \t]{1,300}:[0-9]{1,7}:[0-9]{1,7}: [CRW]: (?:\[Correctable\] )?[A-Z]\w{1,40}/"),
    (SAID, r"^[^ \t]{1,300}:[0-9]{1,7} (?:DL|SC)[0-9]{4} (error|warning|info)\b"),
    (
        SAID,
        r"^(?:[\w.+/-]{1,80}: )?(?:PHP )?(?:(?:[Ff]atal|[Ii]nternal|[Pp]arse|[Ss]yntax|[Tt]ype|[Ll]inker"
        r"|[Rr]untime|rsync) )?(error|Error|fatal|Fatal|warning|Warning)"
        r"(?:\[[\w:-]{1,60}\])?: (?! *(?:0|null|None|nil|false|~)(?:,|$| ))",
    ),
    (SAID, r"^([EWew]): [^ ]"),
    (
        "error",
        r"^(?:[\w-]{1,40}: )?(?:Error (?:from server|response from daemon|in .{1,200}:)|error (?:during|processing"
        r"""|-) |error [A-Z"'])|^\[!\] """,
    ),
    ("warning", r'^warning (?:"|[A-Z]|[\w@/.-]{1,80}: )|^\[[A-Z]{4,20} WARNING\]'),
    (SAID, r"^CMake (?:Deprecation )?(Error|Warning)\b"),
    (
        "error",
        r"^[^ ]{0,80}make(?:\[[0-9]{1,4}\])?: \*\*\* (?!.*\(ignored\))|^ninja: (?:build stopped|fatal)"
        r"|^(?:.*: )?undefined reference to ",
    ),
    # exceptions
    (
        "error",
        r"^[ \t]*(?:Caused by: |Exception in thread |Uncaught |Unhandled[A-Za-z]{0,30}(?: exception)?:|panic: "
        r"|thread .{1,200} panicked at |\*\* \([A-Z])",
    ),
    (
        "error",
        r"^[ \t]*(?:[A-Za-z_]\w{0,80}(?:[.$]|::)){0,12}(?:[A-Z]\w{0,80}(?:Error|Exception|Interrupt|Exit|Expired)"
        r"|ExceptionGroup|DoesNotExist)\b(?: \[\w{1,60}\])?(?::|[ \t]*$)",
    ),
    ("error", r"^[ \t]{1,16}Error: (?!(?:0|null|none|None|nil|false|~)(?:,|$| ))[^ ]"),
    ("error", r"^[ \t]*(?:[A-Za-z_]\w{0,80}\.){0,12}(?:exceptions?|errors?)\.[A-Z]\w{0,80}:"),
    ("error", r"^[^ \t]{1,300}:[0-9]{1,7}: (?:Failure$|FAILED:|Failed\b|[\w.]{0,200}(?:Error|Exception)\b)"),
    ("warning", r"^[ \t]*(?:[^ \t]{1,300}:[0-9]{1,7}: |\([^)]{1,40}\) )?(?:\[\w{1,20}\] )?\w{0,80}Warning: "),
    ("error", r"^.{1,300}?:[0-9]{1,7}:in .{1,400}\([\w:]{0,100}(?:Error|Exception|Interrupt)\)$"),
    # test runners
    ("error", r"^E {2,}(?:assert\b|fixture |[A-Za-z_][\w.]{0,200}(?::|$))|^[ \t]*not ok\b|^rspec [^ ]{1,300}:[0-9]"),
    (
        "error",
        r"^[ \t]*(?:--- |=== |\[ {0,3}|\[gw[0-9]+\] \[[ 0-9]+%\] |[\w. -]{1,40}: )?FAIL(?:ED|URE"
        r"|URES)?\b(?![\]:=) \t]{0,4}0\b)(?!-[A-Za-z])",
    ),
    ("error", r"^.*[ .\t]FAILED:?(?: +(?:\[ *[0-9]{1,3}%\]|\([^)]{1,60}\)|in [0-9].{0,60}))?[ \t]*$"),
    ("error", r"^.*(?:::[^ ]{1,300} |\.\.\. ?)(?:FAIL|ERROR)(?: +\[ *[0-9]{1,3}%\])?[ \t]*$"),
    ("error", r"^[ \t]*(?:✕|✖|✗|✘|×|❌|🚨|💥|⨯)[ \t]|^[ \t]*● .{1,300} › "),
    ("warning", r"^[ \t]*(?:⚠|▲)"),
    ("error", r"^.*\*\*\*(?:Failed|Exception|Timeout)\b|^ *[1-9][0-9]{0,6} FAILED |^[0-9]{1,3}% tests passed, [1-9]"),
    ("error", r"^[ \t]*[Ff]ailed[!:]?[ \t]+(?!0\b)[^ \t0]|^Test (?:Case|Suite) .{1,300} failed (?:\(|at )"),
    (
        "error",
        r"^[=*!> \t-]{0,200}(?:✖ )?(?:Tests?:? |Test Suites: |Test Files |Found |There was |There were "
        r"|Interrupted: |[0-9]{1,7} warnings? and )?[ \t]{0,40}"
        r"[1-9][0-9]{0,6} (?:failed|failing|failures?|errors?|problems?)\b",
    ),
    (
        "error",
        r"^[= \t]*(?:(?:Tests?(?: run)?:|DONE) [0-9]{1,7}(?: tests)?, |[0-9]{1,7} (?:examples?|runs?|tests?|specs?|passed|passing"
        r"|skipped)\b).{0,200}?(?:\b[1-9][0-9]{0,6} (?:failures?|failed|failing|errors?)\b|\b(?:Failures|Errors"
        r"|Failed): {1,8}[1-9])",
    ),
    ("warning", r"^[1-9][0-9]{0,6} warnings? generated"),
    (
        "error",
        r"^ +Summary \[.{1,20}\] .{1,100} [1-9][0-9]{0,6} (?:failed|timed out)\b|^[ \t]+[0-9]{1,6} - .{1,300} \((?:Failed|Timeout"
        r"|SEGFAULT|Not Run)\)|^ +[0-9]{1,5}\) \[[\w -]{1,40}\] › |^[0-9:]{4,8} .{1,400} \[E\]$|^[^.]{1,200}\.{3,}Failed$"
        r"|^Test Failed at |^[0-9]{1,7} files? inspected, [1-9][0-9]{0,6} offenses? "
        r"|^webpack .{1,40}compiled with [1-9][0-9]{0,6} error",
    ),
    (
        "error",
        r"^(?!.{0,80}\b(?:0|[Nn]o|[Nn]one|[Nn]othing|[Ii]f|[Ww]hen|[Ww]hether|[Nn]ot|[Nn]ever|once|that|because|[Ss]kipped)\b)"
        r"(?:[0-9:]{4,8} [+0-9 ~-]{1,30}: )?[A-Z0-9][^.:!?]{0,60}"
        r" failed[.!]?$|^-- Configuring incomplete, errors "
        r"|^=== Failed$|^Build FAILED|^Automatic merge failed|^dependency failed to start"
        r"|^Your requirements could not be resolved|^An error occurred \(",
    ),
    ("error", r"^[ \t]*(?:[0-9]{1,6}\) (?:Failure|Error):$|Failure/Error: )"),
    (SAID, r"^[ \t]*\^-+ SC[0-9]{4} \((error|warning|info)\)"),
    ("error", r"^\[gw[0-9]{1,4}\] \[[ 0-9]{1,4}%\] ERROR |^>> Issue: \[|^Coverage failure"),
    ("error", r"^.{1,300} \[FAIL\]$|^ => ERROR |^[ \t]*Assertion .{1,200} failed$"),
    (
        "error",
        r"^[#ℹ] (?:fail|cancelled) [1-9]|^[ \t]*#   Failed test|^# Looks like you (?:failed|planned)"
        r"|^ +[1-9][0-9]{0,6} Error\(s\)",
    ),
    (
        "error",
        r"^.{0,12}\b(?:Build|Job|Command|Compilation|Installation|Deployment|Pipeline|Task|Step|Script"
        r"|Session [^ ]{1,60}|Process|Hook|Check|Tests?|build|job|command|compilation) failed\b(?![ :=]{1,3}0\b)",
    ),
    # programs that end badly
    ("error", r"^.*: Assertion .{1,300} failed\.?$|^==[0-9]{1,9}== ?ERROR(?:: | SUMMARY: [1-9])"),
    (
        "error",
        r"^(?:.{1,300}: )?(?:Segmentation fault|Aborted|Bus error|Illegal instruction|Floating point exception"
        r"|Killed)(?: \(core dumped\))?$",
    ),
    (
        "error",
        r"^.{1,400}: (?:\[Errno [0-9]{1,4}\] )?(?:command not found|No such file or directory|Permission denied"
        r"|Operation not permitted|Connection refused|No space left on device|Cannot allocate memory)(?: \([0-9]{1,4}\))?\.?$"
        r"|^[\w./-]{0,40}sh: (?:(?:line )?[0-9]{1,7}: )?.{1,300}: not found$|^Permission denied \(|^denied: "
        r"|^(?!(?:note|help|info|hint|tip|debug): )[a-z][a-z0-9_.+-]{0,20}: (?:cannot|unable to) ",
    ),
    ("error", r"""^.*\bexit(?:ed)?(?:(?: with)?[ -](?:code|status|value)[:=]?| with) [1-9][0-9]{0,2}[.)\]'"]{0,3}$"""),
    (
        "error",
        r"^curl: \([0-9]{1,3}\) |^CONFLICT \(| ! \[(?:remote )?rejected\]|^[^ ]{1,200} +: ok=[0-9]{1,7} .*"
        r"(?:failed|unreachable)=[1-9]",
    ),
    ("error", r"^[ \t]*(?:ERR_[A-Z_]{3,60}|ELIFECYCLE)\b"),
)
"""The first that matches decides. ``None`` is no level."""
_COMPILED = [(level, re.compile(pattern, re.ASCII | re.DOTALL)) for level, pattern in RULES]


class Place(NamedTuple):
    """A line of a file."""

    file: str
    line: int


def level_of(line: str) -> str | None:
    """Return ``"error"``, ``"warning"``, ``"info"`` or ``"debug"``; ``None`` for a line that says none.

    ``line`` is as it was printed, with its control sequences. What a carriage return overwrote does not count.
    """
    text = _beginning(line)
    lower = text.lower()
    if not any(map(lower.__contains__, HINTS)) and not _BARE.match(text):
        return None
    for level, expression in _COMPILED:
        if found := expression.match(text):
            return level if level != SAID else _BY_WORD.get(found[found.lastindex or 0].lower())
    stamp = _STAMP.match(text)
    return level_of(text[stamp.end() :]) if stamp else None


def place_of(line: str) -> Place | None:
    """Return the first line of a file that a line names, such as ``app.py:12``; ``None`` where it names none."""
    text = _beginning(line)
    if command := _PROPERTIES.match(text):
        named = dict(part.strip().partition("=")[::2] for part in command[1].split(","))
        file, number = _decoded(named.get("file", "")), named.get("line", "")
        return Place(file, int(number)) if file and _NUMBER.match(number) else None
    found = _PLACE.search(text)
    return Place(found[1].removeprefix("//"), int(found[2])) if found else None


def _decoded(value: str) -> str:
    for code, character in _ENCODED:
        value = value.replace(code, character)
    return value


def _beginning(line: str) -> str:
    """Return what a terminal shows of the beginning of a line, without what other tools put before it."""
    if "section_" in line:
        line = _SECTION.sub("", line)
    if "\x1b[" in line:
        line = line.replace("\x1b[1G", "\r").replace("\x1b[G", "\r")
    if "\r" in line:
        line = line.rstrip("\r")
        line = line[line.rfind("\r") + 1 :]
    text = line[:_PRINTED]
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if len(text) > SEEN or len(line) > _PRINTED:
        text = text[:SEEN] + "…"  # so that nothing ends here
    prefix = _PREFIX.match(text)
    return text[prefix.end() :] if prefix else text
