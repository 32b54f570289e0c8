"""The servers as processes, with the flags they have by default, and what a test asks of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import warm
from tests.services import free_port
from tests.timing import bound

from .client import PATIENCE, Answer, Client

ROOT = Path(__file__).resolve().parents[2]
LATE_ANSWERS = "--timeout-worker-healthcheck 15"
"""An option of uvicorn with several workers: it kills one that does not answer it within 5 s, which a busy machine may take.
It may wait as long for one that was killed while it was asked, before it starts another."""
APPLICATION = "tests.site.asgi:application"
START_SECONDS = 120.0
STOP_SECONDS = bound(30.0, 120.0)
ATTEMPTS = 3
LOOKS = 3
AT_ONCE = bound(1.0, 10.0)
"""Seconds in which a client's leaving is seen: heartbeats, which would find it too, come after fifteen."""
EXIT_WITHIN = bound(5.0, 60.0)
"""Seconds in which a server ends that nothing holds up; the streams of these tests stay open for ever."""

COMMANDS = {
    "uvicorn": f"uvicorn --host 127.0.0.1 --port {{port}} --log-level warning {APPLICATION}",
    "daphne": f"daphne -b 127.0.0.1 -p {{port}} -v 0 {APPLICATION}",
    "granian": f"granian --interface asgi --host 127.0.0.1 --port {{port}} --log-level warning {APPLICATION}",
    "hypercorn": f"hypercorn -w 0 -b 127.0.0.1:{{port}} --log-level warning {APPLICATION}",
    "gunicorn": f"gunicorn -k asgi -b 127.0.0.1:{{port}} --no-control-socket --log-level warning {APPLICATION}",
    "gunicorn with uvicorn": f"gunicorn -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{{port}} --log-level warning {APPLICATION}",
    "runserver": "django runserver --noreload 127.0.0.1:{port}",
}
"""``-w 0`` makes hypercorn serve in the process that gets the signals; ``runserver`` is Django's own, and WSGI."""
ASGI = ("uvicorn", "daphne", "granian", "hypercorn")
EVERY = (*ASGI, "gunicorn")
"""gunicorn's own ASGI worker beside them, where a server's way of ending matters."""
BLOCKING = ("uvicorn", "granian", "hypercorn")
"""Servers whose ``send()`` waits for a slow client; daphne's never does."""


WAVES = {"daphne": 40, "hypercorn": 50}
"""Connects at once: these two listen with queues of 50 and 100, and who finds one full waits a second, whatever the site does."""


def poll(what: str, probe: Callable[[], Any], within: float = PATIENCE, every: float = 0.01) -> Any:
    """Return the first truthy result of ``probe``; fail, and show the last one, after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (result := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {within} s, last seen {result!r}"
        time.sleep(every)
    return result


class Server:
    """One running server. ``pid`` is the process that was started, ``worker`` the one that answers (granian's is a child)."""

    def __init__(self, kind: str, directory: Path, environment: dict[str, str]) -> None:
        self.kind = kind
        self.directory = directory
        self.log_file = directory / "server.log"
        self.journal_file = directory / "journal.jsonl"
        self._journal: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._journal_end = 0
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.site.settings",
            "PYTHONPATH": str(ROOT),
            "SITE_JOURNAL": str(self.journal_file),
            **environment,
        }
        for _ in range(ATTEMPTS):
            self._spawn()
            if self._answers():
                break
        else:
            raise AssertionError(f"{kind} does not start:\n{self.log()}")
        self.worker = int(self.state()["pid"])

    def _spawn(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", *COMMANDS[self.kind].format(port=self.port).split()]
        with self.log_file.open("ab") as log:
            self.process = warm.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self.process.pid

    def _answers(self) -> bool:
        """Wait until it serves; false, and it has ended, where somebody else took the port, or where it answers with an error."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("_ping/").status == 200:
                    return True
                break
            except OSError:
                time.sleep(0.05)
        self.kill()
        return False

    def open(self, path: str, **options: Any) -> Client:
        """Send a request; keywords are ``Client``'s, all others go into the query string."""
        return Client(f"{self.url}/{path}", **options)

    def connect(self, count: int, path: str, **options: Any) -> list[Client]:
        """Open so many streams, as many at once as the server's listen queue holds; each has had its first event then."""
        clients: list[Client] = []
        while len(clients) < count:
            wave = min(WAVES.get(self.kind, count), count - len(clients))
            clients += (together := [self.open(path, **options) for _ in range(wave)])
            for client in together:
                client.next()
        return clients

    def get(self, path: str, **options: Any) -> Answer:
        """Send a request and read the whole answer."""
        options["headers"] = {"Accept": "*/*", "Connection": "close", **options.get("headers", {})}
        with self.open(path, **options) as client:
            return client.answer()

    def state(self, **query: Any) -> dict[str, Any]:
        """What the process holds, seen from inside; see ``tests.site.state``."""
        return dict(self.get("_state/", **query).json())

    @contextmanager
    def most_connections(self) -> Iterator[list[int]]:
        """The most connections to the database that were open at once while the block ran, once it has ended.

        Counted by the process itself when one is opened. PostgreSQL's own list would not do: a sample misses what is short.
        """
        most: list[int] = []
        self.state(count_anew=1)
        yield most
        most.append(self.state()["most_connections"])

    def open_gate(self, name: str) -> None:
        """Let the handler go on that waits at this gate."""
        assert self.get("_gate/", name=name).status == 200

    def os_threads(self) -> int:
        """Threads of the worker, counted from outside; cheap enough to sample often."""
        return len(os.listdir(f"/proc/{self.worker}/task"))

    def journal(self, key: str) -> list[dict[str, Any]]:
        """What handlers recorded under ``key``, in order; also after the process has ended."""
        if self.journal_file.exists():
            with self.journal_file.open("rb") as file:
                file.seek(self._journal_end)
                *whole, unfinished = file.read().split(b"\n")
                self._journal_end = file.tell() - len(unfinished)
            for entry in map(json.loads, whole):
                self._journal[entry["key"]].append(entry)
        return [*self._journal[key]]

    def steps(self, key: str) -> list[str]:
        """The names of what was recorded under ``key``."""
        return [entry["what"] for entry in self.journal(key)]

    def recorded(self, key: str, what: str, *, count: int = 1, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until ``what`` stands ``count`` times in the journal under ``key``; return the last of them."""

        def found() -> list[dict[str, Any]] | None:
            entries = [entry for entry in self.journal(key) if entry["what"] == what]
            return entries if len(entries) >= count else None

        return dict(poll(f"{what!r} × {count} in the journal of {key!r} ({self.steps(key)})", found, within)[count - 1])

    def settled_steps(self, key: str, quiet: float = 0.3) -> list[str]:
        """Wait until nothing more has been recorded under ``key`` for ``quiet`` seconds; return the steps."""
        steps: list[str] = []
        same = 0

        def grew_no_more() -> bool:
            nonlocal same
            before = len(steps)
            steps[:] = self.steps(key)
            same = same + 1 if len(steps) == before else 0
            return same == LOOKS  # one alone may be of a machine that stood still

        poll(f"the journal of {key!r} grows no more", grew_no_more, every=quiet / LOOKS)
        return steps

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, as a process manager does."""
        os.kill(self.pid, number)

    def wait(self, within: float) -> int:
        """Wait for the process's end; return its code."""
        return self.process.wait(within)

    def kill(self) -> None:
        """End the process and its children, which share a session of their own, whatever they are doing."""
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End it as a process manager would, and say so where that is not enough."""
        if self.process.poll() is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            self.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as late:
            self.kill()
            raise AssertionError(f"{self.kind} ignored SIGTERM for {STOP_SECONDS} s:\n{self.log()}") from late

    def restart(self) -> None:
        """Die, and serve again at the same address: what the process held is lost."""
        self.kill()
        for _ in range(ATTEMPTS):
            self._spawn(self.port)
            if self._answers():
                break
        else:
            raise AssertionError(f"{self.kind} does not start again:\n{self.log()}")
        self.worker = int(self.state()["pid"])

    def log(self) -> str:
        """What the server printed."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


def environment_of(site: dict[str, Any], database: str) -> dict[str, str]:
    """Turn the keywords of a test (``middleware=``, ``quiet=``, ``agent_sse=``) into the site's environment."""
    environment = {"SITE_DATABASE": database}
    for name, value in site.items():
        environment[f"SITE_{name.upper()}"] = json.dumps(value) if isinstance(value, dict) else str(value)
    return environment


@contextmanager
def running(kind: str, directory: Path, database: str, **site: Any) -> Iterator[Server]:
    """A server of this kind, with its own copy of an SQLite database."""
    directory.mkdir(parents=True, exist_ok=True)
    if "://" not in database:
        database = shutil.copy(database, directory / "site.sqlite3")
    server = Server(kind, directory, environment_of(site, str(database)))
    try:
        yield server
    finally:
        server.stop()
