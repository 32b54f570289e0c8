"""Many who append to one database at the same time. ``python benchmarks/concurrent_appends.py``

32 threads of one process, 8 processes with one thread each, and 8 with four publish one line of 80 bytes after another, as fast
as they can, to one topic and to 100: appends a second together, and how long a call took (p50, p99). Beside each, the same ones
send the statements of such an append without Django, each in a transaction of its own: what the database and the driver take. It
measures a new SQLite file, as ``startproject`` configures it and with a write-ahead log; with ``--postgres`` a new PostgreSQL on
a socket, which waits for its disk. ``PYTHONPATH=../before`` measures another tree.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

CALLERS = ((32, 1), (1, 8), (4, 8))
"""Threads of each process, and processes."""
TOPICS = (1, 100)
LINE = "x" * 80
PAYLOAD = json.dumps([[LINE, "line"]], separators=(",", ":"))
UPDATE = (
    "UPDATE django_agent_sse_logtopic SET top = top + 1, total = total + 84, appended_at = {0} WHERE name = {0} RETURNING id, top"
)
INSERT = "INSERT INTO django_agent_sse_logrow (topic_id, last, events, total, at, payload) "


@contextmanager
def databases(postgres: bool) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield entries of ``DATABASES`` by what they are called in the table."""
    if postgres:
        sys.path.insert(0, str(ROOT))  # of this process alone, which uses nothing else from there
        from tests.services import running_postgres

        with running_postgres(fsync=True) as url:
            host = url.partition("host=")[2]
            yield {
                "PostgreSQL": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": "postgres",
                    "USER": "postgres",
                    "HOST": host,
                }
            }
        return
    with tempfile.TemporaryDirectory() as directory:
        yield {
            name: {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{directory}/{number}.sqlite3",
                "OPTIONS": {"init_command": ";".join(f"PRAGMA {pragma}" for pragma in pragmas)},
            }
            for number, (name, pragmas) in enumerate(
                [("SQLite", []), ("SQLite, journal_mode=WAL", ["journal_mode=wal", "synchronous=normal"])]
            )
        }


def set_up(entry: dict[str, Any]) -> None:
    """Configure Django for one process."""
    import django
    from django.conf import settings

    settings.configure(INSTALLED_APPS=["django_agent_sse"], DATABASES={"default": entry}, USE_TZ=True)
    django.setup()


def bare(entry: dict[str, Any]) -> Callable[[str], object]:
    """Return what appends a line to a topic over a connection of its own, by the driver alone."""
    if entry["ENGINE"].endswith("postgresql"):
        import psycopg

        server = psycopg.connect(dbname=entry["NAME"], user=entry["USER"], host=entry["HOST"], autocommit=True)
        insert = f"{INSERT} SELECT id, top, 1, top * 84, %s, %s FROM topic"
        sql = f"WITH topic AS ({UPDATE.format('%s')}), row AS ({insert}) SELECT * FROM topic"
        return lambda topic: server.execute(sql, [time.time(), topic, time.time(), PAYLOAD]).fetchall()
    file = sqlite3.connect(entry["NAME"], isolation_level=None)
    file.executescript(entry["OPTIONS"]["init_command"])

    def append(topic: str) -> None:
        file.execute("BEGIN IMMEDIATE")
        ((pk, top),) = file.execute(UPDATE.format("?"), [time.time(), topic]).fetchall()
        file.execute(f"{INSERT} VALUES (?, ?, 1, ?, ?, ?)", [pk, top, top * 84, time.time(), PAYLOAD])
        file.execute("COMMIT")

    return append


def work(about: dict[str, Any]) -> list[int]:
    """Append from so many threads for some seconds; return the microseconds of each call that succeeded."""
    from django.db import connections

    took: list[int] = []
    failed: list[Exception] = []
    ready, go = threading.Barrier(about["threads"] + 1), threading.Event()
    chance = random.Random(about["worker"])
    starts = [chance.randrange(about["topics"]) for _ in range(about["threads"])]

    def run(number: int) -> None:
        from django_agent_sse import publish

        append = bare(about["entry"]) if about["bare"] else lambda topic: publish(topic, LINE, event="line")
        if not about["bare"]:
            connections["default"].ensure_connection()
        ready.wait()
        go.wait()
        until, own = time.perf_counter() + about["seconds"], []
        try:
            while (began := time.perf_counter()) < until:
                number += 13
                append(f"{about['prefix']}-{number % about['topics']}")
                own.append(int((time.perf_counter() - began) * 1e6))
        except Exception as error:
            failed.append(error)
        took.extend(own)
        connections.close_all()

    threads = [threading.Thread(target=run, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    ready.wait()
    print("ready", flush=True)
    sys.stdin.readline()
    go.set()
    for thread in threads:
        thread.join()
    if failed:
        print(f"{len(failed)} callers failed, the first with: {failed[0]!r}"[:300], file=sys.stderr)
    return took


def make(about: dict[str, Any]) -> None:
    """Make the tables and the topics, in a process of its own."""
    subprocess.run([sys.executable, __file__, "--make", json.dumps(about)], check=True)


def made(about: dict[str, Any]) -> None:
    """Do it."""
    from django.core.management import call_command

    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.wire.event import Event

    call_command("migrate", verbosity=0)
    for number in range(about["topics"]):
        event_log().append(f"{about['prefix']}-{number}", Event("begins"))


def measure(entry: dict[str, Any], threads: int, processes: int, topics: int, seconds: float, *, bare: bool) -> str:
    """Return appends a second, and p50 and p99 of a call, as a cell of the table. Its topics are new."""
    prefix = f"{time.time():.3f}"
    about = {"entry": entry, "threads": threads, "topics": topics, "seconds": seconds, "bare": bare, "prefix": prefix}
    make(about)
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", json.dumps({**about, "worker": worker})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    took = sorted(micros for child in children for micros in json.loads(child.communicate()[0]))
    p50, p99 = (took[int(len(took) * share)] / 1000 for share in (0.5, 0.99))
    return f"{len(took) / seconds:,.0f}, {p50:,.1f}, {p99:,.1f}"


def main() -> None:
    """Print a table for each database."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--postgres", action="store_true", help="a new PostgreSQL")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell")
    parser.add_argument("--rounds", type=int, default=1, help="print the table so often")
    parser.add_argument("--databases", default="", help="those whose names begin so")
    for child in ("--make", "--work"):
        parser.add_argument(child, type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if about := given.make or given.work:
        set_up(about["entry"])
        if given.make:
            made(about)
        else:
            print(json.dumps(work(about)))
        return
    with databases(given.postgres) as entries:
        for _ in range(given.rounds):
            print("| database | callers | topics | publish(): a second, p50 ms, p99 ms | bare statements |")
            print("| --- | --- | --- | --- | --- |")
            for name, entry in [(name, entry) for name, entry in entries.items() if name.startswith(given.databases)]:
                for threads, processes in CALLERS:
                    for topics in TOPICS:
                        cells = [measure(entry, threads, processes, topics, given.seconds, bare=bare) for bare in (False, True)]
                        print(f"| {name} | {processes} × {threads} | {topics} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
