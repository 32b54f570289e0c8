"""What another process has told, looked at value by value: it may be of another version, or of somebody else.

Each raises ``ValueError`` for what is of another type, too large, or cannot be shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

LARGEST: Final = 2.0**53
"""Beyond it a JSON number is no whole one any more, in JavaScript for one."""
LATEST: Final = 4_102_444_800.0
"""The year 2100, in seconds since 1970: no process tells of a later moment."""


def parsed(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


def text(value: object, most: int) -> str:
    """Text of so many characters at most, which can be encoded."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{_shown(value)} is no text of at most {most} characters")
    value.encode()  # a lone surrogate raises a ValueError
    return value


def number(value: object, most: float = LARGEST) -> float:
    """A number from 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{_shown(value)} is no number from 0 to {most:g}")
    return value


def moment(value: object) -> float:
    """Seconds since 1970."""
    return float(number(value, LATEST))


def count(value: object) -> int:
    """A whole number from 0."""
    if not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is no whole number")
    return int(number(value))


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def listed(value: object, most: int) -> list[Any]:
    """A list of so many entries at most."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{_shown(value)} is no list of at most {most} entries")
    return value


def mapping(value: object, most: int) -> Mapping[str, Any]:
    """An object of so many entries at most, whose keys can be shown."""
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError(f"{_shown(value)} is no object of at most {most} entries")
    for key in value:
        text(key, 1000)
    return value


def _shown(value: object) -> str:
    """Not ``repr()``: it would write all of something large, and refuses numbers of thousands of digits."""
    return f"'{value[:40]}'" if isinstance(value, str) else f"a {type(value).__name__}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
