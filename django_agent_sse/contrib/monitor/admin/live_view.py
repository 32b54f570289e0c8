"""What the page of live streams shows one viewer at one moment: the same in its HTML and in the events that renew it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext, ngettext

from django_agent_sse.eventlog.position import Position, parse_vector
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime import formatting
from django_agent_sse.streams.registry import State

from ..cluster import FRESH_SECONDS, ClusterSnapshot, ProcessStatus, cluster_view
from ..inspector import ROWS, SORTS, StreamQuery, StreamRow
from . import health, labels

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
    """Who looks, by a primary key as text; at what; and what they may see and do."""

    query: StreamQuery
    user: str
    sees_payloads: bool
    closes: bool
    _names: dict[str, str] = field(default_factory=dict)

    async def look(self, request: HttpRequest, within: float = FRESH_SECONDS) -> dict[str, Any]:
        """Return everything that changes on the page."""
        with contextlib.suppress(AgentSSEError):  # the page says who has not answered, and what it cannot read
            await cluster_view.ask(self.query)
        cluster = await cluster_view.look(within)
        rows, matched, missing = cluster_view.rows(self.query)
        shown = rows[:ROWS]
        if unknown := {row.user for row in shown if row.user} - self._names.keys():
            self._names |= await sync_to_async(names_of)(unknown)
        processes = {status.snapshot.process.id: status.snapshot.process.name for status in cluster.processes}
        return {
            "at": formatting.clock(cluster.at),
            "cards": [*_cards(cluster)],
            "rows": [self._row(row) | {"process": processes.get(row.process, row.process)} for row in shown],
            "summary": _summary(len(shown), matched, cluster.total("open"), missing),
            "processes": [_process(status) for status in cluster.processes],
            "routes": sorted({route for snapshot in cluster.counted for route in snapshot.routes}),
            "notices": [dataclasses.asdict(notice) for notice in health.notices(request, cluster)],
        }

    def _row(self, row: StreamRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "you": bool(row.user) and row.user == self.user,
            "route": row.route,
            "topics": ", ".join(row.topics),
            "user": self._names.get(row.user, row.user) if row.user else gettext("anonymous"),
            "user_id": row.user,
            "since": gettext("since {time}").format(time=formatting.clock(row.opened)),
            "duration": formatting.span(row.seconds),
            "events": formatting.number(row.events),
            "events_unit": ngettext("event", "events", row.events),
            "bytes": formatting.size(row.bytes),
            "last_id": self._id(row.last_id),
            "lag": formatting.number(row.lag),
            "wrote": formatting.ago(row.idle),
            "address": row.address,
            "agent": row.agent,
            "state": row.state,
            "state_label": str(labels.STREAM_STATES[row.state]),
        }

    def _id(self, last_id: str | None) -> str:
        """Return an id as this viewer may see it: positions are the log's own, but what a handler wrote may be anything."""
        if last_id is None or self.sees_payloads:
            return last_id or ""
        return last_id if Position.parse(last_id) is not None or parse_vector(last_id) else HIDDEN_ID


def names_of(users: Iterable[str]) -> dict[str, str]:
    """Return the names of users by their primary keys as text, with one query; what is not a user's key stays as it is."""
    model = get_user_model()
    names = {user: user for user in users}
    keys = {}
    for user in names:
        with contextlib.suppress(Exception):  # not a user's: "app.model:key"
            keys[model._meta.pk.to_python(user)] = user
    for row in model._default_manager.filter(pk__in=keys):
        names[keys[row.pk]] = row.get_username()
    return names


def _cards(cluster: ClusterSnapshot) -> Iterable[dict[str, str]]:
    refused, errors = sum(cluster.series["refused"]), sum(cluster.series["errors"])
    number, slow = formatting.number, cluster.total("slow")
    for key, label, value, alarm in (
        ("open", gettext("Open streams"), number(cluster.total("open")), False),
        ("events", gettext("Events a second"), number(cluster.rates["events"]), False),
        ("bytes", gettext("Bytes a second"), formatting.size(cluster.rates["bytes"]), False),
        ("slow", gettext("Slow clients"), number(slow), slow),
        ("refused", gettext("Refused, 5 min"), number(refused), refused),
        ("errors", gettext("Errors, 5 min"), number(errors), errors),
        ("processes", gettext("Processes"), number(len(cluster.counted)), False),
    ):
        line, area = formatting.spark(cluster.series[key])
        yield {"key": key, "label": label, "value": value, "line": line, "area": area, "alarm": "1" if alarm else ""}


def _summary(listed: int, matched: int, total: int, missing: int) -> str:
    number = formatting.number
    if matched == total:
        parts = [ngettext("{count} stream", "{count} streams", total).format(count=number(total))]
    else:
        of_all = ngettext("{matched} of {count} stream", "{matched} of {count} streams", total)
        parts = [of_all.format(matched=number(matched), count=number(total))]
    if listed < matched:
        first = ngettext(
            "the first {count} is shown: search or filter for others",
            "the first {count} are shown: search or filter for others",
            listed,
        )
        parts.append(first.format(count=number(listed)))
    if missing:
        late = ngettext("{count} process has not answered yet", "{count} processes have not answered yet", missing)
        parts.append(late.format(count=number(missing)))
    return "; ".join(parts)


def _process(status: ProcessStatus) -> dict[str, Any]:
    snapshot, gone = status.snapshot, status.state == "gone"
    state = "draining" if snapshot.draining and status.state == "reporting" else status.state
    return {
        "id": snapshot.process.id,
        "name": snapshot.process.name,
        "since": gettext("since {time}").format(time=formatting.clock(snapshot.process.since)),
        "open": "–" if gone else formatting.number(snapshot.total("open")),
        "slow": "–" if gone else formatting.number(snapshot.total("slow")),
        "opened": formatting.number(snapshot.total("opened")),
        "reported": formatting.ago(status.age),
        "state": state,
        "state_label": str(labels.PROCESS_STATES[state]),
        "act": gettext("Resume…") if state == "draining" else gettext("Drain…"),
    }
