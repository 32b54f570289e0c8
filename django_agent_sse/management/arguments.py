"""What people type, as values: durations, sizes, counts, topics."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable

from ..eventlog.validation import valid_reason, valid_topic
from ..exceptions import InvalidEvent, TopicNameInvalid
from ..wire.event import valid_name

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.IGNORECASE)
_SIZE = re.compile(r"(\d+)([kmg]?)i?b?", re.IGNORECASE)


def topic(text: str) -> str:
    """A topic's name."""
    return _checked(valid_topic, text)


def reason(text: str) -> str:
    """Why a topic is closed."""
    return _checked(valid_reason, text)


def event_name(text: str) -> str:
    """The name of an event."""
    return _checked(lambda name: valid_name("event", name), text)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except (TopicNameInvalid, InvalidEvent) as error:
        raise ArgumentTypeError(str(error)) from error


def duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ArgumentTypeError(
            f"{text!r} is not a duration above 0: write a number with its unit, as in 90s, 15m, 12h, 30d or 2w"
        )
    return float(found[1]) * SECONDS[found[2].lower()]


def size(text: str) -> int:
    """Bytes of ``500000``, ``64k``, ``10M`` or ``1G``; a ``k`` is 1024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise ArgumentTypeError(
            f"{text!r} is not a size above 0: write bytes, as in 500000, or with a unit, as in 64k, 10M or 1G"
        )
    return int(found[1]) * BYTES[found[2].lower()]


def count(text: str) -> int:
    """A whole number, not below 0."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number, 0 or above")
    return int(text)
