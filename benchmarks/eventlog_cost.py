"""What an event costs in a log: bytes and time. ``python benchmarks/eventlog_cost.py``

It appends lines of 80 bytes to a new SQLite file, one at a time and 50 at a time; with ``--postgres`` to a new PostgreSQL on a
socket, which waits for its disk; with ``--memory`` to the memory log; with ``DATABASE_URL`` (dj-database-url) to an empty
PostgreSQL database; with ``REDIS_URL`` to a Redis, under a prefix of its own. Then ``publish()`` is called with one such line
after another, and ``publish_many()`` with many: time and this process's CPU of a call, in three rounds. Beside it stand the bare
statements of such an append, by the driver alone. ``PYTHONPATH=../before`` measures another tree.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import django
from concurrent_appends import bare
from django.conf import settings
from django.db import connection
from harness.plot import point

EVENTS = 20_000
CALLS, ROUNDS = 2_000, 3
AT_ONCE = (1, 10, 100, 1_000)
LINE = "x" * 80
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

        with running_postgres(fsync=True) as url:
            host = url.partition("host=")[2]
            yield {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": host}
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(directory) / "db.sqlite3")}


def store() -> str:
    """What the log is kept in."""
    from django_agent_sse.eventlog.backend import event_log

    names = {"MemoryEventLog": "memory", "RedisEventLog": "Redis"}
    return names.get(type(event_log()).__name__) or ("SQLite" if connection.vendor == "sqlite" else "PostgreSQL")


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
        f"{store()}, {batch} at a time: {grown / EVENTS:.0f} bytes an event, "
        f"{appended / len(appends) * 1e6:,.0f} us an append, {read / EVENTS * 1e6:.1f} us for each event read back"
    )


def measure_publish(entry: dict[str, Any]) -> None:
    """Publish lines one at a time and many at a time, on SQLite with a write-ahead log."""
    from django_agent_sse import publish, publish_many

    name = about = store()
    if name == "SQLite":
        about = "SQLite with a write-ahead log"
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = wal")
            cursor.execute("PRAGMA synchronous = normal")
    for lines in AT_ONCE:
        data = [LINE] * lines

        def call(data: list[str] = data) -> None:
            if len(data) == 1:
                publish("publish", LINE, event="line")
            else:
                publish_many("publish", data, event="line")

        report(about, f"publish of {lines:,}", name, lines, call)
    if name in ("SQLite", "PostgreSQL"):
        append = bare({**entry, "OPTIONS": {"init_command": "PRAGMA synchronous = normal"}})
        report(about, "bare statements of one", f"{name}, bare statements", 1, lambda: append("publish"))


def report(about: str, what: str, series: str, lines: int, call: Callable[[], object]) -> None:
    """Print the median of the rounds, for a call and for each of its lines."""
    calls, rounds = max(20, CALLS // lines), []
    for _ in range(ROUNDS + 1):
        began, used = time.perf_counter(), time.process_time()
        for _ in range(calls):
            call()
        rounds.append(((time.perf_counter() - began) / calls * 1e6, (time.process_time() - used) / calls * 1e6))
    took, cpu = (statistics.median(values) for values in zip(*rounds[1:], strict=True))  # the first one warms up
    each = f" ({took / lines:.1f} us a line)" if lines > 1 else ""
    print(f"{about}, {what}: {took:,.0f} us a call{each}, {cpu:,.0f} us of this process's CPU")
    point("publish", series, lines, took / lines)


def measure_redis() -> None:
    """Print what only Redis can tell: a topic with one event, the server's own time, many topics, eight threads at once."""
    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.wire.event import Event

    log, client, line = event_log(), redis_client(), Event(LINE)
    before = size()
    for number in range(1_000):
        log.append(f"small-{number}", line)
    print(f"Redis: {(size() - before) / 1_000:.0f} bytes a topic with one event")
    client.config_resetstat()

    def publish(thread: int) -> None:
        for _ in range(EVENTS // 8):
            log.append(f"thread-{thread}", line)

    began = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(publish, range(8)))
    took = time.perf_counter() - began
    own = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    print(f"Redis: {EVENTS / took:,.0f} appends a second from 8 threads of one process; an append takes the server {own:.0f} us")
    log.clear_all()


def main() -> None:
    """Print a line for each size of an append."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--postgres", action="store_true", help="a new PostgreSQL")
    parser.add_argument("--memory", action="store_true", help="the memory log")
    given = parser.parse_args()
    with database(given.postgres) as entry:
        options = {"url": REDIS_URL, "prefix": PREFIX}
        log: dict[str, Any] = {}
        if REDIS_URL:
            log = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
        elif given.memory:
            import_module("django.core.asgi")  # a process that serves: in others nobody could follow what is in the memory
            log = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
        settings.configure(
            INSTALLED_APPS=["django_agent_sse"],
            DATABASES={"default": entry},
            USE_TZ=True,
            AGENT_SSE=log,
        )
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        for batch in () if given.memory else (1, 50):
            measure(batch)
        measure_publish(entry)
        if REDIS_URL:
            measure_redis()
        connection.close()


if __name__ == "__main__":
    main()
