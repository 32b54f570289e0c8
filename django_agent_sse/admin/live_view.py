"""What the page of live streams shows at one moment, for one viewer: the same in its HTML and in the events that renew it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.http import HttpRequest, QueryDict

from django_agent_sse.contrib.monitor.cluster import READ, Picture, Seen, board
from django_agent_sse.contrib.monitor.inspector import ROWS, SORTS, Question
from django_agent_sse.contrib.monitor.stats import Row, State
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.eventlog.position import Position
from django_agent_sse.eventlog.vector import parse_vector
from django_agent_sse.exceptions import AgentSSEError

from . import formatting, health

CARDS = (
    ("open", "Open streams", "open"),
    ("events", "Events a second", "events"),
    ("bytes", "Bytes a second", "bytes"),
    ("slow", "Slow clients", "slow"),
    ("refused", "Refused, 5 min", "refused"),
    ("errors", "Errors, 5 min", "errors"),
    ("processes", "Processes", "processes"),
)
PAUSE = 0.15
HIDDEN_ID = "hidden"
"""What stands for an id that a handler wrote, for who may not see payloads."""


def question_of(query: QueryDict) -> Question:
    """What the page's address asks for; what makes no sense asks for nothing."""
    given = {name: query.get(name, "")[:200] for name in ("route", "user", "process", "text")}
    state = query.get("state", "")
    sort = query.get("sort", "-opened")
    return Question(
        **given,
        state=state if state in {*State} else "",
        sort=sort if sort.removeprefix("-") in SORTS else "-opened",
    )


@dataclass(slots=True)
class Viewer:
    """Who looks, and at what.

    Attributes:
        question: The filters and the order.
        user: The primary key of who looks, as text.
        sees_payloads: Whether ids that handlers wrote are shown.
        closes: Whether streams can be closed.
        missing: Processes that have not told their rows yet.
    """

    question: Question
    user: str
    sees_payloads: bool
    closes: bool
    missing: int = 0
    _names: dict[str, str] = field(default_factory=dict)

    async def look_first(self, request: HttpRequest, seconds: float) -> dict[str, Any]:
        """The same for a page that begins: waits so long, at most, until every process has told its rows."""
        until = time.monotonic() + seconds
        while True:
            found = await self.look(request, within=PAUSE)
            if not self.missing or time.monotonic() > until:
                return found
            await asyncio.sleep(PAUSE)

    async def look(self, request: HttpRequest, within: float = READ) -> dict[str, Any]:
        """Everything that changes on the page."""
        trouble = ""
        try:
            await board.ask(self.question)
        except AgentSSEError as error:
            trouble = public_words(error)
        picture = await board.look(within)
        rows, matched, self.missing = board.rows(self.question)
        await self._name({row.user for row in rows[:ROWS]})
        processes = {seen.snapshot.process.id: seen.snapshot.process.name for seen in picture.processes}
        return {
            "at": formatting.clock(picture.at),
            "cards": self._cards(picture),
            "rows": [self._row(row, processes) for row in rows[:ROWS]],
            "summary": _summary(min(len(rows), ROWS), matched, picture.total("open"), self.missing),
            "processes": [_process(seen) for seen in picture.processes],
            "routes": sorted({route for snapshot in picture.counted for route in snapshot.routes}),
            "findings": [_finding(one) for one in health.findings(request, picture)],
            "trouble": trouble,
        }

    def _cards(self, picture: Picture) -> list[dict[str, str]]:
        values = {
            "open": formatting.number(picture.total("open")),
            "events": formatting.number(picture.rates["events"]),
            "bytes": formatting.size(picture.rates["bytes"]),
            "slow": formatting.number(picture.total("slow")),
            "refused": formatting.number(sum(picture.series["refused"])),
            "errors": formatting.number(sum(picture.series["errors"])),
            "processes": formatting.number(len(picture.counted)),
        }
        cards = []
        for key, label, series in CARDS:
            line, area = formatting.spark(picture.series[series])
            alarm = "1" if key in ("slow", "errors", "refused") and values[key] != "0" else ""
            cards.append({"key": key, "label": label, "value": values[key], "line": line, "area": area, "alarm": alarm})
        return cards

    def _row(self, row: Row, processes: Mapping[str, str]) -> dict[str, Any]:
        return {
            "id": row.id,
            "you": bool(row.user) and row.user == self.user,
            "route": row.route,
            "topics": ", ".join(row.topics),
            "user": self._names.get(row.user, row.user) if row.user else "anonymous",
            "user_id": row.user,
            "opened": formatting.clock(row.opened),
            "duration": formatting.span(row.seconds),
            "events": formatting.number(row.events),
            "bytes": formatting.size(row.bytes),
            "last_id": self._id(row.last_id),
            "lag": formatting.number(row.lag),
            "wrote": f"{formatting.span(row.idle)} ago",
            "address": row.address,
            "agent": row.agent,
            "process": processes.get(row.process, row.process),
            "state": row.state,
        }

    def _id(self, last_id: str | None) -> str:
        """Positions are the log's own; what a handler wrote as an id may be anything."""
        if last_id is None or self.sees_payloads:
            return last_id or ""
        return last_id if Position.parse(last_id) is not None or parse_vector(last_id) else HIDDEN_ID

    async def _name(self, users: Iterable[str]) -> None:
        """Look up the names of those who have none yet, with one query."""
        unknown = [user for user in users if user and user not in self._names]
        if unknown:
            self._names |= await sync_to_async(names_of)(unknown)


def names_of(users: Iterable[str]) -> dict[str, str]:
    """The names of users by their primary keys as text; those that are no users keep what they are."""
    model = get_user_model()
    found = {user: user for user in users}
    keys = {}
    for user in found:
        try:
            keys[model._meta.pk.to_python(user)] = user
        except Exception:  # it is of no user: "app.model:key"
            continue
    for one in model._default_manager.filter(pk__in=keys):
        found[keys[one.pk]] = one.get_username()
    return found


def _summary(listed: int, matched: int, total: int, missing: int) -> str:
    told = (
        f"{formatting.number(matched)} of {formatting.number(total)} streams"
        if matched != total
        else f"{formatting.number(total)} streams"
    )
    if listed < matched:
        told += f", the first {listed} are shown: search, or filter"
    return f"{told}; {missing} {'process has' if missing == 1 else 'processes have'} not answered yet" if missing else told


def _process(seen: Seen) -> dict[str, Any]:
    snapshot = seen.snapshot
    return {
        "id": snapshot.process.id,
        "name": snapshot.process.name,
        "since": formatting.clock(snapshot.process.since),
        "open": formatting.number(snapshot.total("open")) if seen.state != "gone" else "–",
        "slow": formatting.number(snapshot.total("slow")) if seen.state != "gone" else "–",
        "opened": formatting.number(snapshot.total("opened")),
        "reported": f"{formatting.span(seen.age)} ago",
        "state": "draining" if snapshot.draining and seen.state == "reporting" else seen.state,
    }


def _finding(one: health.Finding) -> dict[str, str]:
    return {"key": one.key, "title": one.title, "mend": one.mend, "level": one.level}
