"""``/_holding/``: all that a server's process holds, seen from inside, and so what grows."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, JsonResponse

from django_agent_sse.contrib.monitor.cluster import cluster_view
from tests.site import state

PACKAGE = "django_agent_sse"
TABLES = (dict, list, set, deque, OrderedDict, Counter)


def _of_package(name: object) -> bool:
    return isinstance(name, str) and (name == PACKAGE or name.startswith(f"{PACKAGE}."))


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            name = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def tables() -> tuple[dict[str, int], dict[str, int]]:
    """How many entries the tables of the package have, by where they stand, and how many objects there are of its classes.

    No list of them is needed: each dict, list, set or deque counts that a module of the package has, or an object of its classes.
    """
    found, kinds = Counter[str](), Counter[str]()
    for name, module in [*sys.modules.items()]:
        if _of_package(name):
            for attribute, value in [*vars(module).items()]:
                if isinstance(value, TABLES) and not attribute.startswith("__"):
                    found[f"{name}.{attribute}"] += len(value)
    for thing in gc.get_objects():
        kind = type(thing)
        if _of_package(getattr(kind, "__module__", None)) and not isinstance(thing, type):
            kinds[f"{kind.__module__}.{kind.__qualname__}"] += 1
            for attribute, value in _attributes(thing):
                if isinstance(value, TABLES):
                    found[f"{kind.__module__}.{kind.__qualname__}.{attribute}"] += len(value)
    return dict(found), dict(kinds)


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                                                     "uordblks", "fordblks", "keepcost")]  # fmt: skip


def heap() -> tuple[int, int]:
    """Bytes that C libraries, and Python for what is over 512 bytes, have allocated; and those that glibc has of the system.

    It keeps what was given back, in an arena for each thread. 0 without glibc 2.33.
    """
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0, 0
    mallinfo2.restype = _Heap
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd), int(found.arena + found.hblkhd)


async def holding(request: HttpRequest) -> JsonResponse:
    """Tasks, threads, descriptors, connections, tables, objects, blocks of memory and bytes of the C heap and of glibc.

    ``?collect`` collects garbage first; ``?forget`` drops what the monitor's page keeps: the past, which grows until it is full.
    """
    if "forget" in request.GET:
        cluster_view.reset()
    if "collect" in request.GET:
        gc.collect()
    found, kinds = tables()
    allocated, from_system = heap()
    with state._counting:
        connections = state._still_open()
    return JsonResponse(
        {
            "tasks": len(asyncio.all_tasks()),
            "threads": len(os.listdir("/proc/self/task")),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "connections": connections,
            "streams": state._open_streams(),
            "tables": found,
            "objects": sum(kinds.values()),
            "kinds": kinds,
            "collected": len(gc.get_objects()),
            "blocks": sys.getallocatedblocks(),
            "heap": allocated,
            "glibc": from_system,
        }
    )
