"""What an event costs in a log: bytes and time. ``python benchmarks/eventlog_cost.py``

It appends lines of 80 bytes to a new SQLite file, one at a time and 50 at a time; with ``--postgres`` to a new PostgreSQL on a
socket; with ``DATABASE_URL`` (dj-database-url) to an empty PostgreSQL database; with ``REDIS_URL`` to a Redis, under a prefix of
its own. Then ``publish()`` is called with one such line after another: time and this process's CPU of a call, in three rounds.
``PYTHONPATH=../before`` measures another tree.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection

EVENTS = 20_000
CALLS, ROUNDS = 2_000, 3
CHANCE = random.Random(1)
REDIS_URL = os.environ.get("REDIS_URL", "")
PREFIX = f"cost-{os.getpid()}"


@contextlib.contextmanager
def database(postgres: bool) -> Iterator[dict[str, Any]]:
    """Yield the entry of the database under test."""
    if "DATABASE_URL" in os.environ:
        import dj_database_url

        yield dj_database_url.config()
    elif postgres:
        sys.path.append(str(Path(__file__).resolve().parents[1]))
        from tests.services import running_postgres

        with running_postgres() as url:
            host = url.partition("host=")[2]
            yield {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": host}
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(directory) / "db.sqlite3")}


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


def measure_publish() -> None:
    """Publish lines one at a time, on SQLite with a write-ahead log."""
    from django_agent_sse import publish

    store = "redis" if REDIS_URL else connection.vendor
    if store == "sqlite":
        store = "sqlite with a write-ahead log"
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = wal")
            cursor.execute("PRAGMA synchronous = normal")
    rounds = []
    for _ in range(ROUNDS + 1):
        began, used = time.perf_counter(), time.process_time()
        for _ in range(CALLS):
            publish("publish", "x" * 80, event="line")
        rounds.append(((time.perf_counter() - began) / CALLS * 1e6, (time.process_time() - used) / CALLS * 1e6))
    took, cpu = (statistics.median(values) for values in zip(*rounds[1:], strict=True))  # the first one warms up
    print(f"{store}, publish(): {took:,.0f} us a call, {cpu:,.0f} us of this process's CPU")


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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--postgres", action="store_true", help="a new PostgreSQL")
    given = parser.parse_args()
    with database(given.postgres) as entry:
        options = {"url": REDIS_URL, "prefix": PREFIX}
        log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}
        settings.configure(
            INSTALLED_APPS=["django_agent_sse"],
            DATABASES={"default": entry},
            USE_TZ=True,
            AGENT_SSE={"EVENT_LOG": log} if REDIS_URL else {},
        )
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        for batch in (1, 50):
            measure(batch)
        measure_publish()
        if REDIS_URL:
            measure_redis()
        connection.close()


if __name__ == "__main__":
    main()
