"""Which events of a topic are lines of a log, and how they read as text."""

from __future__ import annotations

import re

from .event import Event

CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""What a terminal acts on and does not show."""

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The levels of Python's ``logging``, by the names that their events have."""
LINE_EVENTS = frozenset({None, "", "message", "log", "stdout", "stderr", *LEVELS})
"""Events that are lines. Other events of a log, such as ``exit``, are not part of its text."""
RECORD = "record"
"""The event after a line that says which logger it is of, and where in the code: no line itself."""
_NAMED = frozenset(name for name, number in LEVELS.items() if number >= LEVELS["warning"])
_BEGINNING = 400
"""Characters of a line in which its level may stand already: formats put it first."""


def is_line(event: Event) -> bool:
    """Whether an event of a log is one of its lines, or several."""
    return event.event in LINE_EVENTS


def level_name(number: int) -> str:
    """Return the name of the highest of ``LEVELS`` that a level reaches; what is below all of them is ``debug``."""
    return max((name for name in LEVELS if LEVELS[name] <= number), key=LEVELS.__getitem__, default="debug")


def line_text(event: Event) -> str:
    """Return the text of an event that is a line, as text alone shows it: after its `line_label`."""
    label = line_label(event.event, event.data)
    return label + event.data if label else event.data


def line_label(name: str | None, text: str) -> str:
    """Return what text alone shows before a line: the level of a warning or worse, as ``WARNING: ``."""
    # Not where the first line names it already, as formats of logging do.
    if name not in _NAMED or name in text[:_BEGINNING].partition("\n")[0].lower():
        return ""
    return f"{name.upper()}: "


def visible(line: str) -> str:
    """Return what is seen of a line, without its control sequences and what a carriage return overwrote."""
    if "\r" in line:
        line = line.rstrip("\r")
        line = line[line.rfind("\r") + 1 :]
    return line if line.isprintable() else CONTROLS.sub("", line)
