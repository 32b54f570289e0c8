"""Numbers, ages and rows as people read them."""

from __future__ import annotations

from collections.abc import Sequence

_AGES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SIZES = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def age(at: float | None, now: float) -> str:
    """How long ago a moment was."""
    if at is None:
        return "-"
    seconds = max(0.0, now - at)
    for unit, name in _AGES:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return "now"


def amount(size: int) -> str:
    """A number of bytes."""
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} B"


def several(number: int, thing: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]], right: frozenset[int]) -> list[str]:
    """The lines of a table whose columns are as wide as they must be; those in ``right`` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cell(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in rows]


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
