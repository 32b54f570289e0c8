"""Streams of people, read by one loop, which is the test's own thread; and a server process that is stopped for a while."""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.asleep import is_locked, stop

from .client import _Body
from .conftest import _running
from .parser import Parser
from .servers import PATIENCE, Server

PROCESSES = 3


@dataclass(eq=False)
class Reader:
    """One stream of one person, read by the loop of ``Readers``; it comes back after its end where ``returns``."""

    server: Server
    path: str
    person: str
    session: str
    returns: bool = False
    last_id: str = ""
    status: int = 0
    ended_at: float = 0.0
    events: list[tuple[float, str, str]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    back_at: float = 0.0
    connection: socket.socket | None = None

    def connect(self) -> socket.socket:
        """Send the request; nothing is waited for."""
        self._head, self._parser, self.status, self.ended_at = b"", Parser(), 0, 0.0
        self.connection = socket.create_connection(("127.0.0.1", self.server.port), PATIENCE)
        cookie = f"Cookie: sessionid={self.session}\r\n" if self.session else ""
        head = f"GET /{self.path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{cookie}Connection: close\r\n\r\n"
        self.connection.sendall(head.encode())
        self.connection.setblocking(False)
        return self.connection

    def feed(self, data: bytes) -> None:
        """Take what has come; nothing: the server has closed."""
        now = time.monotonic()
        if not data:
            self.ended_at = self.ended_at or now
            return
        if not self.status:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self.status = int(head.split()[1])
            self._body = _Body({"transfer-encoding": "chunked"} if b"chunked" in head else {})
        if self.status != 200:
            return
        for event in self._parser.feed(self._body.feed(data)):
            self.events.append((now, event.name, event.data))
            self.last_id = event.id or self.last_id
            if event.name == "sse.end":
                self.ended_at = self.ended_at or now

    @property
    def open(self) -> bool:
        return self.status == 200 and not self.ended_at


class Readers:
    """All streams of a test, read by one thread, which is the test's own."""

    def __init__(self) -> None:
        self.all: list[Reader] = []
        self._selector = selectors.DefaultSelector()

    def open(self, *readers: Reader) -> None:
        for reader in readers:
            self._selector.register(reader.connect(), selectors.EVENT_READ, reader)
        self.all += [reader for reader in readers if reader not in self.all]

    def read(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            reader: Reader = key.data
            try:
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
            except ConnectionError:
                data = b""
            reader.feed(data)
            if not data:
                self._leave(reader)
        now = time.monotonic()
        for reader in self.all:
            if reader.returns and reader.connection is None and now >= reader.back_at:
                self.open(reader)

    def hear(self, seconds: float) -> None:
        """Read for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read(0.05)

    def _leave(self, reader: Reader) -> None:
        assert reader.connection is not None
        self._selector.unregister(reader.connection)
        reader.connection.close()
        reader.connection = None
        if reader.status != 200:
            reader.refused.append(reader.status)
        reader.back_at = time.monotonic() + random.uniform(0.2, 0.6)

    def until(self, what: str, probe: Callable[[], Any], within: float = PATIENCE) -> Any:
        deadline = time.monotonic() + within
        while not (result := probe()):
            assert time.monotonic() < deadline, f"{what}: not within {within} s"
            self.read(0.05)
        return result

    def close(self) -> None:
        for reader in self.all:
            if reader.connection is not None:
                self._leave(reader)
        self._selector.close()


@dataclass
class Site:
    """Three servers of one project."""

    servers: list[Server]
    readers: Readers

    def ask(self, path: str, server: int = 0, **query: Any) -> Any:
        answer = self.servers[server % PROCESSES].get(path, **query)
        assert answer.status == 200, answer.body[-2000:]
        return answer.json() if answer.body else None

    def people(self, people: dict[str, dict[str, Any]]) -> dict[str, str]:
        return dict(self.ask("access/people/", people=json.dumps(people)))


@contextmanager
def three_servers(directory: Path, environment: dict[str, str]) -> Iterator[Site]:
    """Run three servers of one site, each a process with a port of its own; their logs are shown under a test that fails."""
    with ExitStack() as stack:
        servers = []
        for number in range(PROCESSES):
            home = directory / str(number)
            home.mkdir()
            servers.append(Server("uvicorn", home, environment))
            stack.callback(servers[-1].stop)
            _running.append(servers[-1])
            stack.callback(_running.remove, servers[-1])
        readers = Readers()
        stack.callback(readers.close)
        yield Site(servers, readers)


def put_to_sleep(server: Server) -> None:
    """Stop a process, but not while it has a lock of SQLite: nobody could write until it wakes."""
    database = server.environment["SITE_DATABASE"]
    for _ in range(100):
        stop(server.process.pid)
        if "://" in database or not is_locked(database):
            return
        os.kill(server.process.pid, signal.SIGCONT)
        time.sleep(0.02)
    pytest.fail("it holds a lock whenever it is stopped")
