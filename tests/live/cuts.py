"""The proxy of ``tests/node/cutting.mjs`` before a server, and what the clients of ``tests/node/cuts.mjs`` got behind it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.npm import Node

from .proxies import Proxy
from .servers import ROOT, Server

STATIC = ROOT / "django_agent_sse/static/django_agent_sse"
TARGET = "/client/numbers/"
EXIT_SECONDS = 60.0
LONGEST_FRAME = 8
"""What a chunk of less than 4 kB has around it: its length and two line ends."""
GZIP_ENDS = 20
"""The head and the end of gzip."""
LONGEST_BLOCK = 10
"""What a block and its flush have around an event, where nothing in it can be said shorter."""


@dataclass(slots=True, kw_only=True)
class Cuts:
    """A proxy that cuts the first connection to ``{base}/NAME/K/`` after K bytes of the body, frames of the coding included.

    Attributes:
        base: Its address.
        wrong: The cuts after which a client of npm got not all of the numbers, or not once and in order, by its name.
        before: The last bytes that went through before the cut, by ``NAME/K``; filled at the end, as are the next two.
        connections: How many there were, by ``NAME/K``.
        codings: Every ``Content-Encoding`` that a client got, by ``NAME``.
    """

    base: str
    wrong: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)
    codings: dict[str, list[str]] = field(default_factory=dict)

    def must_cover(self, name: str, count: int, *, compressed: bool = False) -> None:
        """The last of so many cuts came after the last event, so that there was one at each byte.

        What is compressed cannot be read here: a client had the end where it did not come back. The end of gzip does not say
        so, since who has seen ``sse.end`` may leave before it.
        """
        if compressed:
            assert self.codings[name] == ["gzip"], name
            assert self.connections[f"{name}/{count - 1}"] == 1, name
            return
        before = self.before[f"{name}/{count - 1}"]
        assert re.search(r"\nid: sse\.end~\d+\n\n", before), before

    def is_past_help(self, name: str, k: int, got: Sequence[int], wanted: Sequence[int]) -> bool:
        """Whether it was cut between an id's line and the blank line, and lost that event and no other.

        Clients that take an id at the end of its line ask for what comes after an event that they never saw. No order of the
        fields helps: it is one byte in each event, and all that is left of the event's end.
        """
        taken = re.search(r"\nid: (\d+)\n$", self.before[f"{name}/{k}"])
        return bool(taken) and list(got) == [number for number in wanted if number != int(taken[1])]


def count_bytes(server: Server, *, to: int, compressed: bool = False, **query: str) -> int:
    """As many bytes as the whole body has at most when it travels: in the frames of its coding, and in gzip's blocks.

    How many there are is another number each time: what is written while a client is slow travels in one piece.
    """
    with server.open(TARGET[1:], to=to, **query) as client:
        assert len(client.rest()) == to + 1
        pieces = to + 2
        gzip = GZIP_ENDS + LONGEST_BLOCK * pieces if compressed else 0
        return len(client.parser.raw) + LONGEST_FRAME * pieces + gzip


@contextmanager
def cutting(origin: Server | Proxy, node: Node, *, to: int, clients: Sequence[str] = (), count: int = 0) -> Iterator[Cuts]:
    """Run the proxy before a server or another proxy; behind it these clients of npm, each cut after 0, 1, … ``count`` bytes."""
    environment = {
        **os.environ,
        "ORIGIN": origin.url,
        "TARGET": f"{TARGET}?to={to}",
        "BYTES": str(count),
        "TO": str(to),
        "CLIENTS": ",".join(clients),
        "STATIC": str(STATIC),
    }
    with subprocess.Popen(
        node.command("cuts.mjs"), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        cuts = Cuts(base=json.loads(program.stdout.readline())["base"])
        for _ in clients:
            told = json.loads(program.stdout.readline())
            cuts.wrong[told["name"]] = told["wrong"]
        yield cuts
        program.stdin.close()
        seen = json.loads(program.stdout.readline())
        cuts.before, cuts.connections, cuts.codings = seen["before"], seen["connections"], seen["codings"]
        program.wait(EXIT_SECONDS)
