"""Where a reader is in several topics at once: one id for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from .position import EPOCH_LENGTH, MAX_ID, MAX_OFFSET, NONCE_LENGTH, Position

MAX_TOPICS: Final = 16
"""Topics of one id, which is at most 498 characters long then: it stays below ``MAX_ID``, also after ``sse.end~``.

With nonces that holds up to offsets of ten digits (3e15: a million events a second, for a century), without to all of them."""
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARK = "v1"
_HASH = 6
_PART = re.compile(rf"([0-9a-z]{{{_HASH}}})(?:([A-Za-z]{{{EPOCH_LENGTH}}})([0-9a-z]{{1,13}})([A-Z]{{{NONCE_LENGTH}}})?)?")


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
        found = _PART.fullmatch(part)
        offset = int(found[3] or "0", 36) if found else MAX_OFFSET + 1
        if found is None or offset > MAX_OFFSET or found[1] in positions:
            return None
        positions[found[1]] = Position(found[2] or "", offset, found[4] or "")
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
