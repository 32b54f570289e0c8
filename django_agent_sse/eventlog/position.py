"""Where a reader is in a topic: the ids that clients send back."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass

MAX_ID = 512
"""The longest id that is parsed. Every id of this package is shorter."""
MAX_OFFSET = 2**63 - 1
"""The largest offset that a column of a database can hold."""
EPOCH_LENGTH = 8
"""Letters of an epoch: 5e13 of them, so that no two incarnations of a topic share one."""

NONCE_LENGTH = 6
"""Capital letters of a nonce, which tells two events apart that stood at one offset: 3e8 of them."""

_ID = re.compile(rf"([A-Za-z]{{{EPOCH_LENGTH}}})\.(0|[1-9][0-9]{{0,18}})(?:\.([A-Z]{{{NONCE_LENGTH}}}))?")
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
        found = _ID.fullmatch(text) if len(text) <= MAX_ID else None
        if found is None or int(found[2]) > MAX_OFFSET:
            return None
        return cls(found[1], int(found[2]), found[3] or "")


def new_epoch() -> str:
    """Return a random epoch."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(EPOCH_LENGTH))
