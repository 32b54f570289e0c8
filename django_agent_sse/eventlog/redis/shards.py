"""Which of several servers keeps a topic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256


def shard_of(topic: str, nodes: tuple[str, ...]) -> int:
    """The place in ``nodes`` of the server for a topic, by highest random weight (Thaler and Ravishankar, 1998).

    It depends on the names of the nodes only, not on their order: one that is added takes its share from all others and moves
    nothing else; the topics of one that is removed are dealt out to the rest.
    """
    return 0 if len(nodes) == 1 else _heaviest(topic, nodes)


@lru_cache(maxsize=16_384)
def _heaviest(topic: str, nodes: Sequence[str]) -> int:
    return max(range(len(nodes)), key=lambda place: sha256(f"{nodes[place]} {topic}".encode()).digest())
