"""What the page of live streams shows one viewer at one moment: the same in its HTML and in the events that renew it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db.models.functions import Length
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext, ngettext

from django_agent_sse.eventlog.position import Position, parse_vector
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime import formatting
from django_agent_sse.runtime.safe_text import printable, without_run_id
from django_agent_sse.streams.registry import State

from ..cluster import FRESH_SECONDS, ClusterSnapshot, cluster_view
from ..history import Past, percentiles
from ..inspector import ROWS, SORTS, RunRow, StreamQuery, StreamRow
from . import health, labels, tables

HIDDEN_ID = "hidden"
"""What stands for an id that a handler wrote, for who may not see payloads."""
NO_ROWS = StreamQuery(stream="-")
"""Asks processes for their runs and for whom they have refused, and fits no stream."""
MAX_TEXT = 200
NAMED = 16
"""Users at most whose names contain what is searched for: those with the shortest names, so that a whole name finds its user."""
OPTIONS = 1_000
"""Routes, or processes, of which one can be chosen: others are found by what is searched for."""
CELL = 300
"""Characters of a cell at most: what clients and handlers choose may have thousands."""
KEPT = ("view", "range", "text", "route", "user", "anonymous", "process", "state", "sort", "order")
"""What stands in the page's address."""


def query_of(
    asked: Mapping[str, str], *, whole: bool = True, users: Callable[[str], tuple[str, ...]] = lambda text: ()
) -> StreamQuery:
    """Return what the page's address asks for; what makes no sense asks for nothing.

    Args:
        asked: The address's query.
        whole: See ``StreamQuery``.
        users: Gives the keys of users whose names contain a text.
    """
    filters: dict[str, Any] = {name: asked.get(name, "")[:MAX_TEXT] for name in ("route", "user", "process", "text")}
    state = asked.get("state", "")
    sort = asked.get("sort", "-opened")
    return StreamQuery(
        **filters,
        anonymous=bool(asked.get("anonymous")),
        state=state if state in {*State} else "",
        sort=sort if sort.removeprefix("-") in SORTS else "-opened",
        whole=whole,
        users=users(filters["text"]),
    )


def address_of(asked: QueryDict, **changes: str) -> str:
    """Return the page's query with some changes; a value that is empty goes."""
    values = {name: asked.get(name, "")[:MAX_TEXT] for name in KEPT} | changes
    query = QueryDict(mutable=True)
    query.update({name: value for name, value in values.items() if value and (name, value) != ("view", "streams")})
    return query.urlencode()


@dataclass(slots=True, kw_only=True)
class Viewer:
    """Who looks, by a primary key as text; at what; and what they may see and do.

    Attributes:
        query: The streams that are asked for.
        user: Who looks.
        sees_payloads: They may see ids that handlers wrote.
        closes: They may close streams.
        view: Which of ``labels.VIEWS`` they look at.
        hour: The sparklines are of the last hour.
        order: Of the routes.
        topic_page: Gives the address of a topic's page; empty where they may not see it.
        sees_topics: They may see whole names of topics. Whoever has that of a run which nobody in particular has started may
            read the run, and stop it.
    """

    query: StreamQuery
    user: str
    sees_payloads: bool
    closes: bool
    view: str = "streams"
    hour: bool = False
    order: str = "route"
    topic_page: Callable[[str], str] = lambda topic: ""
    sees_topics: bool = False
    _names: dict[str, str] = field(default_factory=dict)
    _told: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def asks(self) -> StreamQuery | None:
        """What processes are asked for this; ``None``: nothing but what they report anyhow."""
        return {"streams": self.query, "problems": NO_ROWS, "runs": NO_ROWS}.get(self.view)

    async def look(self, request: HttpRequest, within: float = FRESH_SECONDS) -> dict[str, Any]:
        """Return everything that changes on the page."""
        if self.asks is not None:
            with contextlib.suppress(AgentSSEError):  # the page says who has not answered, and what it cannot read
                await cluster_view.ask(self.asks)
        cluster = await cluster_view.look(within)
        shown = {
            "at": formatting.clock(cluster.at),
            "cards": [*_cards(cluster, hour=self.hour)],
            "notices": [dataclasses.asdict(notice) for notice in health.notices(request, cluster)],
            "missing": 0,
        }
        return shown | await {
            "streams": self._streams,
            "routes": self._by_route,
            "problems": self._problems,
            "runs": self._runs,
            "processes": self._processes,
        }[self.view](cluster)

    async def _streams(self, cluster: ClusterSnapshot) -> dict[str, Any]:
        rows, matched, missing = cluster_view.rows(self.query)
        shown = rows[:ROWS]
        await self._learn_names(row.user for row in shown)
        processes = {status.snapshot.process.id: status.snapshot.process.name for status in cluster.processes}
        return {
            "rows": [self._row(row) | {"process": processes.get(row.process, row.process)} for row in shown],
            **self._news(routes=sorted(cluster_view.past().names)[:OPTIONS], names=[*processes.items()][:OPTIONS]),
            "summary": _summary(len(shown), matched, cluster.total("open"), missing),
            "empty": _empty(cluster.total("open"), missing),
            "missing": missing,
        }

    def _news(self, **options: list[Any]) -> dict[str, Any]:
        """Return what can be chosen, where it has changed since it was told last."""
        news = {name: values for name, values in options.items() if self._told.get(name) != values}
        self._told |= news
        return news

    async def _by_route(self, cluster: ClusterSnapshot) -> dict[str, Any]:
        past = cluster_view.past()
        rows = tables.routes(past, self.order)
        summary = " ".join([_delivery(past), *_first(len(rows), len(past.names))])
        return {"rows": rows, "summary": summary, "empty": gettext("No route yet.")}

    async def _problems(self, cluster: ClusterSnapshot) -> dict[str, Any]:
        _, _, missing = cluster_view.rows(NO_ROWS)
        past, refused, limits = cluster_view.past(), cluster_view.refused(NO_ROWS), cluster_view.limits(NO_ROWS)
        await self._learn_names([*(row.user for row in refused), *(row.user for _, row in limits)])
        processes = {status.snapshot.process.id: status.snapshot.process.name for status in cluster.processes}
        rows, count = tables.problems(past)
        return {
            "rows": rows,
            "refused": tables.refused(refused, self._names),
            "limits": tables.limits(limits, self._names, processes),
            "summary": " ".join(
                [
                    gettext("What went wrong in the last hour, the newest first. The log has the errors themselves."),
                    *_first(len(rows), count),
                    *_late(missing),
                ]
            ),
            "empty": gettext("Nothing went wrong in the last hour."),
            "missing": missing,
        }

    async def _runs(self, cluster: ClusterSnapshot) -> dict[str, Any]:
        _, _, missing = cluster_view.rows(NO_ROWS)
        runs = [(process, RunRow(*map(self.shown_topic, run)), run) for process, run in cluster_view.runs(NO_ROWS)]
        rows = tables.runs(runs, cluster, self.topic_page)
        summary = "; ".join([_of_runs(cluster), *_late(missing)])
        return {"rows": rows, "summary": summary, "empty": gettext("No run goes on."), "missing": missing}

    async def _processes(self, cluster: ClusterSnapshot) -> dict[str, Any]:
        count = len(cluster.processes)
        summary = ngettext("{count} process", "{count} processes", count).format(count=formatting.number(count))
        processes = tables.processes(cluster)
        return {
            "rows": [],
            "processes": processes,
            "summary": ". ".join([summary, *_first(len(processes), count)]),
            "empty": gettext("No process has reported yet."),
        }

    async def _learn_names(self, users: Iterable[str]) -> None:
        if unknown := {user for user in users if user} - self._names.keys():
            self._names |= await sync_to_async(names_of)(unknown)

    def _row(self, row: StreamRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "you": bool(row.user) and row.user == self.user,
            "route": printable(row.route, CELL),
            "topics": printable(", ".join(map(self.shown_topic, row.topics)), CELL),
            "user": self._names.get(row.user, row.user) if row.user else gettext("anonymous"),
            "user_id": row.user,
            "since": gettext("since {time}").format(time=formatting.clock(row.opened)),
            "duration": formatting.span(row.seconds),
            "events": formatting.number(row.events),
            "events_unit": ngettext("event", "events", row.events),
            "bytes": formatting.size(row.bytes),
            "last_id": printable(self.shown_id(row.last_id), CELL),
            "lag": formatting.number(row.lag),
            "wrote": formatting.ago(row.idle),
            "address": printable(row.address),
            "agent": printable(row.agent),
            "state": row.state,
            "state_label": str(labels.STREAM_STATES[row.state]),
            "why": _why(row),
        }

    def shown_topic(self, name: str) -> str:
        """Return a topic's name, or a run's id, as this viewer may see it."""
        return name if self.sees_topics else without_run_id(name)

    def shown_id(self, last_id: str | None) -> str:
        """Return an id as this viewer may see it: positions are the log's own, but what a handler wrote may be anything."""
        if last_id is None or self.sees_payloads:
            return last_id or ""
        return last_id if Position.parse(last_id) is not None or parse_vector(last_id) else HIDDEN_ID


def users_named(text: str) -> tuple[str, ...]:
    """Return the primary keys, as text, of some users whose names contain this."""
    model = get_user_model()
    if not text or "\0" in text:  # which no database takes
        return ()
    name = model.USERNAME_FIELD
    found = model._default_manager.filter(**{f"{name}__icontains": text}).order_by(Length(name), name)
    return tuple(str(key) for key in found.values_list("pk", flat=True)[:NAMED])


def names_of(users: Iterable[str]) -> dict[str, str]:
    """Return the names of users by their primary keys as text, with one query; what is not a user's key stays as it is."""
    model = get_user_model()
    names = {user: user for user in users}
    keys = {}
    for user in names:
        with contextlib.suppress(Exception):  # not a user's: "app.model:key"
            keys[model._meta.pk.to_python(user)] = user
    for row in model._default_manager.filter(pk__in=keys):
        names[keys[row.pk]] = printable(row.get_username())
    return names


def _why(row: StreamRow) -> str:
    """Return why a stream is slow, or behind: what its client keeps waiting."""
    parts = []
    if row.state == State.SLOW:
        parts.append(gettext("takes nothing for {span}").format(span=formatting.span(row.stalled)))
        if row.patience:
            parts.append(gettext("cut off in {span}").format(span=formatting.span(row.patience)))
    if row.buffered and row.state in (State.SLOW, State.REPLAYING):
        parts.append(gettext("{size} waiting").format(size=formatting.size(row.buffered)))
    return "; ".join(parts)


def _cards(cluster: ClusterSnapshot, *, hour: bool) -> Iterable[dict[str, str]]:
    series = cluster.hour if hour else cluster.series
    refused, errors = sum(series["refused"]), sum(series["errors"])
    number, slow = formatting.number, cluster.total("slow")
    for key, label, value, alarm in (
        ("open", gettext("Open streams"), number(cluster.total("open")), False),
        ("events", gettext("Events a second"), number(cluster.rates["events"]), False),
        ("bytes", gettext("Bytes a second"), formatting.size(cluster.rates["bytes"]), False),
        ("slow", gettext("Slow clients"), number(slow), slow),
        ("refused", gettext("Refused, 1 h") if hour else gettext("Refused, 5 min"), number(refused), refused),
        ("errors", gettext("Errors, 1 h") if hour else gettext("Errors, 5 min"), number(errors), errors),
        ("processes", gettext("Processes"), number(len(cluster.counted)), False),
    ):
        line, area = formatting.spark(series[key])
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
    return "; ".join([*parts, *_late(missing)])


def _first(shown: int, count: int) -> list[str]:
    if shown >= count:
        return []
    first = gettext("The first {shown} of {count} are shown; the export has all of them.")
    return [first.format(shown=formatting.number(shown), count=formatting.number(count))]


def _late(missing: int) -> list[str]:
    if not missing:
        return []
    late = ngettext("{count} process has not answered yet", "{count} processes have not answered yet", missing)
    return [late.format(count=formatting.number(missing))]


def _empty(total: int, missing: int) -> str:
    """Return why no row is shown."""
    if missing:
        return gettext("Waiting for the processes to answer…")
    if total:
        return ngettext(
            "No open stream is like that; {count} other is open.", "No open stream is like that; {count} others are open.", total
        ).format(count=formatting.number(total))
    return gettext("No stream is open. Open one with curl -N and the URL of one of your routes.")


def _delivery(past: Past) -> str:
    """Return how soon events come from the log to the processes."""
    found = percentiles("arrivals", past.arrivals) if past.arrivals else [None]
    if found[0] is None:
        return gettext("The last hour, by route.")
    half, most, nearly_all = (tables.told(percentile, formatting.moment) for percentile in found)
    return gettext(
        "The last hour, by route. Published events were in the processes that serve them after {half} (50%), {most} (95%), "
        "{nearly_all} (99%)."
    ).format(half=half, most=most, nearly_all=nearly_all)


def _of_runs(cluster: ClusterSnapshot) -> str:
    running, over = sum(snapshot.running for snapshot in cluster.counted), dict[str, int]()
    for snapshot in cluster.counted:
        for ending, count in snapshot.runs.items():
            over[ending] = over.get(ending, 0) + count
    parts = [ngettext("{count} run goes on", "{count} runs go on", running).format(count=formatting.number(running))]
    parts += [f"{labels.RUN_ENDINGS.get(ending, ending)}: {formatting.number(count)}" for ending, count in sorted(over.items())]
    return "; ".join(parts)
