"""An agent that needs no network: reads the log of a build, and says what failed, where, how often, and why it may have.

It knows pytest's reports, Python's tracebacks, and lines such as ``main.c:3: error: …``. Memory is bounded: of any log it keeps
``MOST`` failures of each kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST = 200
"""Failures that are kept of each kind; more are counted."""
SHOWN = 20
"""Failures that are told one by one."""
WIDTH = 200
"""Characters of a message that are told."""

_HEADER = re.compile(r"_{3,} (?:ERROR at \w+ of )?(\S.{0,300}?) _{3,}")
_PLACE = re.compile(r"([^\s:]{1,300}):(\d{1,7}): ([\w.]{0,100})")
_SUMMARY = re.compile(r"(?:FAILED|ERROR) ([^\s:]{1,300})(?:::(.{1,300}?))?(?: - (.*))?")
_TOTALS = re.compile(r"(\d{1,9}) (passed|failed|errors?)\b")
_QUIET_TOTALS = re.compile(r"\d{1,9} (?:passed|failed|error)[\w ,]{0,200} in [\d.]{1,20}s.{0,20}")
_FRAME = re.compile(r'  File "([^"]{1,300})", line (\d{1,7})')
_ERROR = re.compile(r"([^\s:]{1,300}):(\d{1,7})(?::\d{1,7})?: (?:fatal )?error: (.+)")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]{0,100}(?:Error|Exception|Exit|Interrupt|Warning)\b.*")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

CLOSE = 0.01
"""Numbers that differ by less than this share of the larger one are close."""

_COMPARED = re.compile(r"assert .{0,60}?(-?\d+(?:\.\d+)?).{0,20} == .{0,60}?(-?\d+(?:\.\d+)?)")
_RULES = {
    r"(?:ModuleNotFoundError: )?No module named '([\w.]+)'": "`{0}` is not installed where the build runs.",
    r"FileNotFoundError.*'([^']+)'": "The file `{0}` is not where it is looked for: a step before should have made it?",
    r"PermissionError.*'([^']+)'": "The build may not use `{0}`: look at its owner and mode.",
    r"KeyError: (.+)": "The key `{0}` is taken to be there, and is not: a case that the code does not handle.",
    r"IndexError": "A list is shorter than the code assumes: look at the empty case.",
    r"'NoneType' object has no attribute '(\w+)'": "Something is `None` where an object with `{0}` was expected.",
    r"ConnectionRefusedError|Connection refused": "A server that is needed is not running, or not on that port.",
    r"Timeout|timed out": "Something took longer than it may: a slow machine, or a wait for what never comes.",
    r"SyntaxError|IndentationError": "The file cannot be read as Python: look at its last change.",
    r"MemoryError|Out of memory": "Memory ran out.",
    r"undeclared|undefined reference|cannot find symbol": "A name that nothing defines: a missing import, include or library.",
}


@dataclass(slots=True, kw_only=True)
class Failure:
    """One thing that failed.

    Attributes:
        what: The test, or what kind of failure it is.
        line: The line of the log that tells of it, from 1.
        message: The first line of the error.
        place: ``"shop.py:24"``, the innermost that is known.
        through: The function that gave the wrong value, where pytest names it.
    """

    what: str
    line: int
    message: str = ""
    place: str = ""
    through: str = ""


class Reader:
    """Takes the lines of a log one by one.

    Attributes:
        tests: What pytest failed, by name.
        errors: What other programs complained of; the same complaint once, and counted in ``times``.
        totals: What pytest counted: ``{"failed": 3, "passed": 6}``.
    """

    def __init__(self) -> None:
        self.tests: dict[str, Failure] = {}
        self.errors: dict[tuple[str, str], Failure] = {}
        self.times: Counter[tuple[str, str]] = Counter()
        self.totals: Counter[str] = Counter()
        self.missing = 0
        self._reported: dict[str, Failure] = {}  # by the name that pytest's report has for it
        self._current: Failure | None = None
        self._frame: tuple[int, str] | None = None

    def feed(self, number: int, text: str) -> None:
        """Read line ``number``."""
        text = _ESCAPES.sub("", text)
        if text.startswith("___"):
            self._begin(number, text)
        elif text.startswith(("FAILED ", "ERROR ")):
            self._sum_up(number, text)
        elif text.startswith("==="):
            self._count(text)
        elif text.startswith(("Traceback (", '  File "')) or self._frame is not None:
            self._trace(number, text)
        elif self._current is not None and self._detail(text):
            return
        elif _QUIET_TOTALS.fullmatch(text):
            self._count(text)
        elif (": error: " in text or ": fatal error: " in text) and (match := _ERROR.match(text)):
            self._complain(number, f"{match[1]}:{match[2]}", match[3])

    def _begin(self, number: int, text: str) -> None:
        match = _HEADER.fullmatch(text)
        self._current = None
        if match and len(self._reported) < MOST:
            self._current = self._reported[match[1]] = Failure(what=match[1], line=number)

    def _detail(self, text: str) -> bool:
        failure = self._current
        assert failure is not None
        if text.startswith("E  "):
            said = text[1:].strip()
            failure.message = failure.message or said[:WIDTH]
            if through := re.match(r"\+ +where .{1,300}? = ([\w.]{1,100})\(", said):
                failure.through = failure.through or through[1]
            return True
        if match := _PLACE.match(text):
            failure.place = f"{match[1]}:{match[2]}"
            return True
        return False

    def _sum_up(self, number: int, text: str) -> None:
        match = _SUMMARY.fullmatch(text)
        if not match or len(self.tests) >= MOST:
            return
        name = f"{match[1]}::{match[2]}" if match[2] else match[1]
        reported = self._reported.get((match[2] or match[1]).replace("::", "."))
        failure = reported or Failure(what=name, line=number)
        failure.what, failure.message = name, failure.message or (match[3] or "")[:WIDTH]
        self.tests[name] = failure

    def _count(self, text: str) -> None:
        self._current = None
        for count, what in _TOTALS.findall(text):
            self.totals["failed" if what.startswith("error") else what] += int(count)

    def _trace(self, number: int, text: str) -> None:
        if match := _FRAME.match(text):
            self._frame = self._frame[0] if self._frame else number, f"{match[1]}:{match[2]}"
        elif self._frame is None:
            self._frame = number, ""
        elif text and not text.startswith(" "):
            begun, place = self._frame
            self._frame = None
            if _EXCEPTION.match(text):
                self._complain(begun, place, text)

    def _complain(self, number: int, place: str, message: str) -> None:
        key = place, message[:WIDTH]
        if key in self.errors or len(self.errors) < MOST:
            self.times[key] += 1
            self.errors.setdefault(key, Failure(what=place or "error", line=number, place=place, message=message[:WIDTH]))


def triage(reader: Reader, status: str, exit_code: int | None) -> str:
    """Everything that can be said, as paragraphs, lists and ``## headings``; code in backticks, lines of the log as ``#L24``."""
    failures = [*reader.tests.values(), *reader.errors.values()]
    parts = [_what(reader, failures, status, exit_code)]
    if failures:
        parts += [_where(failures, reader), "## Likely cause\n\n" + _likely_cause(failures)]
    if reader.missing:
        parts.append(f"{reader.missing:,} lines of the log are no longer kept; they may have said more.")
    return "\n\n".join(parts) + "\n"


def tokens(text: str) -> Iterator[str]:
    """The text word by word, each with the white space before it."""
    return (match[0] for match in re.finditer(r"\s*\S+|\s+", text))


def _what(reader: Reader, failures: list[Failure], status: str, exit_code: int | None) -> str:
    if not failures:
        return "## What failed\n\n" + _no_failures(reader, status, exit_code)
    failed, all_tests = reader.totals["failed"] or len(reader.tests), sum(reader.totals.values())
    lines = []
    if reader.tests:
        lines.append(f"{failed} of {all_tests or 'the'} tests failed:\n")
    for failure in failures[:SHOWN]:
        times = reader.times[failure.place, failure.message]
        often = f", {times} times" if times > 1 else ""
        said = f": `{failure.message}`" if failure.message else ""
        lines.append(f"- `{failure.what}`{often}, #L{failure.line}{said}")
    if len(failures) > SHOWN:
        lines.append(f"- and {len(failures) - SHOWN} more")
    return "## What failed\n\n" + "\n".join(lines)


def _where(failures: list[Failure], reader: Reader) -> str:
    places: Counter[str] = Counter()
    for failure in failures:
        if failure.place:
            places[failure.place] += max(1, reader.times[failure.place, failure.message])
    lines = [f"- `{place}`, {'once' if count == 1 else f'{count} times'}" for place, count in places.most_common(SHOWN)]
    return "## Where\n\n" + ("\n".join(lines) or "The log names no place.")


def _no_failures(reader: Reader, status: str, exit_code: int | None) -> str:
    if status == "passed":
        passed = reader.totals["passed"]
        return f"Nothing. {passed:,} tests passed." if passed else "Nothing: the build passed."
    reasons = {
        "cancelled": "Somebody cancelled the build before it was over.",
        "lost": "The process that ran the build was killed. How far it came, nobody recorded.",
    }
    if status in reasons:
        return reasons[status]
    if exit_code is not None and exit_code < 0:
        memory = " That is what happens where memory runs out." if exit_code == -9 else ""
        return f"Signal {-exit_code} ended the build, and the log names no error.{memory}"
    if exit_code == 127:
        return "The program does not exist: the recipe names one that is not installed."
    return f"The build ended with exit code {exit_code}, and the log names no error that I know. Its last lines may."


def _likely_cause(failures: Sequence[Failure]) -> str:
    """A sentence for each kind of cause, the one that explains most failures first."""
    causes = Counter(_cause(failure) for failure in failures)
    if len(failures) == 1:
        return f"- {next(iter(causes))}"
    return "\n".join(f"- {cause} It explains {count} of {len(failures)} failures." for cause, count in causes.most_common(5))


def _cause(failure: Failure) -> str:
    at = f" Look at `{failure.place}` first." if failure.place else ""
    through = f"`{failure.through}()`" if failure.through else "the code"
    if compared := _COMPARED.search(failure.message):
        result, expected = float(compared[1]), float(compared[2])
        if result != expected and abs(result - expected) <= CLOSE * max(abs(result), abs(expected)):
            return f"A result that is nearly right, as a missing or a different rounding makes it; {through} gave it.{at}"
        if result != expected:
            return f"A wrong result from {through}.{at}"
    for pattern, cause in _RULES.items():
        if match := re.search(pattern, failure.message):
            return cause.format(*(group.strip("'\"") for group in match.groups())) + at
    return f"A check that does not hold.{at}" if "assert" in failure.message.lower() else f"An error that nothing handles.{at}"
