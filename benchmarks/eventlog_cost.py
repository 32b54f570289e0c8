"""What an event costs in a log: bytes and time. ``python benchmarks/eventlog_cost.py``

It appends lines of 80 bytes to a new SQLite file, one at a time and 50 at a time; with ``DATABASE_URL`` (dj-database-url) to an
empty PostgreSQL database; with ``REDIS_URL`` to a Redis, under a prefix of its own.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection

EVENTS = 20_000
CHANCE = random.Random(1)
REDIS_URL = os.environ.get("REDIS_URL", "")
PREFIX = f"cost-{os.getpid()}"


def databases(directory: str) -> dict[str, Any]:
    """The database under test."""
    if "DATABASE_URL" not in os.environ:
        return {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(directory) / "db.sqlite3")}}
    import dj_database_url

    return {"default": dj_database_url.config()}


def size() -> int:
    """Bytes of the tables and their indexes, or of the keys."""
    if REDIS_URL:
        client = redis_client()
        return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter(f"{PREFIX}:*"))
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        else:
            cursor.execute("SELECT sum(pg_total_relation_size(c::text::regclass)) FROM unnest(%s::text[]) c", [tables()])
        return int(cursor.fetchone()[0])


def redis_client() -> Any:
    """A client of the Redis under test."""
    import redis

    return redis.Redis.from_url(REDIS_URL, protocol=2)


def tables() -> list[str]:
    """Those of the log."""
    return [f"django_agent_sse_log{name}" for name in ("topic", "row", "key")]


def measure(batch: int) -> None:
    """Append and read back ``EVENTS`` lines."""
    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.wire.event import Event

    log, topic = event_log(), f"batch-{batch}"
    appends = [
        [Event(f"[{n:05}] cc -o {CHANCE.randbytes(33).hex()}", event="line") for n in range(batch)]
        for _ in range(EVENTS // batch)
    ]
    before, began = size(), time.perf_counter()
    for lines in appends:
        log.append(topic, lines)
    appended = time.perf_counter() - began
    grown = size() - before
    began, after = time.perf_counter(), 0
    while records := log.read_after(topic, after).records:
        after = records[-1].offset
    read = time.perf_counter() - began
    print(
        f"{'redis' if REDIS_URL else connection.vendor}, {batch} at a time: {grown / EVENTS:.0f} bytes an event, "
        f"{appended / len(appends) * 1e6:,.0f} us an append, {read / EVENTS * 1e6:.1f} us for each event read back"
    )


def measure_redis() -> None:
    """Print what only Redis can tell: a topic with one event, the server's own time, many topics, eight threads at once."""
    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.wire.event import Event

    log, client, line = event_log(), redis_client(), Event("x" * 80)
    before = size()
    for number in range(1_000):
        log.append(f"small-{number}", line)
    print(f"redis: {(size() - before) / 1_000:.0f} bytes a topic with one event")
    client.config_resetstat()

    def publish(thread: int) -> None:
        for _ in range(EVENTS // 8):
            log.append(f"thread-{thread}", line)

    began = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publish, range(8)))
    took = time.perf_counter() - began
    own = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    print(f"redis: {EVENTS / took:,.0f} appends a second from 8 threads of one process; an append takes the server {own:.0f} us")
    log.clear_all()


def main() -> None:
    """Print a line for each size of an append."""
    from django.core.management import call_command

    with tempfile.TemporaryDirectory() as directory:
        options = {"url": REDIS_URL, "prefix": PREFIX}
        log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}
        settings.configure(
            INSTALLED_APPS=["django_agent_sse"],
            DATABASES=databases(directory),
            USE_TZ=True,
            AGENT_SSE={"EVENT_LOG": log} if REDIS_URL else {},
        )
        django.setup()
        call_command("migrate", verbosity=0)
        for batch in (1, 50):
            measure(batch)
        if REDIS_URL:
            measure_redis()
        connection.close()


if __name__ == "__main__":
    main()
