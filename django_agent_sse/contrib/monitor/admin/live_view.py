"""What the page of live streams shows one viewer at one moment: the same in its HTML and in the events that renew it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.http import HttpRequest, QueryDict

from django_agent_sse.eventlog.position import Position, parse_vector
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime import formatting
from django_agent_sse.streams.registry import State

from ..cluster import FRESH_SECONDS, ClusterSnapshot, ProcessStatus, cluster_view
from ..inspector import ROWS, SORTS, StreamQuery, StreamRow
from . import health

CARDS = (
    ("open", "Open streams", "open"),
    ("events", "Events a second", "events"),
    ("bytes", "Bytes a second", "bytes"),
    ("slow", "Slow clients", "slow"),
    ("refused", "Refused, 5 min", "refused"),
    ("errors", "Errors, 5 min", "errors"),
    ("processes", "Processes", "processes"),
)
RETRY_INTERVAL = 0.15
"""Seconds between two looks of a page that waits for rows."""
HIDDEN_ID = "hidden"
"""What stands for an id that a handler wrote, for who may not see payloads."""


def query_of(asked: QueryDict) -> StreamQuery:
    """Return what the page's address asks for; what makes no sense asks for nothing."""
    filters = {name: asked.get(name, "")[:200] for name in ("route", "user", "process", "text")}
    state = asked.get("state", "")
    sort = asked.get("sort", "-opened")
    return StreamQuery(
        **filters,
        state=state if state in {*State} else "",
        sort=sort if sort.removeprefix("-") in SORTS else "-opened",
    )


@dataclass(slots=True)
class Viewer:
    """Who looks, and at what.

    Attributes:
        query: The filters and the order.
        user: The primary key of who looks, as text.
        sees_payloads: Whether ids that handlers wrote are shown.
        closes: Whether streams can be closed.
        missing: Processes that have not told their rows yet.
    """

    query: StreamQuery
    user: str
    sees_payloads: bool
    closes: bool
    missing: int = 0
    _names: dict[str, str] = field(default_factory=dict)

    async def look_first(self, request: HttpRequest, seconds: float) -> dict[str, Any]:
        """Return the same for a new page: wait so long, at most, until every process has sent its rows."""
        until = time.monotonic() + seconds
        while True:
            shown = await self.look(request, within=RETRY_INTERVAL)
            if not self.missing or time.monotonic() > until:
                return shown
            await asyncio.sleep(RETRY_INTERVAL)

    async def look(self, request: HttpRequest, within: float = FRESH_SECONDS) -> dict[str, Any]:
        """Return everything that changes on the page."""
        with contextlib.suppress(AgentSSEError):  # the page says who has not answered, and what it cannot read
            await cluster_view.ask(self.query)
        cluster = await cluster_view.look(within)
        rows, matched, self.missing = cluster_view.rows(self.query)
        await self._name({row.user for row in rows[:ROWS]})
        processes = {status.snapshot.process.id: status.snapshot.process.name for status in cluster.processes}
        return {
            "at": formatting.clock(cluster.at),
            "cards": self._cards(cluster),
            "rows": [self._row(row, processes) for row in rows[:ROWS]],
            "summary": _summary(min(len(rows), ROWS), matched, cluster.total("open"), self.missing),
            "processes": [_process(status) for status in cluster.processes],
            "routes": sorted({route for snapshot in cluster.counted for route in snapshot.routes}),
            "findings": [dataclasses.asdict(finding) for finding in health.findings(request, cluster)],
        }

    def _cards(self, cluster: ClusterSnapshot) -> list[dict[str, str]]:
        values = {
            "open": formatting.number(cluster.total("open")),
            "events": formatting.number(cluster.rates["events"]),
            "bytes": formatting.size(cluster.rates["bytes"]),
            "slow": formatting.number(cluster.total("slow")),
            "refused": formatting.number(sum(cluster.series["refused"])),
            "errors": formatting.number(sum(cluster.series["errors"])),
            "processes": formatting.number(len(cluster.counted)),
        }
        cards = []
        for key, label, series in CARDS:
            line, area = formatting.spark(cluster.series[series])
            alarm = "1" if key in ("slow", "errors", "refused") and values[key] != "0" else ""
            cards.append({"key": key, "label": label, "value": values[key], "line": line, "area": area, "alarm": alarm})
        return cards

    def _row(self, row: StreamRow, processes: Mapping[str, str]) -> dict[str, Any]:
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
        """Return an id as this viewer may see it: positions are the log's own, but what a handler wrote may be anything."""
        if last_id is None or self.sees_payloads:
            return last_id or ""
        return last_id if Position.parse(last_id) is not None or parse_vector(last_id) else HIDDEN_ID

    async def _name(self, users: Iterable[str]) -> None:
        """Look up the names of those who have none yet, with one query."""
        unknown = [user for user in users if user and user not in self._names]
        if unknown:
            self._names |= await sync_to_async(names_of)(unknown)


def names_of(users: Iterable[str]) -> dict[str, str]:
    """Return the names of users by their primary keys as text; what is not a user's key stays as it is."""
    model = get_user_model()
    names = {user: user for user in users}
    keys = {}
    for user in names:
        try:
            keys[model._meta.pk.to_python(user)] = user
        except Exception:  # not a user's: "app.model:key"
            continue
    for row in model._default_manager.filter(pk__in=keys):
        names[keys[row.pk]] = row.get_username()
    return names


def _summary(listed: int, matched: int, total: int, missing: int) -> str:
    summary = (
        f"{formatting.number(matched)} of {formatting.number(total)} streams"
        if matched != total
        else f"{formatting.number(total)} streams"
    )
    if listed < matched:
        summary += f", the first {listed} are shown: search, or filter"
    return f"{summary}; {missing} {'process has' if missing == 1 else 'processes have'} not answered yet" if missing else summary


def _process(status: ProcessStatus) -> dict[str, Any]:
    snapshot = status.snapshot
    return {
        "id": snapshot.process.id,
        "name": snapshot.process.name,
        "since": formatting.clock(snapshot.process.since),
        "open": formatting.number(snapshot.total("open")) if status.state != "gone" else "–",
        "slow": formatting.number(snapshot.total("slow")) if status.state != "gone" else "–",
        "opened": formatting.number(snapshot.total("opened")),
        "reported": f"{formatting.span(status.age)} ago",
        "state": "draining" if snapshot.draining and status.state == "reporting" else status.state,
    }
