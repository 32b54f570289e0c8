"""What every page that lists builds is told: counts, rows, and what has just ended."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Count
from django.utils import timezone

from django_agent_sse import Event, Topic, event_log

from .log import PREFIX
from .models import Build

TOPIC = Topic("overview")
LISTED = 50
"""Builds on the first page."""
ELSEWHERE = 20
"""Topics that are listed beside them."""

LEVELS = {Build.Status.PASSED: "success", Build.Status.FAILED: "error"}


def tell(build: Build) -> None:
    """Publish what has become of a build: part of the transaction that changed it, in whichever process.

    ``build`` has its row, ``counts`` the counts; ``notice`` says that it has ended.
    """
    events = [("build", row(build))]
    if not build.fraction and not build.step:  # a change of its status
        events.append(("counts", counts()))
    if build.is_over:
        events.append(("notice", _notice(events[0][1])))
    TOPIC.publish_many([Event(json.dumps(data), event=name) for name, data in events])


def tell_gone(build_id: int) -> None:
    """Publish that a build was deleted."""
    gone = ("gone", {"id": build_id}), ("counts", counts())
    TOPIC.publish_many([Event(json.dumps(data), event=name) for name, data in gone])


def snapshot() -> dict[str, Any]:
    """The counts by status, the newest rows, and the logs that others write (``sse_run builds.nightly -- …``)."""
    builds = Build.objects.select_related("started_by")[:LISTED]
    return {"counts": counts(), "builds": [row(build) for build in builds], "elsewhere": elsewhere()}


def elsewhere() -> list[str]:
    """The topics below ``builds.`` that are no build's here, without that beginning."""
    names = event_log().topics(PREFIX, after=f"{PREFIX}:", limit=ELSEWHERE)  # behind all numbers
    return [name.removeprefix(PREFIX) for name in names if "/" not in name]  # which no address here has


def counts() -> dict[str, int]:
    """How many builds there are of each status."""
    numbers = dict(Build.objects.order_by().values_list("status").annotate(Count("pk")))
    return {status: numbers.get(status, 0) for status in Build.Status.values}


def row(build: Build) -> dict[str, Any]:
    """A build as pages are told of it: times in seconds, ``usual`` being what earlier builds of the recipe took."""
    began = build.started_at
    running = build.status == Build.Status.RUNNING
    return {
        "id": build.pk,
        "label": build.label,
        "status": build.status,
        "over": build.is_over,
        "by": str(build.started_by or ""),
        "created": build.created_at.isoformat(),
        "lines": build.lines,
        "exit_code": build.exit_code,
        "duration": build.duration,
        "elapsed": (timezone.now() - began).total_seconds() if began and running else None,
        "usual": build.usual if running else None,
        "progress": {"fraction": build.fraction, "step": build.step or None} if running else None,
    }


def _notice(row: dict[str, Any]) -> dict[str, Any]:
    took = "" if row["duration"] is None else f" after {row['duration']:.1f} s"
    how = "was cancelled" if row["status"] == Build.Status.CANCELLED else row["status"]
    text = f"{row['label']} #{row['id']} {how}{took}"
    return {"id": row["id"], "level": LEVELS.get(row["status"], "warning"), "text": text}
