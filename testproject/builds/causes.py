"""Why something may have failed: rules of thumb, the most telling first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol


class Failure(Protocol):
    """What the rules look at; see ``builds.agent.Finding``."""

    message: str
    place: str
    through: str


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


def likely_cause(failures: Sequence[Failure]) -> str:
    """A sentence for each kind of cause, the one that explains most failures first."""
    causes = Counter(_cause(failure) for failure in failures)
    if len(failures) == 1:
        return f"- {next(iter(causes))}"
    return "\n".join(f"- {cause} It explains {count} of {len(failures)} failures." for cause, count in causes.most_common(5))


def _cause(failure: Failure) -> str:
    at = f" Look at `{failure.place}` first." if failure.place else ""
    through = f"`{failure.through}()`" if failure.through else "the code"
    if found := _COMPARED.search(failure.message):
        one, other = float(found[1]), float(found[2])
        if one != other and abs(one - other) <= CLOSE * max(abs(one), abs(other)):
            return f"A result that is nearly right, as a missing or a different rounding makes it; {through} gave it.{at}"
        if one != other:
            return f"A wrong result from {through}.{at}"
    for pattern, cause in _RULES.items():
        if found := re.search(pattern, failure.message):
            return cause.format(*(group.strip("'\"") for group in found.groups())) + at
    return f"A check that does not hold.{at}" if "assert" in failure.message.lower() else f"An error that nothing handles.{at}"
