"""What the server process holds right now, seen from inside."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created
from django.http import HttpRequest, JsonResponse

_connections_opened = 0


def _count_connection(**_: Any) -> None:
    global _connections_opened
    _connections_opened += 1


connection_created.connect(_count_connection)


def _descriptors() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(entry).split(":[")[0])
        except OSError:
            continue
    return sorted(found)


def _open_streams() -> int:
    from django_agent_sse.hub.registry import open_streams

    return len(open_streams())


async def state(request: HttpRequest) -> JsonResponse:
    """``/_state/``: threads, descriptors, tasks, open streams, and how many database connections were ever opened."""
    return JsonResponse(
        {
            "pid": os.getpid(),
            "threads": sorted(thread.name for thread in threading.enumerate()),
            "os_threads": len(os.listdir("/proc/self/task")),
            "descriptors": _descriptors(),
            "tasks": sorted(str(task.get_coro().__qualname__) for task in asyncio.all_tasks()),
            "open_streams": _open_streams(),
            "connections_opened": _connections_opened,
        }
    )


async def ping(request: HttpRequest) -> JsonResponse:
    """``/_ping/``: the least that a request can ask for."""
    return JsonResponse({"pid": os.getpid()})
