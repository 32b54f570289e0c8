"""What the monitor knows, as a file: all of it as JSON, one table as CSV. Rows have numbers, and no words for readers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from django_agent_sse.streams.counters import RouteCounts

from ..cluster import ClusterSnapshot, Past, cluster_view
from ..history import BUCKET, LONG_BUCKET, percentiles, problems_of
from ..inspector import StreamRow
from .live_view import NO_ROWS, Viewer, names_of
from .tables import GOOD

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "streams": (*StreamRow._fields, "username"),
    "routes": (
        *("route", "open", "opened", "errors", "refused", "events", "bytes"),
        *(f"{name}_{share}" for name in ("start_seconds", "open_seconds", "behind_events") for share in ("p50", "p95", "p99")),
    ),
    "problems": ("route", "kind", "word", "count", "last"),
    "limits": ("process", "limit", "user", "of", "open", "most"),
    "refused": ("reason", "user", "address", "times"),
    "runs": ("process", "topic", "id"),
    "processes": ("id", "name", "state", "since", "reported", "open", "slow", "opened", "running", "draining"),
    "history": ("at", "seconds", "open", "slow", "events_per_second", "bytes_per_second", "refused", "errors", "processes"),
}
"""The tables, and their columns."""
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to spreadsheets; clients choose what their programs are called."""


async def document(viewer: Viewer) -> dict[str, Any]:
    """Return every table. Of streams those that the viewer's filters fit, as many as processes tell of."""
    for query in (viewer.query, NO_ROWS):
        await cluster_view.answers(query)
    cluster, past = await cluster_view.look(), cluster_view.past()
    rows, matched, missing = cluster_view.rows(viewer.query)
    refused = cluster_view.refused(NO_ROWS)
    names = await sync_to_async(names_of)({row.user for row in rows if row.user})
    return {
        "at": _time(cluster.at),
        "matched": matched,
        "missing_processes": missing,
        "streams": [_stream(viewer, row) | {"username": names.get(row.user, "")} for row in rows],
        "routes": _routes(cluster, past),
        "problems": [
            {"route": route, "kind": kind, "word": word, "count": count, "last": _time(past.last.get((route, kind, word), 0.0))}
            for (route, kind, word), count in sorted(problems_of({**past.routes}, GOOD).items())
        ],
        "limits": [{"process": id, **row._asdict()} for id, row in cluster_view.limits(NO_ROWS)],
        "refused": [row._asdict() for row in refused],
        "runs": [{"process": id, **run._asdict()} for id, run in cluster_view.runs(NO_ROWS)],
        "processes": [_process(status) for status in cluster.processes],
        "history": [*_history(cluster)],
    }


def _stream(viewer: Viewer, row: StreamRow) -> dict[str, Any]:
    shown = row._replace(last_id=viewer.shown_id(row.last_id))
    return shown._asdict() | {"opened": _time(row.opened)}


def _routes(cluster: ClusterSnapshot, past: Past) -> list[dict[str, Any]]:
    found = []
    for route in sorted({*past.routes, *(route for snapshot in cluster.counted for route in snapshot.routes)}):
        hour = past.routes.get(route) or RouteCounts()
        open_now = sum(snapshot.routes[route].open for snapshot in cluster.counted if route in snapshot.routes)
        numbers: Iterable[Any] = (route, open_now, hour.opened, hour.errors, sum(hour.refused.values()), hour.events, hour.bytes)
        shares = [
            None if found_one is None else round(found_one.value, 4)
            for name in ("starts", "durations", "behind")
            for found_one in percentiles(name, getattr(hour, name))
        ]
        found.append(dict(zip(TABLES["routes"], (*numbers, *shares), strict=True)))
    return found


def _process(status: Any) -> dict[str, Any]:
    snapshot = status.snapshot
    return {
        "id": snapshot.process.id,
        "name": snapshot.process.name,
        "state": status.state,
        "since": _time(snapshot.process.since),
        "reported": _time(snapshot.at),
        **{name: snapshot.total(name) for name in ("open", "slow", "opened")},
        "running": snapshot.running,
        "draining": snapshot.draining,
    }


def _history(cluster: ClusterSnapshot) -> Iterable[dict[str, Any]]:
    """Yield the points of the last hour up to those of the last minutes, then these."""
    for series, seconds in ((cluster.hour, LONG_BUCKET), (cluster.series, BUCKET)):
        names = ("open", "slow", "events", "bytes", "refused", "errors", "processes")
        points = [*zip(*(series[name] for name in names), strict=True)]
        first = int(cluster.at // seconds) - len(points)
        for place, values in enumerate(points):
            at = (first + place) * seconds
            if seconds == BUCKET or at < cluster.at - BUCKET * len(points):
                yield dict(zip(TABLES["history"], (_time(at), seconds, *(round(value, 3) for value in values)), strict=True))


def _time(at: float) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") if at else None


def as_json(tables: Mapping[str, Any]) -> HttpResponse:
    return _file(json.dumps(tables, indent=1, ensure_ascii=False), "application/json", "monitor", "json")


def as_csv(tables: Mapping[str, Any], table: str) -> HttpResponse:
    """Return one of ``TABLES``."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(TABLES[table])
    for row in tables[table]:
        writer.writerow([_cell(row[column]) for column in TABLES[table]])
    return _file(out.getvalue(), "text/csv; charset=utf-8", f"monitor-{table}", "csv")


def _cell(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def _file(text: str, kind: str, name: str, extension: str) -> HttpResponse:
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{stamp}.{extension}"',
        "Cache-Control": "no-store, private",
        "X-Content-Type-Options": "nosniff",
    }
    return HttpResponse(text, content_type=kind, headers=headers)
