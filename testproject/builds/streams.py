"""The stream of a build's log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponseBase

from django_agent_sse import Context, Router, Stream, atopic_cursor

from .access import end_with_session, session_or_key
from .board import board
from .log import BuildLog, topic_of
from .models import Build
from .overview import TOPIC, snapshot, teller
from .progress import Progress
from .runs import Run, runs

router = Router()


@router.sse("overview/", guards=[session_or_key], name="overview")
@login_not_required  # a key will do
async def overview(c: Context, stream: Stream) -> None:
    """What goes on with all builds: ``builds`` has the counts and the newest rows, then come the ``changes``.

    Who comes back gets everything anew, and then also the notices it has missed.
    """
    end_with_session(c, stream)
    await teller.ready()
    cursor = await atopic_cursor(TOPIC.name)
    await stream.write_sse(event="builds", data=await sync_to_async(snapshot)())
    await stream.follow(TOPIC.name, after=cursor)


@router.sse("builds/<int:build_id>/logs/", guards=[session_or_key], name="build-logs")
@login_not_required  # a key will do
async def build_logs(c: Context, build_id: int) -> Callable[[Stream], Awaitable[None]] | HttpResponseBase:
    """The lines of a build from the first, or after the last that the client got; then its end.

    ``event: stdout`` and ``event: stderr`` carry one line each, as it was printed: readable in a terminal, and no client has to
    parse JSON for a line of text. ``event: progress`` and ``event: complete`` carry JSON.
    """
    run = runs.get(build_id)
    if run is None and not await Build.objects.filter(pk=build_id).aexists():
        return c.json({"error": f"there is no build {build_id}"}, status=404)

    async def handler(stream: Stream) -> None:
        end_with_session(c, stream)
        if run is not None:
            await _wait_in_queue(run, stream)
        topic = topic_of(build_id)
        kept = await topic.astate()
        if run is None and not kept.exists:
            await _replay(c, stream, build_id)
        else:
            if kept.floor and c.last_event_id is None:
                await stream.write_sse(event="missing", data={"first": 1, "last": kept.floor})
            telling = asyncio.create_task(_tell_progress(run, stream)) if run else None
            try:
                await stream.follow(topic.name)
            finally:
                if telling:
                    telling.cancel()
        await stream.write_sse(event="complete", data=_end(await Build.objects.aget(pk=build_id)))

    return handler


@login_not_required
async def log_topic(c: Context, build_id: int) -> str:
    """The topic of a build's lines, for parts of the log and its text; the stream above tells more."""
    topic = topic_of(build_id)
    if runs.get(build_id) is None and not (await topic.astate()).exists:
        raise Http404("The text of this build is kept no more.")
    return topic.name


router.log("builds/<int:build_id>/logs/", log_topic, guards=[session_or_key], name="build-log")


async def _wait_in_queue(run: Run, stream: Stream) -> None:
    if not run.running and not run.left_queue.is_set():
        await stream.write_sse(event="status", data={"status": Build.Status.QUEUED})
        await run.left_queue.wait()
        if run.running:
            await stream.write_sse(event="status", data={"status": Build.Status.RUNNING})


async def _tell_progress(run: Run, stream: Stream) -> None:
    """How far the build is, beside its lines: of this only the latest counts, so it is in no log."""
    told = Progress()
    while True:
        version = board.version
        if run.meter.progress != told:
            told = run.meter.progress
            await stream.write_sse(event="progress", data=asdict(told))
        await board.wait(version)


async def _replay(c: Context, stream: Stream, build_id: int) -> None:
    """The lines of a build whose topic is gone, with their numbers as ids."""
    build = await Build.objects.aget(pk=build_id)
    log = BuildLog.finished(build_id, c.kv, build.lines)
    async for batch in log.follow(_line_number(c.last_event_id, log.top)):
        if batch.missing:
            await stream.write_sse(event="missing", data={"first": batch.first, "last": batch.last}, id=str(batch.last))
        for number, (source, text) in enumerate(batch.lines, batch.first):
            await stream.write_sse(event=source, data=text, id=str(number))


def _line_number(last_event_id: str | None, top: int) -> int:
    """The line that the client has got; 0, which sends everything, where its id is none of this log's."""
    digits = (last_event_id or "").rpartition(".")[2]  # where the topic was, the line's number was the event's offset
    number = int(digits) if digits.isascii() and digits.isdigit() else 0
    return number if number <= top else 0


def _end(build: Build) -> dict[str, Any]:
    return {
        "status": runs.status(build),
        "exit_code": build.exit_code,
        "duration": build.duration,
        "lines": build.lines,
    }
