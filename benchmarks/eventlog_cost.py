"""What an event costs in the database log: bytes on disk, queries, and time. ``python benchmarks/eventlog_cost.py``

It appends lines of 80 bytes to a new SQLite file, one at a time and 50 at a time; with ``DATABASE_URL`` (dj-database-url) to an
empty PostgreSQL database.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection

EVENTS = 20_000
CHANCE = random.Random(1)


def databases(directory: str) -> dict[str, Any]:
    """The database under test."""
    if "DATABASE_URL" not in os.environ:
        return {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(directory) / "db.sqlite3")}}
    import dj_database_url

    return {"default": dj_database_url.config()}


def size() -> int:
    """Bytes of the tables and their indexes."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        else:
            cursor.execute("SELECT sum(pg_total_relation_size(c::text::regclass)) FROM unnest(%s::text[]) c", [tables()])
        return int(cursor.fetchone()[0])


def tables() -> list[str]:
    """Those of the log."""
    return [f"django_agent_sse_log{name}" for name in ("topic", "row", "key")]


def measure(batch: int) -> None:
    """Append and read back ``EVENTS`` lines."""
    from django_agent_sse.eventlog.current import event_log
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
        f"{connection.vendor}, {batch} at a time: {grown / EVENTS:.0f} bytes an event, "
        f"{appended / len(appends) * 1e6:,.0f} us an append, {read / EVENTS * 1e6:.1f} us for each event read back"
    )


def main() -> None:
    """Print a line for each size of an append."""
    from django.core.management import call_command

    with tempfile.TemporaryDirectory() as directory:
        settings.configure(INSTALLED_APPS=["django_agent_sse"], DATABASES=databases(directory), USE_TZ=True)
        django.setup()
        call_command("migrate", verbosity=0)
        for batch in (1, 50):
            measure(batch)
        connection.close()


if __name__ == "__main__":
    main()
