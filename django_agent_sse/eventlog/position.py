"""Where a reader is, in one topic or in several at once: the ids that clients send back."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

MAX_ID = 512
"""The longest id that is parsed. Every id of this package is shorter."""
MAX_OFFSET = 2**63 - 1
"""The largest offset that a column of a database can hold."""
EPOCH_LENGTH = 8
"""Letters of an epoch: 5e13 of them, so that no two incarnations of a topic share one."""

NONCE_LENGTH = 6
"""Capital letters of a nonce, which tells two events apart that stood at one offset: 3e8 of them."""

_ID = re.compile(rf"([A-Za-z]{{{EPOCH_LENGTH}}})\.(0|[1-9][0-9]{{0,18}})(?:\.([A-Z]{{{NONCE_LENGTH}}}))?")
MAX_TOPICS: Final = 16
"""Topics of one id, which is at most 498 characters long then: it stays below ``MAX_ID``, also after ``sse.end~``.

With nonces that holds up to offsets of ten digits (3e15: a million events a second, for a century), without to all of them."""
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARK = "v1"
_HASH = 6
_PART = re.compile(rf"([0-9a-z]{{{_HASH}}})(?:([A-Za-z]{{{EPOCH_LENGTH}}})([0-9a-z]{{1,13}})([A-Z]{{{NONCE_LENGTH}}})?)?")
NOWHERE = "0"
"""The id of the place in a topic that does not exist yet: before its first event."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The place after one event of a topic.

    Args:
        epoch: The incarnation of the topic: another one begins when it was deleted, or lost. ``""`` where there was no topic yet.
        offset: The number of the event, from 1 without a gap; 0 is before the first.
        nonce: That of the event, where the log has some and it is known: it proves that this very event is still there.
    """

    epoch: str
    offset: int
    nonce: str = ""

    def __str__(self) -> str:
        if not self.epoch:
            return NOWHERE
        return f"{self.epoch}.{self.offset}.{self.nonce}" if self.nonce else f"{self.epoch}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read what ``str()`` wrote; ``None`` for everything else, whatever a client sends."""
        if text == NOWHERE:
            return cls("", 0)
        match = _ID.fullmatch(text) if len(text) <= MAX_ID else None
        if match is None or int(match[2]) > MAX_OFFSET:
            return None
        return cls(match[1], int(match[2]), match[3] or "")


def new_epoch() -> str:
    return "".join(secrets.choice(string.ascii_letters) for _ in range(EPOCH_LENGTH))


def short_name(topic: str) -> str:
    """Return 31 bits of a name's SHA-256, which stand for it in ids: the name may say more than a client should know."""
    return _digits(int.from_bytes(sha256(topic.encode()).digest()[:8]))[-_HASH:].rjust(_HASH, "0")


def vector_id(positions: Mapping[str, Position]) -> str:
    """Return the id of these positions, which are given by topics' `short_name`; sorted, so that there is one id only."""
    return ".".join([_MARK, *(name + vector_part(positions[name]) for name in sorted(positions))])


def parse_vector(text: str) -> dict[str, Position] | None:
    """Read what ``vector_id`` wrote; ``None`` for everything else, whatever a client sends."""
    mark, *parts = text.split(".", MAX_TOPICS + 1) if len(text) <= MAX_ID else ("",)
    if mark != _MARK or not 0 < len(parts) <= MAX_TOPICS:
        return None
    positions: dict[str, Position] = {}
    for part in parts:
        match = _PART.fullmatch(part)
        offset = int(match[3] or "0", 36) if match else MAX_OFFSET + 1
        if match is None or offset > MAX_OFFSET or match[1] in positions:
            return None
        positions[match[1]] = Position(match[2] or "", offset, match[4] or "")
    return positions


def vector_part(position: Position) -> str:
    """Return what stands in an id after a topic's name."""
    return position.epoch + _digits(position.offset) + position.nonce if position.epoch else ""


def _digits(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = DIGITS[digit] + text
    return text or "0"
