"""What the server process holds right now, seen from inside."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.http import HttpRequest, JsonResponse

_connections_opened = 0
_open: list[weakref.ref[Any]] = []
"""The driver's connections that are open; of drivers that say so, as psycopg does. Whoever else holds one has it closed early."""
_most_open = 0
_counting = threading.Lock()
_queries = 0


def _count_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    global _connections_opened, _most_open
    with _counting:
        _connections_opened += 1
        if hasattr(connection.connection, "closed"):
            _open.append(weakref.ref(connection.connection))
        _most_open = max(_most_open, _still_open())
    connection.execute_wrappers.append(_count_query)


def _still_open() -> int:
    alive = {id(raw): known for known in _open if not getattr(raw := known(), "closed", True)}
    _open[:] = alive.values()
    return len(_open)


def _count_query(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
    global _queries
    _queries += 1
    return execute(sql, params, many, context)


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
    from django_agent_sse.streams.registry import open_streams

    return len(open_streams())


def _behind() -> list[int]:
    """How far each stream is behind its topics, the furthest first."""
    from django_agent_sse.streams.registry import open_streams

    return sorted((stream.stats(time.monotonic()).lag for stream in open_streams()), reverse=True)


async def state(request: HttpRequest) -> JsonResponse:
    """``/_state/``: threads, descriptors, tasks, open streams, database connections and queries since it began.

    ``?count_anew`` sets the most connections that were open at once to those that are open now. ``?trim`` has the allocator give
    back to the system what nothing is in: it keeps that otherwise, and from outside it looks like memory that is in use.
    """
    if "trim" in request.GET:
        gc.collect()
        with contextlib.suppress(AttributeError):  # of the GNU C library
            ctypes.CDLL(None).malloc_trim(0)
    global _most_open
    with _counting:
        held = _still_open()
        _most_open = held if "count_anew" in request.GET else _most_open
    return JsonResponse(
        {
            "pid": os.getpid(),
            "threads": sorted(thread.name for thread in threading.enumerate()),
            "os_threads": len(os.listdir("/proc/self/task")),
            "descriptors": _descriptors(),
            "tasks": sorted(str(task.get_coro().__qualname__) for task in asyncio.all_tasks()),
            "open_streams": _open_streams(),
            "behind": _behind(),
            "connections_opened": _connections_opened,
            "connections": held,
            "most_connections": _most_open,
            "queries": _queries,
        }
    )


async def ping(request: HttpRequest) -> JsonResponse:
    """``/_ping/``: the least that a request can ask for."""
    return JsonResponse({"pid": os.getpid()})
