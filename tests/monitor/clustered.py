"""Several workers of one site, what its monitor says of them, and what the operating system says."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ledger.logs import environment_of
from tests.ledger.test_ledger import cluster, site_environment, workers_of
from tests.live.client import Client
from tests.live.servers import poll

PATIENCE = 120.0


@dataclass
class Cluster:
    """A site with several workers, and its clients."""

    url: str
    parent: psutil.Process
    log_file: Path
    database: str = ""
    since: float = 0.0
    clients: list[Client] = field(default_factory=list)

    def ask(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON of a page, from any of the workers, once that has closed the connection: it would be counted, too."""
        where = urllib.parse.urlsplit(self.url)
        target = f"{where.path}/{path}?{urllib.parse.urlencode(query)}"
        with socket.create_connection((where.hostname, where.port or 80), PATIENCE) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode())
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = answer.read()
            connection.recv(1)  # its end
        if answer.status != 200:
            raise OSError(f"{target} is answered with {answer.status}: {body[:1000]!r}")
        return dict(json.loads(body))

    def board(self, **query: Any) -> dict[str, Any]:
        """The monitor's picture; asking for rows has every process report each second."""
        return self.ask("_board/", **query)

    def open(self, path: str = "life/idle/", count: int = 1, **options: Any) -> list[Client]:
        """Open so many streams; each has had its first event then."""
        opened = [Client(f"{self.url}/{path}", **options) for _ in range(count)]
        for client in opened:
            client.next(PATIENCE)
        self.clients += opened
        return opened

    def leave(self, count: int) -> None:
        """As many clients, at random, leave: with a FIN or with an RST."""
        random.shuffle(self.clients)
        for client in self.clients[:count]:
            random.choice((client.close, client.reset))()
        del self.clients[:count]

    def sockets(self) -> dict[int, int]:
        """Connections of each worker to clients, as the operating system shows them."""
        port = urllib.parse.urlsplit(self.url).port
        found = {}
        for worker in workers_of(self.parent):
            with contextlib.suppress(psutil.NoSuchProcess):
                connections = worker.net_connections("tcp")
                found[worker.pid] = sum(one.status == "ESTABLISHED" and one.laddr.port == port for one in connections)
        return found

    def agreed(self, within: float = PATIENCE) -> int:
        """Wait until the monitor shows what the operating system shows; that number."""

        def same() -> dict[str, int] | None:
            seen = self.board(rows=1)
            counts = {"sockets": sum(self.sockets().values()), "open": seen["open"], "matched": seen["matched"]}
            last.update(counts)
            return counts if len(set(counts.values())) == 1 and not seen["missing"] else None

        last: dict[str, int] = {}
        try:
            poll("the monitor agrees with the operating system", same, within=within, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{last}\n{self.log_file.read_text()[-3000:]}") from error
        return last["open"]


@contextlib.contextmanager
def running_cluster(
    log: str, request: pytest.FixtureRequest, directory: Path, workers: int = 3, **more: str
) -> Iterator[Cluster]:
    """So many workers over a log, with everything closed afterwards."""
    environment = site_environment(environment_of(log, request, directory), **more)
    with cluster(environment, workers, directory / "server.log") as (url, parent):
        one = Cluster(url.partition("/topics/")[0], parent, directory / "server.log", environment["SITE_DATABASE"])
        poll("the site answers", lambda: _answers(one), within=PATIENCE, every=0.1)
        poll("all workers are there", lambda: len([*workers_of(parent)]) == workers, within=PATIENCE, every=0.1)
        try:
            yield one
        finally:
            for client in one.clients:
                client.close()


def _answers(one: Cluster) -> bool:
    try:
        return bool(one.ask("_ping/"))
    except OSError:
        return False
