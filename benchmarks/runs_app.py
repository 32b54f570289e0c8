"""The server of ``runs.py``: tokens of one offline generator, by a bare ``StreamingHttpResponse`` and by runs.

``LOG`` is ``memory``, ``sqlite``, ``postgres`` or ``redis``, ``WHERE`` the directory, host or URL of its store. ``python
runs_app.py PORT`` serves with uvicorn; ``python runs_app.py migrate`` makes the tables.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings

LOG, WHERE = os.environ["LOG"], os.environ["WHERE"]
BACKENDS = {"memory": "memory.MemoryEventLog", "redis": "redis.RedisEventLog"}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{WHERE}/db.sqlite3" if LOG == "sqlite" else ":memory:"}
WAL = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"}
POSTGRES = {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": WHERE}
settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
    INSTALLED_APPS=["django_agent_sse"],
    DATABASES={"default": POSTGRES if LOG == "postgres" else {**SQLITE, "OPTIONS": WAL}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    LOGGING_CONFIG=None,
    AGENT_SSE={
        "LIMITS": None,  # the load comes from one address
        "EVENT_LOG": {
            "BACKEND": f"django_agent_sse.eventlog.{BACKENDS.get(LOG, 'database.DatabaseEventLog')}",
            "OPTIONS": {"url": WHERE} if LOG == "redis" else {},
        },
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from django_agent_sse import Context, Router  # noqa: E402
from django_agent_sse.contrib.wires import AI_SDK  # noqa: E402


async def tokens(about: Any) -> AsyncIterator[str]:
    """``n`` deltas at ``rate`` a second, or as fast as they are taken. Each says when it was made."""
    count, rate = int(about["n"]), float(about["rate"])
    began = time.monotonic()
    for at in range(count):
        await asyncio.sleep(max(0.0, began + at / rate - time.monotonic()) if rate else 0)
        yield f'{{"type":"text-delta","id":"1","delta":"{time.monotonic_ns()} "}}'


async def bare(request: HttpRequest) -> StreamingHttpResponse:
    """What is written by hand: nothing is kept, and nothing survives its reader."""

    async def frames() -> AsyncIterator[str]:
        async for token in tokens(request.GET):
            yield f"data: {token}\n\n"

    return StreamingHttpResponse(frames(), content_type="text/event-stream", headers={"Cache-Control": "no-cache"})


router = Router()


@router.run("runs/", wire=AI_SDK, csrf_exempt=True)
async def answer(c: Context, run: Any) -> None:
    """Write each token; with ``flush=1`` each is appended at once, without batches."""
    flush = c.query.get("flush") == "1"
    async for token in tokens(c.query):
        await run.write(token)
        if flush:
            await run.flush()


async def spent(request: HttpRequest) -> JsonResponse:
    """Seconds of processor time that this process has had."""
    return JsonResponse({"cpu": time.process_time()})


urlpatterns = [path("bare/", bare), path("spent/", spent), *router.urls]
application = get_asgi_application()


async def idle(count: int, seconds: float) -> dict[str, float]:
    """Hold ``count`` runs that do nothing, and return what that costs."""
    import contextlib
    import resource
    import threading

    from django.db.backends.signals import connection_created

    from django_agent_sse import produce
    from django_agent_sse.eventlog.backend import event_log

    log, done = type(event_log()), {"renewals": 0, "queries": 0}
    renew = log.renew

    def counted(self: Any, *args: Any, **about: Any) -> Any:
        done["renewals"] += 1
        return renew(self, *args, **about)

    def asked(execute: Any, sql: str, *about: Any) -> Any:
        done["queries"] += not sql.startswith(("BEGIN", "SAVEPOINT", "RELEASE"))
        return execute(sql, *about)

    log.renew = counted  # type: ignore[method-assign]
    connection_created.connect(lambda connection, **_: connection.execute_wrappers.append(asked), weak=False)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with contextlib.AsyncExitStack() as runs:
        for number in range(count):
            await runs.enter_async_context(produce(f"idle.{LOG}.{os.getpid()}.{number}"))
        done.update(renewals=0, queries=0)
        began, used = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        found = {name: number / took for name, number in done.items()}
        found |= {"cpu": (time.process_time() - used) / took, "threads": threading.active_count()}
        found["kib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / max(1, count)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "migrate":
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
    elif sys.argv[1] == "idle":
        print(json.dumps(asyncio.run(idle(int(sys.argv[2]), float(sys.argv[3])))))
    else:
        import uvicorn

        uvicorn.run(application, port=int(sys.argv[1]), log_level="warning", lifespan="off")
