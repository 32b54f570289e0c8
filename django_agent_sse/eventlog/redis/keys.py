"""The names of everything that the log has in Redis, made here and nowhere else."""

from __future__ import annotations

import re
from hashlib import sha256

from ... import conf
from ...exceptions import ConfigurationError

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_QUOTED = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})


class Keys:
    """Names that begin with ``prefix``. All of one topic have the topic's name as their hash tag, and so the same slot.

    Attributes:
        names: The sorted set of all topics' names, for lists of them.
        recent: The same by the time of an event, which may be out of date: to find the one that is longest without.
        closed: The sorted set of the closed topics by the time of their end.
        everything: A pattern of all keys.

    Raises:
        ConfigurationError: The prefix holds something else than letters, digits and ``_ . : -``.
    """

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS']['prefix'] is {conf.shown(prefix)}; it is 1 to 100 letters, digits and _ . : -"
            )
        self.prefix = prefix
        self.names = f"{prefix}:topics"
        self.recent = f"{prefix}:topics:recent"
        self.closed = f"{prefix}:topics:closed"
        self.everything = f"{prefix}:*"

    def topic(self, topic: str) -> tuple[str, str]:
        """Return the hash that says where the topic is, and the stream of its events."""
        tagged = self._tagged(topic)
        return f"{tagged}:meta", f"{tagged}:log"

    def once(self, topic: str, key: str) -> str:
        """Return what stands for an idempotency key of a topic; its text is hashed, for it may be anything."""
        return f"{self._tagged(topic)}:once:{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"

    def pointer(self, name: str) -> str:
        """Where a pointer leads."""
        return f"{self._tagged(name)}:pointer"

    def channel(self, topic: str) -> str:
        """Return the channel on which a topic's notifications go out."""
        return f"{self._tagged(topic)}:notify"

    def probe(self, name: str) -> str:
        """Return the channel on which a process sends messages to itself."""
        return f"{self.prefix}:probe:{name}"

    def _tagged(self, topic: str) -> str:
        return f"{self.prefix}:{{{topic.translate(_QUOTED)}}}"
