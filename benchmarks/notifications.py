"""From a commit in one process to a client of another over HTTP, and what waiting costs, with nothing but the database.

::

    python benchmarks/notifications.py                       # SQLite and PostgreSQL, 200 events 0.5 to 1.5 s apart on each
    python benchmarks/notifications.py --events 50 --databases sqlite

``--pause`` takes several numbers, each of which is measured in turn; ``POINTS`` has them drawn (``harness/plot.py``).
The server (uvicorn), the publisher and the client are three processes. A time begins when ``publish()`` has returned and ends
when the client has read the event from its socket. The poll alone (``NOTIFY_ALIAS`` is ``None``) is measured beside it, in turn.
"Idle" is the server's processor time while one topic is followed and nothing is published, uvicorn's own included. PostgreSQL
comes with the test extra.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.harness.plot import point  # noqa: E402
from tests.services import free_port, running_postgres  # noqa: E402

NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
APP = """
import json, os
import django
from django.conf import settings
settings.configure(SECRET_KEY="benchmark", INSTALLED_APPS=["django_agent_sse"], ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"],
                   USE_TZ=True, **json.loads(os.environ["GIVEN"]))
django.setup()
"""
MIGRATE = "from django.core.management import call_command; call_command('migrate', verbosity=0)"
SERVE = """
import sys
from django.core.asgi import get_asgi_application
from django.urls import include, path
from django_agent_sse import Router
router = Router()
@router.sse("follow/")
async def follow(c, stream):
    await stream.follow("builds.1", start="live")
urlpatterns = [path("", include(router.urls))]
import uvicorn
uvicorn.run(get_asgi_application(), port=int(sys.argv[1]), log_level="error")
"""
PUBLISH = """
import random, sys, time
from django_agent_sse import publish
for number in range(int(sys.argv[1])):
    time.sleep(random.uniform(0.5, 1.5) * float(sys.argv[2]))
    publish("builds.1", str(number))
    print(number, time.monotonic(), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--pause", default="1", help="seconds between two events, on average")
    parser.add_argument("--idle", type=float, default=30.0)
    parser.add_argument("--databases", default="sqlite,postgres")
    given = parser.parse_args()
    print("| database | hears of it by | seconds between | p50, ms | p99, ms | idle, % of a core |\n|---|---|---|---|---|---|")
    for kind in given.databases.split(","):
        with database(kind) as entry:
            call(MIGRATE, {"DATABASES": {"default": entry}})
            for way, options in (("itself", {}), ("the poll alone", {"NOTIFY_ALIAS": None})):
                log = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": options}
                for pause in map(float, given.pause.split(",")):
                    settings = {"DATABASES": {"default": entry}, "AGENT_SSE": {"EVENT_LOG": log}}
                    lags, idle = measured(settings, given, pause)
                    p50, p99 = lags[len(lags) // 2], lags[int(len(lags) * 0.99)]
                    point("notification", f"{NAMES[kind]}, {way}", 1 / pause, p50)
                    print(f"| {kind} | {way} | {pause:g} | {p50:.1f} | {p99:.1f} | {idle:.2f} |", flush=True)


@contextlib.contextmanager
def database(kind: str) -> Iterator[dict[str, Any]]:
    """A new one, as an entry of ``DATABASES``."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as home:
            options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=normal"}
            yield {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{home}/db.sqlite3", "OPTIONS": options}
        return
    with running_postgres() as url:
        host = url.partition("host=")[2]
        yield {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": host}


def begun(code: str, given: dict[str, Any], *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "GIVEN": json.dumps(given), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", APP + code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, **options)


def call(code: str, given: dict[str, Any]) -> None:
    assert begun(code, given).wait() == 0


def measured(given: dict[str, Any], asked: argparse.Namespace, pause: float) -> tuple[list[float], float]:
    """Milliseconds from commits to arrivals, sorted; and percent of a core while nothing is published."""
    port = free_port()
    server = begun(SERVE, given, port)
    try:
        client = connected(port)
        client.sendall(b"GET /follow/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        received, came = b"", {}
        while b"sse.position" not in received:
            received += client.recv(65536)
        time.sleep(3)
        before, began = used(server.pid), time.monotonic()
        time.sleep(asked.idle)
        idle = 100 * (used(server.pid) - before) / (time.monotonic() - began)
        publisher = begun(PUBLISH, given, asked.events, pause, stdout=subprocess.PIPE)
        received = b""
        while len(came) < asked.events:
            received += client.recv(65536)
            now = time.monotonic()
            lines = received.split(b"\n")
            received = lines.pop()
            came |= {int(line.removeprefix(b"data: ")): now for line in lines if line.startswith(b"data: ")}
        committed = dict(line.split() for line in publisher.communicate()[0].splitlines())
        client.close()
    finally:
        server.terminate()
        server.wait()
    return sorted(1000 * (came[int(number)] - float(at)) for number, at in committed.items()), idle


def connected(port: int) -> socket.socket:
    for _ in range(600):
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port))
        time.sleep(0.1)
    raise SystemExit("the server does not start")


def used(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
