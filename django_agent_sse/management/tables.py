"""Counts and rows as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.formatting import span


def age(at: float | None, now: float) -> str:
    """``4 s ago``; ``-`` where there is no moment."""
    return "-" if at is None else f"{span(max(0.0, now - at))} ago"


def several(number: int, thing: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]], right: frozenset[int]) -> list[str]:
    """The lines of a table whose columns are as wide as they must be; those in ``right`` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cell(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in rows]


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
