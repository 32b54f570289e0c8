"""The place where an app tells the rest of the package what other processes hold. Nobody does, unless an app is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """How many streams follow topics.

    Attributes:
        counts: Of each process: the counts, and whether these are of all topics that it has readers of.
        missing: Processes that have not answered in time.
        limit: Topics of which one process tells at most.
    """

    counts: tuple[tuple[Mapping[str, int], bool], ...] = ()
    missing: int = 0
    limit: int = 0

    def of(self, topic: str) -> int | None:
        """Return those of one topic; ``None`` where a process may have more than it told of."""
        if self.missing or any(not whole and topic not in counts for counts, whole in self.counts):
            return None
        return sum(counts.get(topic, 0) for counts, _ in self.counts)


class Cluster(Protocol):
    """What knows of the streams of all processes."""

    async def processes(self) -> tuple[Sequence[Snapshot], Mapping[str, int]]:
        """Return every process that counts, this one as it is now, and how many are in which state."""

    async def readers(self, prefix: str) -> Readers:
        """Return how many streams of all processes follow each topic whose name begins so.

        Raises:
            EventLogError: The log that processes talk through cannot be used.
        """


_installed: Cluster | None = None


def install(cluster: Cluster | None) -> None:
    """Have the rest of the package ask this from now on; ``None``: nobody."""
    global _installed
    _installed = cluster


def cluster() -> Cluster | None:
    """Return what was installed."""
    return _installed
