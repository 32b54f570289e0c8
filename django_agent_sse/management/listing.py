"""The topics of a log, however many there are, and how many are told."""

from __future__ import annotations

from collections.abc import Iterator

from ..eventlog.base import EventLog
from ..eventlog.records import TopicState

PAGE = 200


def topics_of(log: EventLog, prefix: str = "", *, internal: bool = False) -> Iterator[tuple[str, TopicState]]:
    """The topics whose names begin so, sorted, with their states; they are asked for page by page.

    Args:
        log: Where they are.
        prefix: What their names begin with.
        internal: The package's own instead of all others.
    """
    names = (name for name in log.internal_topics() if name.startswith(prefix)) if internal else _names(log, prefix)
    for name in names:
        state = log.state(name)
        if state.exists:  # it may have gone meanwhile
            yield name, state


def _names(log: EventLog, prefix: str) -> Iterator[str]:
    after = ""
    while names := log.topics(prefix, after=after, limit=PAGE):
        yield from names
        after = names[-1]


def several(number: int, thing: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
