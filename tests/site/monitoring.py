"""The monitor's picture as the process that answers sees it, and its verbs: what the admin's pages use, without the admin."""

from __future__ import annotations

import dataclasses
import os

from django.http import HttpRequest, JsonResponse

from django_agent_sse.contrib.monitor.cluster import board
from django_agent_sse.contrib.monitor.commands import Close, Drain
from django_agent_sse.contrib.monitor.inspector import Question
from django_agent_sse.contrib.monitor.service import tell

TOTALS = ("opened", "endings", "refused", "events", "bytes", "starting", "lingering")
FILTERS = ("route", "user", "process", "text", "sort", "state")


async def look(request: HttpRequest) -> JsonResponse:
    """``/_board/``: processes and totals; with ``rows=1`` also the rows that fit the query."""
    picture = await board.look()
    found = {
        "pid": os.getpid(),
        "local": picture.local,
        "trouble": picture.trouble,
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
        question = Question(**{name: request.GET[name] for name in FILTERS if name in request.GET})
        await board.ask(question)
        rows, matched, missing = board.rows(question)
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
    await tell(made)
    return JsonResponse(dataclasses.asdict(made))
