"""A value that nobody knows, as text of bounded size, whatever its ``repr()`` does."""

from __future__ import annotations

import pprint
import reprlib
from collections import deque
from typing import Any

SHOWN = 65_536
"""Characters of a value that a page shows."""
SMALL = 2_000
"""Items, at any depth, of a value that is shown whole. Of a larger one each part shows its beginning."""
WIDTH = 100

_CONTAINERS = (dict, list, tuple, set, frozenset)


def pretty(value: Any) -> tuple[str, bool]:
    """The value as text, and whether there is more of it than that. Raises nothing."""
    if type(value) is str:
        text, cut = value[:SHOWN], len(value) > SHOWN
    else:
        text, cut = _text(value)
    return text[:SHOWN].encode("utf-8", "backslashreplace").decode(), cut or len(text) > SHOWN


def kind(value: Any) -> str:
    """The name of its type, and how large it is."""
    name = type(value).__qualname__
    if type(value) in (str, bytes, bytearray):
        return f"{name}, {len(value):,} {'characters' if type(value) is str else 'bytes'}"
    return f"{name}, {len(value):,} items" if type(value) in _CONTAINERS else name


def _text(value: Any) -> tuple[str, bool]:
    try:
        if _is_small(value):
            return pprint.pformat(value, width=WIDTH, sort_dicts=False), False
        return _shortener().repr(value), True
    except Exception as error:
        return f"<{type(value).__qualname__}, whose repr() raised {type(error).__name__}>", False


def _is_small(value: Any) -> bool:
    """Whether it has few items and little text; stops counting where it has not."""
    left, waiting = SMALL, deque([value])
    while waiting and left > 0:
        one = waiting.popleft()
        if type(one) in (str, bytes, bytearray):
            left -= 1 + len(one) // WIDTH
        elif type(one) in _CONTAINERS:
            left -= 1 + len(one)
            if left > 0:
                waiting.extend([*one.keys(), *one.values()] if type(one) is dict else one)
        else:
            left -= 1
    return left > 0


def _shortener() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel = 6
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = 50
    short.maxstring = short.maxother = 1_000
    return short
