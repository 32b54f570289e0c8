"""The topics of a log, however many there are."""

from __future__ import annotations

from collections.abc import Iterator

from ..eventlog.base import EventLog
from ..eventlog.records import TopicState

PAGE = 200


def topics_of(log: EventLog, prefix: str = "") -> Iterator[tuple[str, TopicState]]:
    """The topics whose names begin so, sorted, with their states; they are asked for page by page."""
    after = ""
    while names := log.topics(prefix, after=after, limit=PAGE):
        for name in names:
            state = log.state(name)
            if state.exists:  # it may have gone meanwhile
                yield name, state
        after = names[-1]
