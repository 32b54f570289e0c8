"""What a test asks of the clients: those of npm by a program that runs beside it, and the servers that they ask."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from queue import Queue
from typing import Any

import pytest

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.redis import RedisEventLog
from tests.live.servers import ROOT, Server, poll
from tests.npm import Node

from .cutting import Proxy, proxying

STATIC = ROOT / "django_agent_sse/static/django_agent_sse"
PATIENCE = 90.0
Outcome = dict[str, Any]


class Clients:
    """The clients of ``tests/node/agents.mjs``, in one process of Node.js, as many at once as are asked."""

    def __init__(self, node: Node) -> None:
        self._program = subprocess.Popen(
            node.command("agents.mjs"),
            env={**os.environ, "STATIC": str(STATIC)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # @ag-ui/client prints what it reports
            text=True,
            bufsize=1,
        )
        self._lines: dict[int, Queue[Outcome]] = {}
        self._numbers = itertools.count()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._program.stdout is not None
        for line in map(json.loads, self._program.stdout):
            self._lines[line.pop("id")].put(line)

    def ask(self, client: str, url: str, **about: Any) -> Waiting:
        """Have a client ask; it goes on meanwhile."""
        id = next(self._numbers)
        lines = self._lines[id] = Queue()
        assert self._program.stdin is not None
        self._program.stdin.write(f"{json.dumps({'id': id, 'client': client, 'url': url, **about})}\n")
        self._program.stdin.flush()
        return Waiting(lines)

    def close(self) -> None:
        """End the program."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(PATIENCE)
        self._reader.join()
        self._program.stdout.close()


@dataclass(slots=True)
class Waiting:
    """A client that was asked."""

    _lines: Queue[Outcome]

    def begun(self) -> Any:
        """Wait until it has had an event; return what the client tells of its request."""
        line = self._lines.get(timeout=PATIENCE)
        assert "begun" in line, line
        return line["begun"]

    def outcome(self) -> Outcome:
        """What it made of it, once it is over."""
        while "begun" in (outcome := self._lines.get(timeout=PATIENCE)):
            pass
        return outcome


@pytest.fixture(scope="module")
def asking(node: Node) -> Iterator[Clients]:
    """The clients; ``clients = asking`` makes it a fixture of a module."""
    clients = Clients(node)
    try:
        yield clients
    finally:
        clients.close()


@dataclass(slots=True)
class Site:
    """Two servers that share a log of events, and a proxy that cuts before the second of them.

    Attributes:
        maker: Where runs are started that shall be killed or interrupted.
        other: Where they are read meanwhile.
        proxy: Before ``other``.
        log: Theirs.
    """

    maker: Server
    other: Server
    proxy: Proxy
    log: EventLog

    def begin(
        self,
        path: str,
        *,
        topic: str,
        events: int,
        headers: Mapping[str, str],
        server: Server,
        body: bytes = b"",
        **query: object,
    ) -> str:
        """Start a run that nobody reads; return its id when so many events are in its topic.

        Whoever sends the same request again, with the same ``Idempotency-Key`` among the headers, reads it, at either server.
        """
        answer = server.get(path, method="POST", headers={"Prefer": "respond-async", **headers}, body=body, **query)
        assert answer.status == 202, answer
        id = str(answer.json()["run"])
        poll(f"{events} events of {path}", lambda: self.log.state(f"{topic}.{id}").top >= events)
        return id

    def stop(self, path: str) -> None:
        """Stop the run that has this address."""
        assert self.other.get(path, method="DELETE").status in (200, 202)


@pytest.fixture(scope="module")
def serving(start: Callable[..., Server], redis_url: str) -> Iterator[Site]:
    """The servers; ``site = serving`` makes it a fixture of a module."""
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    about = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
    maker, other = (start("uvicorn", middleware="default", agent_sse=about) for _ in range(2))
    with proxying(other.url) as proxy:
        yield Site(maker, other, proxy, RedisEventLog(**options))


def places(body: bytes, inside: int) -> list[int]:
    """Where a body is cut: before each event, at ``inside`` places in each, and after the last."""
    found, begin = [0], 0
    for event in body.split(b"\n\n")[:-1]:
        length = len(event) + 2
        found += sorted({begin + 1 + (length - 2) * part // (inside + 1) for part in range(1, inside + 1)} | {begin + length})
        begin += length
    assert begin == len(body)
    return found
