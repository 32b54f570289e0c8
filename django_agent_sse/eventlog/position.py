"""Where a reader is in a topic: the ids that clients send back."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass

MAX_ID = 512
"""Characters of an id that are looked at. Every id of this package is shorter."""
MAX_OFFSET = 2**63 - 1
"""As far as the column of a database counts."""
EPOCH_LENGTH = 8
"""Letters of an epoch: 5e13 of them, so that no two incarnations of a topic share one."""

_ID = re.compile(rf"([A-Za-z]{{{EPOCH_LENGTH}}})\.(0|[1-9][0-9]{{0,18}})")
NOWHERE = "0"
"""The id of the place in a topic that does not exist yet: before its first event."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The place after one event of a topic.

    Args:
        epoch: The incarnation of the topic: another one begins when it was deleted, or lost. ``""`` where there was no topic yet.
        offset: The number of the event, from 1 without a gap; 0 is before the first.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}" if self.epoch else NOWHERE

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read what ``str()`` wrote; ``None`` for everything else, whatever a client sends."""
        if text == NOWHERE:
            return cls("", 0)
        found = _ID.fullmatch(text) if len(text) <= MAX_ID else None
        if found is None or int(found[2]) > MAX_OFFSET:
            return None
        return cls(found[1], int(found[2]))


def new_epoch() -> str:
    """A random epoch."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(EPOCH_LENGTH))
