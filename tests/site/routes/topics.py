"""Topics: followed as they are, and produced at a rate by this process."""

from __future__ import annotations

import asyncio
import time

from django.http import HttpRequest, JsonResponse

from django_agent_sse import Context, Router, Stream, aclose_topic, apublish_many
from tests.ledger.stamper import publish_stamped

router = Router(app_name="topics")
router.topic("follow/<slug:topic>/", "{topic}")
TICK = 0.005


@router.sse("several/")
async def several(c: Context, stream: Stream) -> None:
    """The topics that the query names."""
    await stream.follow(*c.request.GET.getlist("topic"))


tasks: set[asyncio.Task[None]] = set()


def stamped(request: HttpRequest, topic: str) -> JsonResponse:
    """Publish ``count`` events with about ``pause`` seconds in between; when each was committed."""
    return JsonResponse(publish_stamped(topic, int(request.GET["count"]), float(request.GET["pause"])))


async def produce(request: HttpRequest, topic: str) -> JsonResponse:
    """Publish ``rate`` numbered events of ``size`` a second for so many ``seconds``, then close the topic, unless ``close=0``."""
    close, size = request.GET.get("close") != "0", int(request.GET.get("size", 80))
    task = asyncio.create_task(_produce(topic, int(request.GET["rate"]), float(request.GET["seconds"]), close, size))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return JsonResponse({})


async def _produce(topic: str, rate: int, seconds: float, close: bool, size: int) -> None:
    began, sent, count = time.monotonic(), 0, int(rate * seconds)
    while sent < count:
        due = min(count, int((time.monotonic() - began) * rate) + 1)
        now = time.monotonic_ns()
        await apublish_many(topic, [f"{number} {now} ".ljust(size, "x") for number in range(sent, due)])
        sent = due
        await asyncio.sleep(TICK)
    if close:
        await aclose_topic(topic)
