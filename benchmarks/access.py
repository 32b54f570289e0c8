"""What it costs to ask the guards of open streams again: queries, processor time, and how long it takes.

::

    python benchmarks/access.py                          # 5,000 streams of 500 users, a new SQLite file
    python benchmarks/access.py --streams 1000 --users 100
    python benchmarks/access.py --postgres               # a new PostgreSQL, of the PATH or of POSTGRES_BIN

The streams are real ones of Django's ASGI handler in this process, without sockets: what is measured is the asking. Each row is
one round, in which every stream is asked once; with the default of ``RECHECK`` there is one such round a minute, spread over it.
*Share of a core* is its processor time over that minute. The last row is a change of everybody's rights: all are asked at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

HOME = Path(tempfile.mkdtemp(prefix="sse-access-"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")
os.environ["SITE_AGENT_SSE"] = json.dumps({"CAN_FOLLOW": "tests.site.routes.access.can_follow", "LIMITS": None})
MINUTE = 60.0
queries: Counter[str] = Counter()


def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    queries["all"] += 1
    return execute(sql, params, many, context)


def counted(connection: Any, **_: Any) -> None:
    if count not in connection.execute_wrappers:
        connection.execute_wrappers.append(count)


class Client:
    """One request that takes what comes, and stays."""

    def __init__(self, application: Any, path: str, session: str) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (b"host", b"testserver"),
                (b"accept", b"text/event-stream"),
                (b"cookie", f"sessionid={session}".encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
        }
        self.task = asyncio.create_task(application(scope, self._receive, self._send))
        self._asked = False

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message.get("body"):
            self.begun.set()


async def measure(streams: int, users: int, routes: dict[str, str]) -> None:
    from asgiref.sync import sync_to_async
    from django.core.handlers.asgi import ASGIHandler

    from django_agent_sse.access.orders import Recheck
    from django_agent_sse.access.service import access
    from django_agent_sse.asgi import wrap

    sessions = await sync_to_async(people)(users)
    application = wrap(ASGIHandler())  # connecting is not measured
    print(f"{streams:,} streams of {users:,} users")
    print(f"{'asked':44} {'queries':>8} {'loads':>6} {'CPU':>8} {'a stream':>9} {'share of a core':>16} {'took':>7}")
    for name, path in routes.items():
        clients: list[Client] = []
        for number in range(streams):
            clients.append(Client(application, path, sessions[number % users]))
            if number % 50 == 49:
                await asyncio.gather(*(client.begun.wait() for client in clients[-50:]))
        await asyncio.gather(*(client.begun.wait() for client in clients))
        book = access.book()
        for _ in range(2):  # the second is warm
            queries.clear()
            asked, loads, cpu, began = book.asked, book.loads, time.process_time(), time.perf_counter()
            for permit in [*book.permits.values()]:
                book.want(permit)
            await book.idle()
            cpu, took = time.process_time() - cpu, time.perf_counter() - began
        asked, loads = book.asked - asked, book.loads - loads
        assert asked == streams, asked
        row = f"{queries['all']:8,} {loads:6,} {cpu:6.2f} s {1e6 * cpu / streams:6.0f} µs {100 * cpu / MINUTE:14.2f} %"
        print(f"{name:44} {row} {took:5.2f} s", flush=True)
        if path == list(routes.values())[-1]:
            began = time.perf_counter()
            access.execute(Recheck(everybody=True))
            await asyncio.sleep(0.01)
            await book.idle()
            print(f"{'an order about everybody: the last is asked after':44} {time.perf_counter() - began:60.2f} s")
        for client in clients:
            client.left.set()
        await asyncio.gather(*(client.task for client in clients))


def group() -> int:
    from django.contrib.auth.models import Group

    return int(Group.objects.get_or_create(name="readers")[0].pk)


def people(count: int) -> list[str]:
    from tests.access.changes import person, sign_in

    return [sign_in(person(f"user {number}", group="readers")).session_key for number in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        location = str(HOME / "db.sqlite3")
        if given.postgres:
            from tests.services import running_postgres

            location = stack.enter_context(running_postgres())
        run(location, given)


def run(location: str, given: argparse.Namespace) -> None:
    os.environ["SITE_DATABASE"] = location

    import django
    from django.db.backends.signals import connection_created

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    connection_created.connect(counted)
    from django.db import connection, connections

    counted(connection)
    routes = {
        "no guards: is it still the same user?": "/access/public/",
        "the user alone (login_required)": "/access/signed-in/",
        "a permission of the user's group": "/access/permitted/",
        "CAN_FOLLOW: a permission for an object": f"/access/of-group/{group()}/",
        "CAN_FOLLOW: is the user in a group?": "/access/private/readers/",
    }
    asyncio.run(measure(given.streams, given.users, routes))
    print(f"{connection.vendor}, Python {sys.version.split()[0]}, Django {django.__version__}")
    connections.close_all()


if __name__ == "__main__":
    main()
