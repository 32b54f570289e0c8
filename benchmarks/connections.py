"""What isolation costs: threads and database connections of streams on PostgreSQL, before and after, in one run.

::

    python benchmarks/connections.py                    # this tree
    python benchmarks/connections.py ../main .          # two trees in turn, for a table side by side

Each tree runs in a process of its own, on a PostgreSQL of its own that comes with the test extra, through Django's ASGI handler
in process and without sockets, so that what is counted is Django's and ours. The best of two rounds is shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROUNDS = 2
ROWS = 2_000


def main() -> None:
    trees = [Path(tree).resolve() for tree in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    results: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for _ in range(ROUNDS):
        for tree in trees:
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            command = [sys.executable, __file__, "--measure"]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, cwd=tree)
            results[tree].append(json.loads(done.stdout.splitlines()[-1]))
    for name in results[trees[0]][0]:
        best = [min(result[name] for result in results[tree]) for tree in trees]
        print(f"| {name} | " + " | ".join(f"{value:,.4g}" for value in best) + " |")


def measure() -> None:
    from tests.services import running_postgres

    with running_postgres() as url:
        os.environ["SITE_DATABASE"] = url
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.site.settings"
        import django

        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        User.objects.bulk_create(User(username=f"user-{number}") for number in range(ROWS))
        connection.close()
        print(json.dumps(asyncio.run(measured())))


class Most:
    """The most threads of this process and connections to the database while a block runs."""

    def __enter__(self) -> Most:
        import psycopg

        self.threads = self.connections = 0
        self._over = threading.Event()
        self._server = psycopg.connect(os.environ["SITE_DATABASE"], autocommit=True)
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self.threads = max(self.threads, threading.active_count() - 1)
            sql = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type = 'client backend'"
            self.connections = max(self.connections, self._server.execute(sql).fetchone()[0])

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._server.close()


async def measured() -> dict[str, float]:
    from django.contrib.auth.models import User

    from django_agent_sse import Context, Stream
    from django_agent_sse.asgi import wrap
    from tests.inprocess import eventually, serve
    from tests.site.settings import MIDDLEWARE_SETS

    eventually.__defaults__ = (60.0,)  # a busy machine is no reason to give up
    found: dict[str, float] = {}
    default = {"MIDDLEWARE": MIDDLEWARE_SETS["default"]}

    async def idle(c: Context, stream: Stream) -> None:
        await User.objects.aget(username="user-0")
        await stream.write("open")
        await stream.wait_closed()

    for name, around in (("connect, one query", lambda app: app), ("the same under wrap()", wrap)):
        async with serve(idle, settings=default, around=around) as site:
            times = []
            for _ in range(150):
                began = time.perf_counter()
                client = site.connect()
                await client.event()
                times.append(time.perf_counter() - began)
                client.leave()
                await client.over()
            site.clients.clear()
        found[f"{name}, ms"] = sorted(times)[75] * 1000

    async def queries(c: Context, stream: Stream) -> None:
        count, pause = int(c.query["count"]), float(c.query["pause"])
        await User.objects.aget(username="user-1")
        took = []
        for _ in range(count):
            await asyncio.sleep(pause)
            began = time.perf_counter()
            await User.objects.aget(username="user-1")
            took.append(time.perf_counter() - began)
        await stream.write(sorted(took)[count // 2] * 1e6)

    async with serve(queries) as site:
        for name, query in (("a query in a burst", "count=500&pause=0"), ("a query after a rest", "count=30&pause=0.1")):
            found[f"{name}, µs"] = float((await site.connect(query=query).event()).data or 0)

    async def each_second(c: Context, stream: Stream) -> None:
        await stream.open()
        while True:
            began = time.perf_counter()
            await User.objects.aget(username="user-1")
            stream.write((time.perf_counter() - began) * 1000)
            await asyncio.sleep(1)

    async with serve(each_second) as site:
        clients = []
        for number in range(1_000):
            clients.append(site.connect())
            if number % 10 == 0:
                await asyncio.sleep(0.008)
        await asyncio.sleep(2)
        for client in clients:
            client._unread.clear()
        with Most() as most:
            cpu, began = time.process_time(), time.monotonic()
            await asyncio.sleep(5)
            cpu = time.process_time() - cpu
            seconds = time.monotonic() - began
        waits = sorted(float(event.data or 0) for client in clients for event in client._unread)
        found["1,000 streams, a query a second each: queries missed"] = 5_000 - len(waits) * 5 / seconds
        found["… processor time of a query, µs"] = cpu / len(waits) * 1e6
        found["… p50, ms"], found["… p99, ms"] = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
        found["… threads"], found["… connections"] = most.threads, most.connections

    async def rows(c: Context, stream: Stream) -> None:
        count = 0
        async for _ in User.objects.order_by("pk").aiterator(chunk_size=200):
            count += 1
        await stream.write(count)

    async with serve(rows) as site:
        with Most() as most:
            began = time.perf_counter()
            clients = [site.connect() for _ in range(100)]
            for client in clients:
                assert (await client.event()).data == str(ROWS)
            found[f"aiterator() over {ROWS:,} rows in 100 streams, s"] = time.perf_counter() - began
        found["… connections "] = most.connections

    gate = asyncio.Event()

    async def one_each(c: Context, stream: Stream) -> None:
        await stream.write("open")
        await gate.wait()
        await stream.write(await User.objects.acount())
        await stream.wait_closed()

    async with serve(one_each) as site:
        clients = [site.connect() for _ in range(300)]
        for client in clients:
            await client.event()
        await asyncio.sleep(1)
        with Most() as most:
            began = time.perf_counter()
            gate.set()
            for client in clients:
                assert (await client.event()).data == str(ROWS)
            found["300 streams, one query each at once, s"] = time.perf_counter() - began
        found["… threads "], found["…  connections"] = most.threads, most.connections
    return found


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["--measure"] else main()
