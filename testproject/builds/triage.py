"""The page on which an agent says what went wrong in a build, and the runs in which it says it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import include, path

from django_agent_sse import AsyncRun, Context, Router, RunAccess, Topic, event_log
from django_agent_sse.contrib.wires import PLAIN

from . import runs
from .access import READ_SECONDS, session_or_key
from .agent import Reader, tokens, triage
from .log import lines_of
from .models import Build
from .views import page

router = Router(guards=[session_or_key], max_duration=READ_SECONDS)


@page
def triage_page(request: HttpRequest, build_id: int) -> HttpResponse:
    """What went wrong in one build."""
    runs.recover()
    build = get_object_or_404(Build, pk=build_id)
    return render(request, "builds/triage.html", {"build": build, "status": build.status})


async def whoever_asked_stops_it(c: Context, run: RunAccess) -> bool:
    """Let everybody read what an agent says, and nobody stop it but who has asked."""
    return run.own or run.verb != "stop"


@router.run(
    "run/", name="triage-run", topic="triage.{build_id}", wire=PLAIN, access=whoever_asked_stops_it, lease=settings.RUN_LEASE
)
@login_not_required  # a key will do
async def triage_run(c: Context, build_id: int) -> Callable[[AsyncRun], Awaitable[None]] | HttpResponseBase:
    """What the agent says, word by word as ``event: token``. Who comes later reads the same, and nobody waits twice for it."""
    await sync_to_async(runs.recover)()
    build = await Build.objects.filter(pk=build_id).afirst()
    if build is None:
        return c.json({"error": f"there is no build {build_id}"}, status=404)
    status = Build.Status(build.status)
    if not build.is_over:
        return c.json({"error": f"build {build_id} is {status}: come back when it is over"}, status=409)

    async def handler(run: AsyncRun) -> None:
        await run.write({"run": run.id, "by": c.user.get_username(), "process": os.getpid()}, event="begun")
        text = triage(await sync_to_async(_read)(build), status, build.exit_code)
        await run.pipe(_spoken(text), event="token")

    return handler


def forget(build_id: int) -> None:
    """Delete what was said of a build."""
    while names := event_log().topics(f"triage.{build_id}.", limit=100):
        for name in names:
            Topic(name).delete()


def _read(build: Build) -> Reader:
    reader = Reader()
    reader.missing = build.lines
    for number, text in lines_of(build.pk):
        reader.feed(number, text)
        reader.missing -= 1
    return reader


async def _spoken(text: str) -> AsyncIterator[str]:
    for token in tokens(text):
        yield token
        await asyncio.sleep(settings.AGENT_PACE)


urlpatterns: list[Any] = [path("", triage_page, name="triage"), path("", include(router.urls))]
