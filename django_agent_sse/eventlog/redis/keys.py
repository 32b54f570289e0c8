"""The names of everything that the log has in Redis, made here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from ... import conf
from ...exceptions import ConfigurationError

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_QUOTED = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


@dataclass(frozen=True, slots=True)
class Keys:
    """Names that begin with ``prefix``. All of one topic have the topic's name as their hash tag, and so the same slot.

    Raises:
        ConfigurationError: The prefix holds something else than letters, digits and ``_ . : -``.
    """

    prefix: str

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS']['prefix'] is {conf.shown(self.prefix)}; it is 1 to 100 letters, digits "
                "and _ . : -"
            )

    def topic(self, topic: str) -> tuple[str, str]:
        """The hash that says where the topic is, and the stream of its events."""
        tagged = self._tagged(topic)
        return f"{tagged}:meta", f"{tagged}:log"

    def once(self, topic: str, key: str) -> str:
        """What an idempotency key of a topic stands for; its text is hashed, for it may be anything."""
        return f"{self._tagged(topic)}:once:{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"

    def pointer(self, name: str) -> str:
        """Where a pointer leads."""
        return f"{self._tagged(name)}:pointer"

    def channel(self, topic: str) -> str:
        """The channel on which a topic's notifications go out."""
        return f"{self._tagged(topic)}:bell"

    def probe(self, name: str) -> str:
        """The channel on which a process sends messages to itself."""
        return f"{self.prefix}:probe:{name}"

    @property
    def names(self) -> str:
        """The sorted set of all names, for lists of them."""
        return f"{self.prefix}:topics"

    @property
    def recent(self) -> str:
        """The sorted set of all names by the time of an event, which may be out of date: to find the longest silent one."""
        return f"{self.prefix}:topics:recent"

    @property
    def closed(self) -> str:
        """The sorted set of the closed topics by the time of their end."""
        return f"{self.prefix}:topics:closed"

    @property
    def everything(self) -> str:
        """A pattern of all keys."""
        return f"{self.prefix}:*"

    def _tagged(self, topic: str) -> str:
        return f"{self.prefix}:{{{topic.translate(_QUOTED)}}}"
