"""Gates that a handler waits at and a test opens with a request: what happened before is then known, not guessed."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from django.http import HttpRequest, HttpResponse

_open: dict[str, int] = defaultdict(int)
_waiting: dict[str, list[asyncio.Future[None]]] = defaultdict(list)


async def passed(name: str) -> None:
    """Wait until the gate has been opened; one opening lets everybody through who waits, or else the next one."""
    if _open[name]:
        _open[name] -= 1
        return
    future = asyncio.get_running_loop().create_future()
    _waiting[name].append(future)
    await future


async def open_gate(request: HttpRequest) -> HttpResponse:
    """``/_gate/?name=…``: open the gate, now or, when nobody waits yet, for the next one who comes."""
    name = request.GET["name"]
    waiting = _waiting.pop(name, [])
    for future in waiting:
        if not future.done():
            future.set_result(None)
    if not waiting:
        _open[name] += 1
    return HttpResponse(str(len(waiting)))
