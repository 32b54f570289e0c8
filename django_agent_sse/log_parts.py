"""Parts of a log as JSON, and what a search finds in it: what ``range/`` answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from .encoding import SLICE, encode_json, json_slices
from .eventlog.backend import event_log
from .eventlog.base import PAGE_BYTES, EventLog
from .eventlog.level_counts import counts
from .eventlog.line_matcher import LineMatcher, LineQuery
from .eventlog.outage import outage
from .eventlog.position import MAX_OFFSET, Position
from .eventlog.records import Page, Record
from .eventlog.search import BYTES, MOST_CONTEXT, Budget, Search
from .exceptions import EventLogUnavailable, QueryInvalid
from .runtime.pools import Pool, where_waited_for
from .stream_calls import UNREADABLE
from .streams.context import Context
from .streams.error_responses import error_body
from .streams.topic_access import check_follow_access
from .streams.topic_source import Map
from .views import SSEView
from .wire import Event

MAX_COUNT = 5000
"""Events of one answer with a part of a log."""
COUNT = 1000
MOST_MATCHES: Final = 1000
MATCHES: Final = 100
MOST_PLACES: Final = 50_000
"""Matches of an answer that says no more than where they are."""
RETRY_AFTER = 5
"""Seconds after which to ask again where the log cannot be read."""
WAITING: Final = 16
"""Searches that wait for their turn: a process does one at a time."""
BUSY_RETRY_AFTER: Final = 1
_SEARCHED: Final = ("grep", "level", "source")

searchers: Final = Pool("sse-log-search", 1)
T = TypeVar("T")


class RangeView(SSEView):
    """Parts of a log as JSON."""

    def _takes_place(self, request: HttpRequest) -> bool:
        return False

    def _wrap_response(self, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["Content-Type"] = "application/json"
        return response


class Busy(Exception):
    """Too many searches wait."""


async def answer_part(c: Context, topic: str, show: Map | None) -> HttpResponseBase:
    """Answer with events by their numbers, or with those that a search finds."""
    await check_follow_access(c, [topic])
    log, query = event_log(), c.query
    levels = flag(query, "levels", False)
    try:
        if any(query.get(name) for name in _SEARCHED):
            about, pieces = await _searched(log, query, topic, show)
        else:
            about, pieces = await _read(log, query, topic, show)
        if levels:
            about["levels"] = (await in_turn(lambda: counts.of(log, topic, Budget())))._asdict()
    except EventLogUnavailable as error:
        outage.failed(error, [topic])
        return c.json(error_body(503, UNREADABLE), status=503, headers={"Retry-After": str(RETRY_AFTER)})
    except Busy:
        message = f"{WAITING} searches wait already"
        return c.json(error_body(503, message), status=503, headers={"Retry-After": str(BUSY_RETRY_AFTER)})
    outage.recovered([topic])
    how: dict[str, Any] = {"content_type": "application/json", "headers": {"Cache-Control": "no-store"}}
    whole = _whole(about, [(head, event) for head, event in pieces if event is not None])
    if any(event is not None and len(event.data) > SLICE for _, event in pieces):
        return StreamingHttpResponse(_in_turns(whole), **how)
    return HttpResponse("".join(whole), **how)


_Pieces = list[tuple[dict[str, Any], Event | None]]


async def _read(log: EventLog, query: Mapping[str, str], topic: str, show: Map | None) -> tuple[dict[str, Any], _Pieces]:
    """Return events by their numbers."""
    if "before" in query or "after" in query:
        return await _read_beside(log, query, topic, show)
    first = number(query, "from", 1)
    count = number(query, "count", COUNT)
    if not first or not 1 <= count <= MAX_COUNT:
        raise QueryInvalid(
            f"from={first}&count={count}: from is the number of an event, from 1, or how many from the end as -100; count is 1 "
            f"to {MAX_COUNT}"
        )
    after = first - 1 if first > 0 else max(0, (await log.astate(topic)).top + first)
    page = await log.aread_after(topic, after, count)
    return _about(page), [_piece(page.epoch, record, show) for record in page.records]


async def _read_beside(log: EventLog, query: Mapping[str, str], topic: str, show: Map | None) -> tuple[dict[str, Any], _Pieces]:
    """Return the events nearest to a place."""
    back, place = _direction(query)
    count = number(query, "count", COUNT)
    if not 1 <= count <= MAX_COUNT:
        raise QueryInvalid(f"count={count}: how many events, 1 to {MAX_COUNT}")
    state = await log.astate(topic)
    place = state.top + 1 if place is None else min(place, state.top + 1)
    while True:
        page = await log.aread_after(
            topic, max(0, place - 1 - count) if back else place, min(count, place - 1) if back else count
        )
        if not back or not page.records or page.records[-1].offset >= place - 1:
            break
        count = min(len(page.records), max(1, count // 2))  # its size cut it: the nearest ones may be as large
    records = [record for record in page.records if not back or record.offset < place]
    edge = (records[0].offset if back else records[-1].offset) if records else None
    over = edge is None or (edge <= page.floor + 1 if back else edge >= page.top)
    about = {**_about(page), "next": None if over else {"before" if back else "after": edge}}
    return about, [_piece(page.epoch, record, show) for record in records]


async def _searched(log: EventLog, query: Mapping[str, str], topic: str, show: Map | None) -> tuple[dict[str, Any], _Pieces]:
    """Return the lines that a search finds, as far as one request looks."""
    names = [name for name in query.get("level", "").split(",") if name]
    wanted = LineQuery(
        text=query.get("grep", ""),
        regex=flag(query, "regex", False),
        case=flag(query, "case", False),
        levels=frozenset(names),  # type: ignore[arg-type]  # it is checked there
        source=query.get("source") or None,  # type: ignore[arg-type]
    )
    limit, context = number(query, "limit", MATCHES), number(query, "context", 0)
    places = flag(query, "places", False)
    most, around = (MOST_PLACES, 0) if places else (MOST_MATCHES, MOST_CONTEXT)
    if not 1 <= limit <= most or not 0 <= context <= around:
        raise QueryInvalid(f"limit={limit}&context={context}: limit is 1 to {most}, context 0 to {around}")
    back, place = _direction(query)
    how = {"place": place, "back": back, "show": show, "room": BYTES if places else PAGE_BYTES}
    return await in_turn(partial(_search, log, topic, wanted, limit, context, how, places))


def _search(
    log: EventLog, topic: str, query: LineQuery, limit: int, context: int, how: dict[str, Any], places: bool
) -> tuple[dict[str, Any], _Pieces]:
    with LineMatcher(query) as matcher:
        result = Search(log, topic, matcher, budget=Budget(), **how).run(limit, context)
        times = matcher.times([(found.record.event, found.lines) for found in result.found]) if places else []
    first, last = result.scanned or (None, None)
    about = {
        **_about(result.page),
        "matches": sum(bool(found.lines) for found in result.found),
        "scanned": None if result.scanned is None else {"first": first, "last": last},
        "next": None if result.place is None else {"before" if how["back"] else "after": result.place},
    }
    if places:
        return {**about, "offsets": [found.record.offset for found in result.found], "counts": times}, []
    pieces = []
    for found in result.found:
        head, event = _piece(result.page.epoch, found.record, None)
        head["match"] = bool(found.lines)
        if (level := found.level) is not None:
            head["level"] = level
        if found.lines and "\n" in found.record.event.data:
            head["lines"] = found.lines
        pieces.append((head, event))
    return about, pieces


async def in_turn(body: Callable[[], T]) -> T:
    """Run it on the thread for searches, of which there is one: whoever else reads the log does not wait for it."""
    if _turns.waiting >= WAITING:
        raise Busy
    _turns.waiting += 1
    try:
        return await where_waited_for(body, searchers)
    finally:
        _turns.waiting -= 1


class _Turns:
    waiting = 0


_turns = _Turns()


def _direction(query: Mapping[str, str]) -> tuple[bool, int | None]:
    """Return whether to look backwards, and from where."""
    back = "after" not in query
    if not back and "before" in query:
        raise QueryInvalid("before= and after= are two directions: give one")
    name = "before" if back else "after"
    place = number(query, name, -1)
    if place < 0 and query.get(name):
        raise QueryInvalid(f"{name}={place}: it is the number of an event")
    return back, None if place < 0 and back else max(0, place)


# JSON


def _about(page: Page) -> dict[str, Any]:
    return {"epoch": page.epoch, "floor": page.floor, "top": page.top, "closed": page.closed}


def _piece(epoch: str, record: Record, show: Map | None) -> tuple[dict[str, Any], Event | None]:
    event = record.event if show is None else show(record.event)
    head = {"offset": record.offset, "id": str(Position(epoch, record.offset)), "event": None, "at": record.at}
    return head, event if isinstance(event, Event) else None


async def _in_turns(pieces: Iterable[str]) -> AsyncIterator[bytes]:
    """Yield pieces as bytes, and let other tasks run after each long one."""
    for piece in pieces:
        yield piece.encode()
        if len(piece) >= SLICE:
            await asyncio.sleep(0)


def _whole(about: dict[str, Any], records: Iterable[tuple[dict[str, Any], Event]]) -> Iterator[str]:
    """Yield the pieces of an answer as JSON: the topic's state, and records."""
    yield f'{encode_json(about)[:-1]},"records":['
    comma = ""
    for head, event in records:
        yield f'{comma}{encode_json({**head, "event": event.event})[:-1]},"data":'
        yield from json_slices(event.data)
        yield "}"
        comma = ","
    yield "]}"


# Parameters


def number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    """Return a whole number of the query."""
    text = query.get(name, "")
    if text == "":
        return otherwise
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or abs(int(text)) > MAX_OFFSET:
        raise QueryInvalid(f"{name}= is not a whole number")
    return int(text)


def flag(query: Mapping[str, str], name: str, otherwise: bool) -> bool:
    """Return a 0 or 1 of the query."""
    text = query.get(name, "")
    if text not in ("", "0", "1"):
        raise QueryInvalid(f"{name}= is neither 0 nor 1")
    return text == "1" if text else otherwise
