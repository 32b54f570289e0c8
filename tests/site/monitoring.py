"""The monitor's picture as the process that answers sees it, and its verbs: what the admin's pages use, without the admin."""

from __future__ import annotations

import dataclasses
import os

from django.http import HttpRequest, JsonResponse

from django_agent_sse.contrib.monitor.cluster import cluster_view
from django_agent_sse.contrib.monitor.commands import Close, Drain
from django_agent_sse.contrib.monitor.inspector import StreamQuery
from django_agent_sse.contrib.monitor.service import broadcast

TOTALS = ("opened", "endings", "refused", "events", "bytes", "starting", "lingering")
FILTERS = ("route", "user", "process", "text", "sort", "state")


async def look(request: HttpRequest) -> JsonResponse:
    """``/_board/``: processes and totals; with ``rows=1`` also the rows that fit the query."""
    picture = await cluster_view.look()
    found = {
        "pid": os.getpid(),
        "local": picture.local,
        "trouble": picture.error,
        "open": picture.total("open"),
        "rates": dict(picture.rates),
        "processes": [
            {
                "id": one.snapshot.process.id,
                "pid": one.snapshot.process.pid,
                "state": one.state,
                "open": one.snapshot.total("open"),
            }
            for one in picture.processes
        ],
        "totals": {name: picture.total(name) for name in TOTALS},
    }
    if request.GET.get("rows"):
        question = StreamQuery(**{name: request.GET[name] for name in FILTERS if name in request.GET})
        await cluster_view.ask(question)
        rows, matched, missing = cluster_view.rows(question)
        found |= {"rows": [row._asdict() for row in rows], "matched": matched, "missing": missing}
    return JsonResponse(found)


async def command(request: HttpRequest) -> JsonResponse:
    """``/_command/``: close or drain."""
    given = {name: request.GET[name] for name in ("stream", "user", "route", "process") if name in request.GET}
    retry = int(request.GET["retry"]) if "retry" in request.GET else None
    if request.GET.get("do") == "drain":
        made: Close | Drain = Drain(process=given["process"], on=request.GET.get("on") != "0", retry=retry)
    else:
        made = Close(**given, retry=retry)
    await broadcast(made)
    return JsonResponse(dataclasses.asdict(made))
