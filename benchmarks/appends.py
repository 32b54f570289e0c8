"""How many events a process can publish, one at a time: logs of this package, django-eventstream with Redis, channels_redis.

``REDIS_PORT=6379 python benchmarks/appends.py`` prints a table; ``run.sh`` runs it before the servers. Nobody follows. The
logs keep what is published; the other two hand it to Redis pub/sub and forget it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings

PORT = int(os.environ["REDIS_PORT"])
EVENTS, ROUNDS, AT_ONCE, BATCH = 4_000, 3, 8, 50
LINE = "x" * 80

settings.configure(
    INSTALLED_APPS=["django_agent_sse", "django_eventstream"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    EVENTSTREAM_REDIS={"host": "127.0.0.1", "port": PORT, "db": 0},
)
django.setup()

from channels_redis.pubsub import RedisPubSubChannelLayer  # noqa: E402
from django_eventstream import send_event  # noqa: E402

from django_agent_sse.eventlog.base import EventLog  # noqa: E402
from django_agent_sse.eventlog.memory import MemoryEventLog  # noqa: E402
from django_agent_sse.eventlog.redis import RedisEventLog  # noqa: E402
from django_agent_sse.wire.event import Event  # noqa: E402

Measured = tuple[float, float]
"""Events a second, and µs of this process's CPU for each."""


def timed(body: Callable[[], object], events: int) -> Measured:
    """Run, and say what it took."""
    began, used = time.perf_counter(), time.process_time()
    body()
    return events / (time.perf_counter() - began), (time.process_time() - used) / events * 1e6


def called(publish: Callable[[], object], at_once: int, size: int = 1) -> Measured:
    """From one thread, or from several; ``size`` events a call."""

    def some(_: int) -> None:
        for _ in range(EVENTS // at_once):
            publish()

    with ThreadPoolExecutor(at_once) as threads:
        return timed(lambda: list(threads.map(some, range(at_once))), EVENTS * size)


def awaited(publish: Callable[[], Awaitable[object]], at_once: int) -> Measured:
    """From one coroutine, or from several, in an event loop of its own."""

    async def some() -> None:
        for _ in range(EVENTS // at_once):
            await publish()

    async def all_of_them() -> None:
        await asyncio.gather(*(some() for _ in range(at_once)))

    return timed(lambda: asyncio.run(all_of_them()), EVENTS)


def layer() -> Callable[[], Awaitable[object]]:
    """One send to a group."""
    made = RedisPubSubChannelLayer(hosts=[("127.0.0.1", PORT)])
    return lambda: made.group_send("topic", {"type": "sse.event", "text": LINE})


def rows(memory: EventLog, redis: EventLog) -> Iterator[tuple[str, Callable[[int], Measured]]]:
    """What is measured, given how many publish at once."""
    line = Event(LINE)
    lines = [line] * BATCH
    yield "memory log, `append`", lambda n: called(lambda: memory.append("lines", line), n)
    yield "Redis log, `append`", lambda n: called(lambda: redis.append("lines", line), n)
    yield "Redis log, `aappend`", lambda n: awaited(lambda: redis.aappend("lines", line), n)
    yield f"Redis log, `append` of {BATCH}", lambda n: called(lambda: redis.append("batches", lines), n, BATCH)
    yield "django-eventstream with Redis, `send_event`", lambda n: called(lambda: send_event("topic", "message", LINE), n)
    yield "channels_redis pub/sub, `group_send`", lambda n: awaited(layer(), n)


def main() -> None:
    """Print the medians of interleaved rounds."""
    memory, redis = MemoryEventLog(), RedisEventLog(url=f"redis://127.0.0.1:{PORT}/2", prefix=f"appends-{os.getpid()}")
    measured: dict[tuple[str, int], list[Measured]] = {}
    for _ in range(ROUNDS):
        for name, measure in rows(memory, redis):
            for at_once in (1, AT_ONCE):
                measured.setdefault((name, at_once), []).append(measure(at_once))
    redis.clear_all()
    print(f"\n| publishing | from one, events/s | µs of CPU | from {AT_ONCE} at once, events/s | µs of CPU |")
    print("|---|---|---|---|---|")
    for name, _ in rows(memory, redis):
        cells = [statistics.median(one[place] for one in measured[name, n]) for n in (1, AT_ONCE) for place in (0, 1)]
        print(f"| {name} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
