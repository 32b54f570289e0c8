"""What this process tells of its open streams: the rows that somebody asks for, and who reads which topic. From any thread."""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings

from ...eventlog.position import MAX_ID
from ...runs.keeper import keeper
from ...runtime.safe_text import printable, without_run_id
from ...streams.admission import admission
from ...streams.client import monitor_options, shown_address
from ...streams.counters import counters
from ...streams.registry import OpenStream, StreamInfo, StreamStats, open_streams
from ...streams.snapshot import Snapshot, Snapshots, open_stats, this_process

_ZERO = time.time() - time.monotonic()
"""When the loops' clock stood at 0, in seconds since 1970: the same for all reports, so that the order of rows never changes."""
TOPICS = 200
"""Topics whose readers one answer has at most."""
ROWS = 100
"""Rows of one process that one answer has at most."""
FILE_ROWS = 500
"""The same of an answer for a file, which is given once."""
FILE_TEXT = 100_000
"""Characters of texts after which such an answer ends: topics and user agents may be long, and an event of the log may not."""
RUNS = 100
"""Runs of one process that one answer has at most."""
REFUSED = 20
"""Users and addresses that were refused, of which one answer has at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamQuery:
    """Which streams somebody wants to see, and in which order.

    Attributes:
        route: Of this route only; so are ``user``, ``process`` (an id), ``state`` and ``stream`` (an id). Empty: of all.
        anonymous: Of nobody who is signed in.
        text: What the route, a topic, the user, the address or the user agent contains; or it is of one of ``users``.
        readers: Not rows, but how many streams follow each topic that begins so.
        sort: A column; with a leading ``-`` the largest first.
        after: For a file: the first ``FILE_ROWS`` in the order of their numbers whose number is larger, whatever ``sort`` says.
        whole: ``text`` is looked for in whole names of topics, and not only in what is shown of them to who may not see the ids
            of runs: they could be guessed, letter by letter.
    """

    route: str = ""
    user: str = ""
    anonymous: bool = False
    process: str = ""
    state: str = ""
    stream: str = ""
    text: str = ""
    readers: str | None = None
    sort: str = "-opened"
    after: int | None = None
    whole: bool = True
    users: tuple[str, ...] = ()


class StreamRow(NamedTuple):
    """One open stream as the monitor lists it; ``seconds`` open, ``idle`` since the last write.

    ``buffered`` bytes wait for the client; a send waits for it since ``stalled`` seconds, and ``patience`` more are left to it
    (0 where nothing ends it).
    """

    id: str
    route: str
    topics: tuple[str, ...]
    user: str
    opened: float
    seconds: float
    events: int
    bytes: int
    last_id: str | None
    lag: int
    idle: float
    address: str
    agent: str
    process: str
    state: str
    buffered: int = 0
    stalled: float = 0.0
    patience: float = 0.0


class RunRow(NamedTuple):
    """One run that goes on in this process."""

    topic: str
    id: str


class RefusedRow(NamedTuple):
    """Who was refused streams, why, and how often since the process began. A user by a primary key, an address as shown."""

    reason: str
    user: str
    address: str
    times: int


class LimitRow(NamedTuple):
    """Who has how much of a limit in one process. A user by a primary key, an address as shown."""

    limit: str
    user: str
    of: str
    open: int
    most: int


class Answer(NamedTuple):
    """What one process answers to one query, at a time in seconds since 1970.

    Attributes:
        rows: The first ``ROWS`` that fit; ``FILE_ROWS`` for a file.
        matched: How many fit; of topics with readers, how many there are.
        readers: Those of ``TOPICS`` topics.
        runs: Those that go on, ``RUNS`` of them.
        refused: Who was refused the most often, ``REFUSED`` of them.
        limits: Who meets limits, or is near them, ``REFUSED`` of them.
    """

    rows: list[StreamRow]
    matched: int
    readers: Mapping[str, int]
    runs: list[RunRow]
    refused: list[RefusedRow]
    limits: list[LimitRow]
    at: float


SORTS = ("route", "user", "opened", "events", "bytes", "lag", "wrote", "state", "buffered")
"""The columns by which rows can be sorted."""


class StreamInspector(Snapshots):
    """Looks at the open streams again and again. Keeps what does not change about each while rows are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._infos: dict[int, StreamInfo] = {}

    def snapshot(self, *, idle: bool = False, last: bool = False) -> Snapshot:
        """Return the process as it is now, with its runs."""
        return dataclasses.replace(super().snapshot(idle=idle, last=last), running=len(keeper.running()))

    def forget(self) -> None:
        """Free what is kept of each stream: nobody asks for rows."""
        self._infos = {}

    def rows(self, query: StreamQuery) -> tuple[list[StreamRow], int]:
        """Return the first ``ROWS`` that fit, and how many do; for a file the next ``FILE_ROWS``, and how many are left."""
        if query.process not in ("", this_process().id):
            return [], 0
        matches = [match for match in self._all() if fits(query, *match[1:])]
        if (after := query.after) is not None:
            later = [match for match in matches if match[1].number > after]
            return _for_a_file(heapq.nsmallest(FILE_ROWS, later, key=lambda match: match[1].number)), len(later)
        column = query.sort.lstrip("-")
        column = column if column in SORTS else "opened"

        def key(match: tuple[float, OpenStream, StreamInfo, StreamStats]) -> Any:
            value = getattr(match[2] if column in ("route", "user") else match[3], column)
            return 0.0 if value is None else value  # not opened yet

        pick = heapq.nlargest if query.sort.startswith("-") else heapq.nsmallest
        first = pick(ROWS, matches, key=key)
        return [_row(*match) for match in first], len(matches)

    def answer(self, query: StreamQuery) -> Answer:
        """Return what this process answers: rows, runs and who was refused; or who reads the topics that a query asks for."""
        prefix = query.readers
        if prefix is None:
            refused = [RefusedRow(*row) for row in counters.refused_most(REFUSED)]
            runs = [RunRow(run.topic, run.id) for run in keeper.running()[:RUNS]]
            return Answer(*self.rows(query), {}, runs, refused, limit_rows(), time.time())
        counts = Counter(topic for stream in open_streams() for topic in stream.topics if topic.startswith(prefix))
        return Answer([], len(counts), dict(counts.most_common(TOPICS)), [], [], [], time.time())

    def find(self, query: StreamQuery) -> list[OpenStream]:
        return [match[1] for match in self._all() if fits(query, *match[1:])]

    def _all(self) -> Iterator[tuple[float, OpenStream, StreamInfo, StreamStats]]:
        # Rebuilt on each look, so that what is over is dropped without being told.
        known, self._infos = self._infos, {}
        for now, stream, stats in open_stats():
            info = self._infos[stream.number] = known.get(stream.number) or stream.info()
            yield now, stream, info, stats


def limit_rows() -> list[LimitRow]:
    """Return who meets limits of this process, or is near them."""
    options, own = monitor_options(), f"{settings.AUTH_USER_MODEL.lower()}:"
    rows = []
    for use in admission.meetings(REFUSED):
        of = shown_address(use.of, options) if use.limit == "address" else use.of
        user, of = (of.removeprefix(own), "") if use.limit == "user" else ("", of)
        rows.append(LimitRow(use.limit, printable(user, 2000), printable(of, 1000), use.open, use.most))
    return rows


def fits(query: StreamQuery, stream: OpenStream, info: StreamInfo, stats: StreamStats) -> bool:
    if (query.stream and id_of(stream) != query.stream) or (query.route and info.route != query.route):
        return False
    if query.anonymous and info.user:
        return False
    if (query.user and info.user != query.user) or (query.state and stats.state != query.state):
        return False
    part = query.text.lower()
    if not part or info.user in query.users:
        return True
    topics = stream.topics if query.whole else map(without_run_id, stream.topics)
    return any(part in text.lower() for text in (info.route, info.user, info.address, info.agent, *topics))


def id_of(stream: OpenStream) -> str:
    return f"{this_process().id}.{stream.number}"


def _for_a_file(matches: Iterable[tuple[float, OpenStream, StreamInfo, StreamStats]]) -> list[StreamRow]:
    rows, text = list[StreamRow](), 0
    for match in matches:
        rows.append(row := _row(*match))
        text += len(row.route) + len(row.agent) + len(row.last_id or "") + sum(map(len, row.topics))
        if text > FILE_TEXT:
            break
    return rows


def _row(now: float, stream: OpenStream, info: StreamInfo, stats: StreamStats) -> StreamRow:
    seconds = 0.0 if stats.opened is None else max(0.0, now - stats.opened)
    stalled = 0.0 if stats.stalled is None else max(0.0, now - stats.stalled)
    last_id = stream.last_id  # read once: on its own thread the stream may be over the next moment
    return StreamRow(
        id=id_of(stream),
        route=info.route,
        topics=tuple(stream.topics),
        user=info.user,
        opened=round(_ZERO + (now if stats.opened is None else stats.opened), 3),
        seconds=round(seconds, 3),
        events=stats.events,
        bytes=stats.bytes,
        last_id=None if last_id is None else last_id[:MAX_ID],
        lag=stats.lag,
        idle=round(max(0.0, now - stats.wrote), 3) if stats.opened is not None else 0.0,
        address=info.address,
        agent=info.agent,
        process=this_process().id,
        state=str(stats.state),
        buffered=stats.buffered,
        stalled=round(stalled, 3),
        patience=round(max(0.0, info.patience - stalled), 3) if info.patience and stalled else 0.0,
    )
