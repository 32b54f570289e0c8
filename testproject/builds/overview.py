"""What every page that lists builds is told: counts, rows, and what has just ended."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Count
from django.utils import timezone

from django_agent_sse import Event, Topic

from .board import board
from .models import Build
from .runs import runs

TOPIC = Topic("overview")
GAP = 0.25
"""Seconds between two messages: what changes meanwhile comes at once."""
LISTED = 50
"""Builds on the first page."""

Told = tuple[str, dict[str, Any]]
"""The name of an event, and its data."""

LEVELS = {Build.Status.PASSED: "success", Build.Status.FAILED: "error"}


class Teller:
    """Publishes what changes to a topic, from one task of the process: pages that were away get the notices they missed."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._began: asyncio.Future[None] | None = None

    async def ready(self) -> None:
        """Return when whatever changes from now on will be published."""
        if self._task is None or self._task.done():
            self._began = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._tell(self._began), context=contextvars.Context())
        assert self._began is not None
        await asyncio.shield(self._began)

    async def _tell(self, began: asyncio.Future[None]) -> None:
        async for told in changes():
            if not began.done():
                began.set_result(None)
            if told:
                await TOPIC.apublish_many([Event(json.dumps(data), event=name) for name, data in told])
                await asyncio.sleep(GAP)


teller = Teller()


async def changes() -> AsyncIterator[list[Told]]:
    """Nothing, when it begins to look; then each time all that has changed since.

    ``build`` has one row that is new or has changed, ``gone`` the id of one that was deleted, ``counts`` the counts; ``notice``
    says that a build has ended.
    """
    version = board.version
    everything = await sync_to_async(snapshot)()
    yield []
    counts, rows = everything["counts"], everything["builds"]
    unfinished = {row["id"] for row in rows if not row["over"]}
    newest = max((row["id"] for row in rows), default=0)
    while True:
        changed = await board.wait(version)
        version = board.version
        rows, now = await sync_to_async(_changes)(changed)
        told: list[Told] = [("build", row) for row in rows]
        told += [("gone", {"id": gone}) for gone in set(changed) - {row["id"] for row in rows}]
        told += [("counts", now)] if now != counts else []
        counts = now
        for row in rows:
            if row["over"] and (row["id"] in unfinished or row["id"] > newest):
                told.append(("notice", _notice(row)))
            (unfinished.discard if row["over"] else unfinished.add)(row["id"])
        newest = max([newest, *(row["id"] for row in rows)])
        yield told


def snapshot() -> dict[str, Any]:
    """The counts by status, and the newest rows."""
    runs.recover()
    return {"counts": _counts(), "builds": _rows(Build.objects.select_related("started_by")[:LISTED])}


def _changes(changed: list[int]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    return _rows(Build.objects.select_related("started_by").filter(pk__in=changed).order_by("pk")), _counts()


def _counts() -> dict[str, int]:
    found = dict(Build.objects.order_by().values_list("status").annotate(Count("pk")))
    return {status: found.get(status, 0) for status in Build.Status.values}


def _rows(builds: Iterable[Build]) -> list[dict[str, Any]]:
    return [row(build) for build in builds]


def row(build: Build) -> dict[str, Any]:
    """A build as pages are told of it: times in seconds, ``usual`` being what earlier builds of the recipe took."""
    run = runs.get(build.pk)
    began = build.started_at
    return {
        "id": build.pk,
        "label": build.label,
        "status": runs.status(build),
        "over": build.is_over,
        "by": str(build.started_by or ""),
        "created": build.created_at.isoformat(),
        "lines": build.lines,
        "exit_code": build.exit_code,
        "duration": build.duration,
        "elapsed": (timezone.now() - began).total_seconds() if began and not build.is_over else None,
        "usual": run.usual if run else None,
        "progress": asdict(run.meter.progress) if run else None,
    }


def _notice(row: dict[str, Any]) -> dict[str, Any]:
    took = "" if row["duration"] is None else f" after {row['duration']:.1f} s"
    how = "was cancelled" if row["status"] == Build.Status.CANCELLED else row["status"]
    text = f"{row['label']} #{row['id']} {how}{took}"
    return {"id": row["id"], "level": LEVELS.get(row["status"], "warning"), "text": text}
