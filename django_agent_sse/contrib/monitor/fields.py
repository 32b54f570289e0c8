"""Values of another process's report, checked one by one: another version may have written it, or somebody else.

Each function raises ``ValueError`` for a value of another type, or one that is too large or cannot be shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

LARGEST: Final = 2.0**53
"""Above it JavaScript, for one, cannot tell whole numbers apart."""
LATEST: Final = 4_102_444_800.0
"""The year 2100, in seconds since 1970: no process reports a later moment."""


def parsed(text: str) -> dict[str, Any]:
    """Return the JSON object that a text holds."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    return found


def text(value: object, most: int) -> str:
    """Return a text of so many characters at most, which can be encoded."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{_shown(value)} is not a text of at most {most} characters")
    value.encode()  # a lone surrogate raises a ValueError
    return value


def number(value: object, most: float = LARGEST) -> float:
    """Return a number from 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{_shown(value)} is not a number from 0 to {most:g}")
    return value


def moment(value: object) -> float:
    """Return a time, in seconds since 1970."""
    return float(number(value, LATEST))


def count(value: object) -> int:
    """Return a whole number from 0."""
    if not isinstance(value, int):
        raise ValueError(f"{_shown(value)} is not a whole number")
    return int(number(value))


def flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def listed(value: object, most: int) -> list[Any]:
    """Return a list of so many entries at most."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{_shown(value)} is not a list of at most {most} entries")
    return value


def mapping(value: object, most: int) -> Mapping[str, Any]:
    """Return an object of so many entries at most, whose keys can be shown."""
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError(f"{_shown(value)} is not an object of at most {most} entries")
    for key in value:
        text(key, 1000)
    return value


def _shown(value: object) -> str:
    """Show a value briefly. ``repr()`` would write all of something large, and refuses numbers of thousands of digits."""
    return f"'{value[:40]}'" if isinstance(value, str) else f"a {type(value).__name__}"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
