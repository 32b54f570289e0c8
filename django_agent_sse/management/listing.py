"""The topics of a log, however many there are, and how many are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ..eventlog.base import EventLog
from ..eventlog.records import TopicState
from ..runs.state import RunState, run_states

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


def with_runs(log: EventLog, topics: Iterable[tuple[str, TopicState]]) -> Iterator[tuple[str, TopicState, RunState | None]]:
    """The same topics, each with its run, if one writes it or has. One whose process has died is closed as lost on the way."""
    topics = iter(topics)
    while page := [*islice(topics, PAGE)]:
        runs = run_states(log, [name for name, _ in page])
        for name, state in page:
            run = runs.get(name)
            ended = run is not None and run.ending is not None and state.closed is None
            yield name, log.state(name) if ended else state, run


def _names(log: EventLog, prefix: str) -> Iterator[str]:
    after = ""
    while names := log.topics(prefix, after=after, limit=PAGE):
        yield from names
        after = names[-1]


def several(number: int, thing: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
