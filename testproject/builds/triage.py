"""The page on which an agent says what went wrong in a build, and the stream that it says it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import include, path

from django_agent_sse import Context, Router, Stream

from . import runs
from .access import end_with_session, session_or_key
from .agent import Reader, tokens, triage
from .log import lines_of
from .models import Build
from .views import page

NAMESPACE = "triage"
THINKING = 0.02
"""Seconds between two words: those of a language model come about as fast."""

router = Router()


@page
def triage_page(request: HttpRequest, build_id: int) -> HttpResponse:
    """What went wrong in one build."""
    runs.recover()
    build = get_object_or_404(Build, pk=build_id)
    return render(request, "builds/triage.html", {"build": build, "status": build.status})


@router.sse("stream/", guards=[session_or_key], name="triage-stream")
@login_not_required  # a key will do
async def triage_stream(c: Context, build_id: int) -> Callable[[Stream], Awaitable[None]] | HttpResponseBase:
    """What the agent says, word by word as ``event: token``, then ``complete``.

    It is kept when the last word was sent, and not before: who comes later gets it at once.
    """
    await sync_to_async(runs.recover)()
    build = await Build.objects.filter(pk=build_id).afirst()
    if build is None:
        return c.json({"error": f"there is no build {build_id}"}, status=404)
    status = Build.Status(build.status)
    if status in (Build.Status.QUEUED, Build.Status.RUNNING):
        return c.json({"error": f"build {build_id} is {status}: come back when it is over"}, status=409)
    kept = await c.kv.get(NAMESPACE, str(build_id))

    async def handler(stream: Stream) -> None:
        end_with_session(c, stream)
        if kept.exists:
            await stream.write_sse(event="token", data=kept.data)
        else:
            text = triage(await sync_to_async(_read)(build), status, build.exit_code)
            await stream.pipe(_spoken(text), event="token")
            await c.kv.set(NAMESPACE, str(build_id), text)
        await stream.write_sse(event="complete", data={"kept": kept.exists})

    return handler


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
        await asyncio.sleep(THINKING)


urlpatterns: list[Any] = [path("", triage_page, name="triage"), path("", include(router.urls))]
