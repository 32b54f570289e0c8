"""What people type, as values: durations, sizes, counts, topics."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from functools import partial

from ..eventlog.validation import valid_reason, valid_topic
from ..exceptions import InvalidEvent, TopicNameInvalid
from ..wire.event import valid_name

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.IGNORECASE)
_SIZE = re.compile(r"(\d+)([kmg]?)i?b?", re.IGNORECASE)


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    def argument(text: str) -> str:
        try:
            return check(text)
        except (TopicNameInvalid, InvalidEvent) as error:
            raise ArgumentTypeError(str(error)) from error

    return argument


topic = _checked(valid_topic)
reason = _checked(valid_reason)
"""Why a topic is closed."""
event_name = _checked(partial(valid_name, "event"))


def duration(text: str) -> float:
    """Seconds of ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise ArgumentTypeError(
            f"{text!r} is not a duration above 0: write a number with its unit, as in 90s, 15m, 12h, 30d or 2w"
        )
    return float(match[1]) * SECONDS[match[2].lower()]


def size(text: str) -> int:
    """Bytes of ``500000``, ``64k``, ``10M`` or ``1G``; a ``k`` is 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ArgumentTypeError(
            f"{text!r} is not a size above 0: write bytes, as in 500000, or with a unit, as in 64k, 10M or 1G"
        )
    return int(match[1]) * BYTES[match[2].lower()]


def count(text: str) -> int:
    """A whole number, not below 0."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number, 0 or above")
    return int(text)
