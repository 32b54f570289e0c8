"""Looks at the open streams of this process: sums by route, and the rows that somebody asks for. From any thread."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...eventlog.backend import event_log
from ...eventlog.notify.notifier import notifier
from ...eventlog.position import MAX_ID
from ...exceptions import AgentSSEError
from ...streams.counters import RouteTally, tally
from ...streams.loop_state import OpenStream
from ...streams.registry import open_streams, registry
from .process import this_process
from .stats import Facts, Measure, RouteCounts, Row, Snapshot, State

SLOWEST_HEARTBEAT = 55
"""Seconds: load balancers and nginx close what was silent for 60."""
_ZERO = time.time() - time.monotonic()
"""When the loops' clock stood at 0, in seconds since 1970: the same for all reports, so that the order of rows never changes."""
TOPICS = 200
"""Topics whose readers one question gets at most."""
LONGEST_ID = 512
"""Characters of a stream's last id that are told: a position has fewer, what a handler writes as an id any number."""
ROWS = 100
"""Rows of one process that one question gets at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which streams somebody wants to see, and in which order.

    Attributes:
        route: Of this route only; so are ``user``, ``process`` (an id), ``state`` and ``stream`` (an id). Empty: of all.
        text: What the route, a topic, the user, the address or the user agent contains.
        readers: Not rows, but how many streams follow each topic that begins so.
        sort: A column; with a leading ``-`` the largest first.
    """

    route: str = ""
    user: str = ""
    process: str = ""
    state: str = ""
    stream: str = ""
    text: str = ""
    readers: str | None = None
    sort: str = "-opened"


SORTS: dict[str, Callable[[Facts, Measure], Any]] = {
    "route": lambda facts, measure: facts.route,
    "user": lambda facts, measure: facts.user,
    "opened": lambda facts, measure: measure.opened or 0.0,
    "events": lambda facts, measure: measure.events,
    "bytes": lambda facts, measure: measure.bytes,
    "lag": lambda facts, measure: measure.lag,
    "wrote": lambda facts, measure: measure.wrote,
    "state": lambda facts, measure: str(measure.state),
}


class Looker:
    """Looks again and again. Keeps what does not change about a stream while rows are asked for."""

    def __init__(self) -> None:
        self._facts: dict[int, Facts] = {}
        self._before: dict[str, tuple[int, int]] = {}

    def forget(self) -> None:
        """Nobody asks for rows."""
        self._facts = {}

    def snapshot(self, *, last: bool = False) -> Snapshot:
        """The process now."""
        sums: dict[str, list[int]] = {}
        slowest: dict[str, float | None] = {}
        for _, stream, measure in measured():
            one = sums.get(stream.route)
            if one is None:
                one = sums[stream.route] = [0] * 6
            one[0] += measure.state.connected
            one[1] += measure.state is State.STARTING
            one[2] += measure.state is State.LINGERING
            one[3] += measure.state is State.SLOW
            one[4] += measure.events
            one[5] += measure.bytes
            if not stream.heartbeat or stream.heartbeat > SLOWEST_HEARTBEAT:
                slowest[stream.route] = stream.heartbeat
        told = tally.copy()
        routes = {route: self._counts(route, told.get(route), sums.get(route)) for route in sorted({*told, *sums})}
        problems = _troubles()
        if slowest:
            route, seconds = next(iter(slowest.items()))
            problems["heartbeat"] = f"{route}: {f'{seconds:g} s' if seconds else 'none'}"
        about = {"draining": registry.draining, "last": last}
        return Snapshot(process=this_process(), at=time.time(), routes=routes, problems=problems, **about)

    def _counts(self, route: str, over: RouteTally | None, now: list[int] | None) -> RouteCounts:
        over, now = over or RouteTally(), now or [0] * 6
        # A stream that ends just now may be in neither sum: what is counted never goes down.
        before = self._before.get(route, (0, 0))
        events, size = max(before[0], over.events + now[4]), max(before[1], over.bytes + now[5])
        self._before[route] = events, size
        return RouteCounts(
            open=now[0],
            starting=now[1],
            lingering=now[2],
            slow=now[3],
            opened=over.opened,
            endings=dict(over.endings),
            refused=dict(over.refused),
            events=events,
            bytes=size,
            seconds=round(over.seconds, 3),
            durations=tuple(over.durations),
        )

    def rows(self, question: Question) -> tuple[list[Row], int]:
        """The first ``ROWS`` that fit, and how many do."""
        if question.readers is not None or (question.process and question.process != this_process().id):
            return [], 0
        found = [one for one in self._all() if fits(question, *one)]
        key = SORTS.get(question.sort.lstrip("-"), SORTS["opened"])
        pick = heapq.nlargest if question.sort.startswith("-") else heapq.nsmallest
        first = pick(ROWS, found, key=lambda one: key(one[2], one[3]))
        return [_row(*one) for one in first], len(found)

    def readers(self, prefix: str) -> tuple[dict[str, int], int]:
        """How many streams follow each topic that begins so, of the ``TOPICS`` with the most; and how many topics there are."""
        counts = Counter(topic for stream in open_streams() for topic in stream.topics if topic.startswith(prefix))
        return dict(counts.most_common(TOPICS)), len(counts)

    def find(self, question: Question) -> list[OpenStream]:
        """Every stream that fits."""
        return [one[1] for one in self._all() if fits(question, *one)]

    def _all(self) -> Iterator[tuple[float, OpenStream, Facts, Measure]]:
        known, self._facts = self._facts, {}
        for now, stream, measure in measured():
            facts = self._facts[stream.number] = known.get(stream.number) or stream.facts()
            yield now, stream, facts, measure


def measured() -> Iterator[tuple[float, OpenStream, Measure]]:
    """Each stream of each loop, with the loop's time."""
    for mine in registry.loops():
        now = mine.loop.time()
        for stream in tuple(mine.streams):
            yield now, stream, stream.measure(now)


def fits(question: Question, now: float, stream: OpenStream, facts: Facts, measure: Measure) -> bool:
    """Whether somebody asked for this stream."""
    if question.stream and id_of(stream) != question.stream:
        return False
    if question.route and facts.route != question.route:
        return False
    if question.user and facts.user != question.user:
        return False
    if question.state and measure.state != question.state:
        return False
    if not question.text:
        return True
    part = question.text.lower()
    texts = (facts.route, facts.user, facts.address, facts.agent, *stream.topics)
    return any(part in text.lower() for text in texts)


def id_of(stream: OpenStream) -> str:
    """The name of a stream among those of all processes."""
    return f"{this_process().id}.{stream.number}"


def _row(now: float, stream: OpenStream, facts: Facts, measure: Measure) -> Row:
    seconds = 0.0 if measure.opened is None else max(0.0, now - measure.opened)
    return Row(
        id=id_of(stream),
        route=facts.route,
        topics=tuple(stream.topics),
        user=facts.user,
        opened=round(_ZERO + (now if measure.opened is None else measure.opened), 3),
        seconds=round(seconds, 3),
        events=measure.events,
        bytes=measure.bytes,
        last_id=None if stream.last_id is None else stream.last_id[:MAX_ID],
        lag=measure.lag,
        idle=round(max(0.0, now - measure.wrote), 3) if measure.opened is not None else 0.0,
        address=facts.address,
        agent=facts.agent,
        process=this_process().id,
        state=str(measure.state),
    )


def _troubles() -> dict[str, str]:
    """What keeps news from coming in, by what it is."""
    problems = {**notifier.troubles()}
    with contextlib.suppress(AgentSSEError):  # a check says it
        own = event_log().notifier
        if own is not None and own.trouble:
            problems["doorbell"] = own.trouble
    return problems
