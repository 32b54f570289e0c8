"""What the monitor knows, as a file: all of it as JSON, one table as CSV. Rows have numbers, and no words for readers."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asgiref.sync import async_to_sync, sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from django_agent_sse.runtime.safe_text import printable
from django_agent_sse.streams.counters import RouteCounts
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.sockets import addresses_of
from django_agent_sse.streams.transport import UNFINISHED

from ..cluster import ClusterSnapshot, cluster_view
from ..history import BUCKET, LONG_BUCKET, Past, percentiles, problems_of
from ..inspector import Answer, RunRow, StreamRow
from .live_view import NO_ROWS, Viewer, names_of
from .tables import GOOD

logger = logging.getLogger("django_agent_sse.monitor")

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
ANSWERED = ("streams", "limits", "refused", "runs")
"""What processes are asked for; the others are reported anyhow."""
BROKEN_OFF_PATIENCE = 30.0
"""Seconds without progress after which a client is cut off that does not take the rest of a file that is not whole."""
LONGEST = 4_000
"""Characters of a cell of CSV at most."""
ANSWER_TIMEOUT = 10.0
"""Seconds within which processes must tell their next rows."""
_FORMULA = re.compile(r"(^|;)(?=[ \"']*[=+@＝＋－＠-])")
"""Where a cell is a formula to a spreadsheet, or a part of it to one that parts by semicolons: clients choose user agents."""


@dataclass(frozen=True, slots=True)
class Document:
    """What is exported.

    Attributes:
        facts: When, how many streams fit, and how many processes have not answered.
        tables: Their rows, of each but streams.
        streams: Yields those that the viewer's filters fit, some at a time: there may be many.
    """

    facts: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    streams: AsyncIterator[list[dict[str, Any]]]


async def document(viewer: Viewer) -> Document:
    """Ask all processes.

    Raises:
        EventLogError: The log cannot be written.
    """
    first = dataclasses.replace(viewer.query, after=0)
    _, matched, missing = await cluster_view.answers(first, ANSWER_TIMEOUT)
    answers = cluster_view.answered(first)
    await cluster_view.answers(NO_ROWS)
    cluster, past = await cluster_view.look(), cluster_view.past()
    runs = [(id, RunRow(*map(viewer.shown_topic, run))) for id, run in cluster_view.runs(NO_ROWS)]
    return Document(
        facts={"at": _time(cluster.at), "matched": matched, "missing_processes": missing},
        tables={
            "routes": _routes(past),
            "problems": [
                {
                    "route": route,
                    "kind": kind,
                    "word": word,
                    "count": count,
                    "last": _time(past.last.get((route, kind, word), 0.0)),
                }
                for (route, kind, word), count in sorted(problems_of({**past.routes}, GOOD).items())
            ],
            "limits": [{"process": id, **row._asdict()} for id, row in cluster_view.limits(NO_ROWS)],
            "refused": [row._asdict() for row in cluster_view.refused(NO_ROWS)],
            "runs": [{"process": id, **run._asdict()} for id, run in runs],
            "processes": [_process(status) for status in cluster.processes],
            "history": [*_history(cluster)],
        },
        streams=_streams(viewer, answers),
    )


async def _streams(viewer: Viewer, answers: Iterable[tuple[str, Answer]]) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the streams of all processes: of each those of its first answer, and then, as often as there are more, the next.

    Raises:
        TimeoutError: A process does not answer any more. The file ends there, and the browser says that it is not whole.
    """
    for process, answer in answers:
        rows, left = answer.rows, answer.matched
        while rows:
            names = await sync_to_async(names_of)({row.user for row in rows if row.user})
            yield [_stream(viewer, row) | {"username": names.get(row.user, "")} for row in rows]
            if left <= len(rows):
                break
            after = max(int(row.id.rpartition(".")[2]) for row in rows)
            query = dataclasses.replace(viewer.query, process=process, after=after)
            rows, left, missing = await cluster_view.answers(query, ANSWER_TIMEOUT)
            if missing:
                raise TimeoutError(f"the export of live streams is not whole: the process {process} has not told its next rows")


def _stream(viewer: Viewer, row: StreamRow) -> dict[str, Any]:
    shown = row._replace(last_id=viewer.shown_id(row.last_id), topics=tuple(map(viewer.shown_topic, row.topics)))
    return shown._asdict() | {"opened": _time(row.opened)}


def _routes(past: Past) -> list[dict[str, Any]]:
    found = []
    for route in sorted(past.names):
        hour, open_now = past.routes.get(route) or RouteCounts(), past.open.get(route, 0)
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


async def as_json(document: Document) -> AsyncIterator[str]:
    """Yield a file of everything."""
    whole = json.dumps({**document.facts, **document.tables}, indent=1, ensure_ascii=False)
    yield f'{whole.removesuffix("}").rstrip()},\n "streams": ['
    comma = ""
    async for rows in document.streams:
        for row in rows:
            yield f"{comma}\n  {json.dumps(row, ensure_ascii=False)}"
            comma = ","
    yield "\n ]\n}\n"


async def as_csv(document: Document, table: str) -> AsyncIterator[str]:
    """Yield a file of one of ``TABLES``."""
    yield _lines(table, [dict(zip(TABLES[table], TABLES[table], strict=True))])
    if table != "streams":
        yield _lines(table, document.tables[table])
        return
    async for rows in document.streams:
        yield _lines(table, rows)


def _lines(table: str, rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([_cell(row[column]) for column in TABLES[table]] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Return a value as text that no spreadsheet takes for a formula, and that does nothing; a number stays one."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(value)
    return _FORMULA.sub(r"\1'", printable(value, LONGEST)) if isinstance(value, str) else value


def answer(request: HttpRequest, document: Document, kind: str, table: str) -> HttpResponseBase:
    """Answer with ``kind``, ``json`` or ``csv``: as it comes, where the server can. A file that is not whole is named so."""
    chunks = as_json(document) if kind == "json" else as_csv(document, table)
    name = "monitor" if kind == "json" else f"monitor-{table}"
    part = "-incomplete" if document.facts["missing_processes"] and table in ANSWERED else ""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{part}.{kind}"',
        "Cache-Control": "no-store, private",
        "X-Content-Type-Options": "nosniff",
    }
    content_type = "application/json" if kind == "json" else "text/csv; charset=utf-8"
    if isinstance(request, ASGIRequest):
        return StreamingHttpResponse(_or_broken_off(request, chunks), content_type=content_type, headers=headers)
    return HttpResponse(async_to_sync(_whole)(chunks), content_type=content_type, headers=headers)


async def _or_broken_off(request: ASGIRequest, chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield a file; where it fails, end the connection without the end of the answer. daphne would leave it open for ever."""
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        logger.exception("%s is broken off", request.path)
        if (addresses := addresses_of(request.scope)) is not None:
            registry.loop_state().departures.add(addresses, BROKEN_OFF_PATIENCE, unfinished=True)
        raise UNFINISHED from error


async def _whole(chunks: AsyncIterator[str]) -> str:
    return "".join([chunk async for chunk in chunks])
