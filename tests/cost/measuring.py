"""What one piece of work costs, and how long others wait meanwhile: requests to Django's own handler in this process."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse

from tests.timing import bound

PING = "/ping/"
WAIT = bound(0.2, 1.0)
"""Seconds of processor time that another request may take meanwhile."""
TRIES = 3
"""What else the interpreter does, as collecting garbage, may hold up a request too, but not each time."""
PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
"""Linux forgets the process's peak of memory when a 5 is written to the first (``proc_pid_clear_refs(5)``)."""

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What it took.

    Attributes:
        seconds: From its beginning to its end.
        held: What the slowest other request meanwhile had to wait for: seconds in which this process was at work.
        peak: Bytes that it needed at a time.
    """

    seconds: float
    held: float
    peak: int


async def ping(request: HttpRequest) -> HttpResponse:
    """Another request."""
    return HttpResponse("pong")


async def get(path: str, query: str = "") -> tuple[int, int, bytes, bytes]:
    """Send a GET request; its status, how many bytes came, and the first and the last of them."""
    status, size, first, last = 0, 0, b"", b""
    asked = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, size, first, last
        status = message.get("status", status)
        body = message.get("body", b"")
        size, first, last = size + len(body), first or body[:80], body[-80:] or last

    headers = [(b"host", b"testserver"), (b"accept", b"*/*")]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": headers,
    }
    await ASGIHandler()(scope, receive, send)
    return status, size, first, last


async def cost_of(work: Work) -> Cost:
    """Do the work until others need not wait for it, which must be soon, and once more to see what memory it takes."""
    costs = [await _timed(work)]
    while costs[-1].held >= WAIT and len(costs) < TRIES:
        costs.append(await _timed(work))
    best = min(costs, key=lambda cost: cost.held)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    PEAK.write_text("5")
    before = _kilobytes("VmRSS")
    await work()
    return Cost(seconds=best.seconds, held=best.held, peak=max(0, _kilobytes("VmHWM") - before) * 1024)


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", STATUS.read_text())
    assert found
    return int(found[1])


async def _timed(work: Work) -> Cost:
    held, over = 0.0, False

    async def others() -> None:
        nonlocal held
        while not over:
            began = time.process_time()
            await asyncio.sleep(0.002)
            assert (await get(PING))[:2] == (200, 4)
            held = max(held, time.process_time() - began)

    asking = asyncio.create_task(others())
    await asyncio.sleep(0)
    began = time.perf_counter()
    await work()
    seconds = time.perf_counter() - began
    over = True
    await asking
    return Cost(seconds=seconds, held=held, peak=0)
