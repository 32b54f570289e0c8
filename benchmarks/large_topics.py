"""Topics of up to ten million events: what reading, trimming and deleting cost. ``python benchmarks/large_topics.py``

Fills a topic with lines of 80 bytes, one row each, which is the most rows that so many events can be, by SQL and not by
appending; in a new file of SQLite with a write-ahead log, or with ``--postgres`` in a server of its own. It prints how long a
page takes at the start, at the end and in between, and how long appends to another topic took while this one was trimmed and
deleted.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection, connections

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.harness.plot import point

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LINE = 80
ROUNDS = 25
TOPIC, OTHER = "builds.large", "builds.small"
CHANCE = random.Random(1)


@contextmanager
def databases(postgres: bool) -> Iterator[dict[str, Any]]:
    """A new and empty database."""
    if postgres:
        from tests.services import running_postgres

        with running_postgres() as url:
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": url.partition("host=")[2],
            }
        return
    with tempfile.TemporaryDirectory() as directory:
        options = {"init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=normal", "transaction_mode": "IMMEDIATE"}
        yield {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{directory}/db.sqlite3", "OPTIONS": options}


def fill(events: int) -> None:
    """Make the topic have so many events, a row each, as appends of one line would have left it."""
    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.models import LogRow, LogTopic
    from django_agent_sse.wire.event import Event

    log = event_log()
    log.append(TOPIC, Event("x" * LINE, event="line"))
    row = LogRow.objects.get(topic__name=TOPIC)
    table = LogRow._meta.db_table
    columns = f"INSERT INTO {table} (topic_id, last, events, total, at, payload) "
    values = [row.topic_id, row.total, row.at, row.payload]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            numbers = f"SELECT %s, n, 1, n * %s, %s, %s FROM generate_series(2, {events}) n"
            cursor.execute(columns + numbers, values)
            cursor.execute(f"VACUUM ANALYZE {table}")
        else:
            for first in range(2, events + 1, 500_000):
                until = min(events, first + 499_999)
                numbers = f"WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {until}) "
                cursor.execute(columns + numbers + "SELECT %s, n, 1, n * %s, %s, %s FROM c", values)
    LogTopic.objects.filter(name=TOPIC).update(top=events, total=events * row.total)


def size() -> int:
    """Bytes of the tables and their indexes."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        else:
            cursor.execute(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relname LIKE 'django_agent_sse_log%%'"
            )
        return int(cursor.fetchone()[0])


def milliseconds(call: Callable[[], object], picture: tuple[str, int] | None = None) -> str:
    """The median of some rounds, and the worst one; for the picture, which line it is and how large the topic."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1e3)
    if picture is not None:
        point("large-topic", *picture, statistics.median(took))
    return f"{statistics.median(took):.1f} ({max(took):.1f})"


@contextmanager
def appends_beside() -> Iterator[list[float]]:
    """Append to another topic meanwhile, every 10 ms; what each took, in milliseconds."""
    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.wire.event import Event

    took: list[float] = []
    over = threading.Event()

    def append() -> None:
        log = event_log()
        while not over.wait(0.01):
            began = time.perf_counter()
            log.append(OTHER, Event("x"))
            took.append((time.perf_counter() - began) * 1e3)
        connections.close_all()

    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def measure(events: int) -> None:
    """Print a row of the table."""
    from django_agent_sse.eventlog.backend import event_log

    log = event_log()
    before, began = size(), time.perf_counter()
    fill(events)
    filled, bytes_each = time.perf_counter() - began, (size() - before) / events
    name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[connection.vendor]
    cells = [
        f"{events:,}",
        f"{bytes_each:.0f}",
        milliseconds(lambda: log.read_after(TOPIC, 0), (f"{name}, the first", events)),
        milliseconds(lambda: log.read_after(TOPIC, events - 256), (f"{name}, the last", events)),
        milliseconds(lambda: log.read_after(TOPIC, CHANCE.randrange(events - 256))),
        milliseconds(lambda: log.state(TOPIC)),
    ]
    for change in (lambda: log.trim(TOPIC, max_events=events // 2), lambda: log.delete(TOPIC)):
        with appends_beside() as took:
            began = time.perf_counter()
            change()
            seconds = time.perf_counter() - began
        cells += [f"{seconds:.1f} s", f"{statistics.median(took):.1f} ({max(took):.0f})"]
    print(f"| {' | '.join(cells)} |", f"<!-- filled in {filled:.0f} s -->" if filled > 60 else "", flush=True)


def main() -> None:
    """Print a table for one database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("events", nargs="*", type=int, default=SIZES)
    options = parser.parse_args()
    with databases(options.postgres) as database:
        log = {
            "BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog",
            "OPTIONS": {"MAX_EVENTS": 10**9, "MAX_BYTES": 10**12},
        }
        settings.configure(
            INSTALLED_APPS=["django_agent_sse"], DATABASES={"default": database}, USE_TZ=True, AGENT_SSE={"EVENT_LOG": log}
        )
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        print(f"{connection.vendor}; milliseconds: the median (the worst)\n")
        names = "events", "bytes each", "first page", "last page", "a page between", "state"
        print(f"| {' | '.join(names)} | half trimmed | appends beside | deleted | appends beside |")
        print("| ---: " * 10 + "|")
        for events in options.events:
            measure(events)
        connection.close()


if __name__ == "__main__":
    main()
