"""The stream of a build's log, and that of the list."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpResponseBase

from django_agent_sse import Context, Router, Stream, atopic_cursor

from . import overview, runs
from .access import end_with_session, session_or_key
from .log import LINES, PREFIX, topic_of
from .models import Build

logger = logging.getLogger(__name__)
router = Router()

POLL_INTERVAL = 0.5
"""Seconds. Lines are not polled: they are in a topic, whose followers are notified."""
SUMMARY = ("status", "exit_code", "duration", "lines")
"""What is told of a build that is over."""


@router.sse("overview/", guards=[session_or_key], name="overview")
@login_not_required  # a key will do
async def overview_stream(c: Context, stream: Stream) -> None:
    """What goes on with all builds: ``builds`` has the counts and the newest rows, then comes what changes; and which logs others
    write, as ``elsewhere``.

    Who comes back gets everything anew, and then also the notices it has missed.
    """
    end_with_session(c, stream)
    cursor = await atopic_cursor(overview.TOPIC.name)
    await stream.write_sse(event="builds", data=await sync_to_async(overview.snapshot)())
    with _beside(_tell_elsewhere(stream)):
        await stream.follow(overview.TOPIC.name, after=cursor)


@router.sse("builds/<int:build_id>/logs/", guards=[session_or_key], name="build-logs")
@login_not_required  # a key will do
async def build_logs(c: Context, build_id: int) -> Callable[[Stream], Awaitable[None]] | HttpResponseBase:
    """The lines of a build from the first, or after the last that the client got; then its end.

    ``event: stdout`` and ``event: stderr`` carry one line each, as it was printed: readable in a terminal, and no client has to
    parse JSON for a line of text. ``event: status``, ``event: progress`` and ``event: complete`` carry JSON.
    """
    build = await Build.objects.filter(pk=build_id).afirst()
    if build is None:
        return c.json({"error": f"there is no build {build_id}"}, status=404)

    async def handler(stream: Stream) -> None:
        end_with_session(c, stream)
        topic = topic_of(build_id)
        kept = await topic.astate()
        if kept.floor and c.last_event_id is None:
            await stream.write_sse(event="missing", data={"first": 1, "last": kept.floor})
        with nullcontext() if build.is_over else _beside(_tell(build_id, stream)):
            if kept.exists or not build.is_over:  # else its log was deleted
                await stream.follow(topic.name, filter=lambda event: event.event in LINES)
        await sync_to_async(runs.recover)()
        await build.arefresh_from_db()
        await stream.write_sse(event="complete", data={name: getattr(build, name) for name in SUMMARY})

    return handler


@login_not_required
async def log_topic(c: Context, build_id: int) -> str:
    """The topic of a build's lines, for parts of the log and its text; the stream above tells more."""
    return topic_of(build_id).name


@login_not_required
async def other_topic(c: Context, name: str) -> str:
    """The topic of a log that somebody else writes, as ``sse_run builds.nightly -- …`` does."""
    return f"{PREFIX}{name}"


router.log("builds/<int:build_id>/logs/", log_topic, guards=[session_or_key], name="build-log")
router.log("logs/<str:name>/", other_topic, guards=[session_or_key], name="other-log")


@contextmanager
def _beside(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Do this too meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _tell_elsewhere(stream: Stream) -> None:
    written: list[str] | None = None
    async for _, elsewhere in _polled():
        if elsewhere != written:
            written = elsewhere
            await stream.write_sse(event="elsewhere", data=written)


async def _tell(build_id: int, stream: Stream) -> None:
    """Whether it waits, and how far it is, beside its lines: of this only the latest counts, so it is in no log."""
    waited, written = False, (None, "")
    async for builds, _ in _polled():
        build = builds.get(build_id)
        if build is None:  # it is newer than the poll, or over
            continue
        if waited != (build.status == Build.Status.QUEUED):
            waited = not waited
            await stream.write_sse(event="status", data={"status": build.status})
        if build.status == Build.Status.RUNNING and (build.fraction, build.step) != written:
            written = (build.fraction, build.step)
            await stream.write_sse(event="progress", data={"fraction": build.fraction, "step": build.step or None})


Polled = tuple[dict[int, Build], list[str]]
"""The builds that wait or run, by id; and see ``overview.elsewhere``: what the database has and no topic says."""
_polling = threading.Lock()
_polled_at = 0.0
_latest: Polled = {}, []


async def _polled() -> AsyncIterator[Polled]:
    """What there is now, and again after each interval: one poll for all streams of this process, while there are any."""
    while True:
        yield await sync_to_async(_poll, thread_sensitive=False)()
        await asyncio.sleep(POLL_INTERVAL)


def _poll() -> Polled:
    global _polled_at, _latest
    with _polling:
        if time.monotonic() - _polled_at >= POLL_INTERVAL / 2:
            try:
                runs.recover()
                going = Build.objects.filter(status__in=[Build.Status.QUEUED, Build.Status.RUNNING])
                _latest = {build.pk: build for build in going}, overview.elsewhere()
            except DatabaseError as error:
                logger.warning("the builds cannot be read now: %s", error)
            finally:
                connection.close()  # this thread belongs to no request: nobody else would close it
            _polled_at = time.monotonic()
        return _latest
