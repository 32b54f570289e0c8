"""A program of ``tests/node`` that runs clients of npm, as many at once as are asked, in one process of Node.js."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import Any

from tests.live.servers import ROOT
from tests.npm import Node

STATIC = ROOT / "django_agent_sse/static/django_agent_sse"
PATIENCE = 120.0
AT_ONCE = 48
"""Clients that ask at the same time: the others wait, so that none of a thousand waits for longer than it is patient."""
Outcome = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A client that was asked."""

    _lines: Queue[Outcome]

    def _next(self) -> Outcome:
        line = self._lines.get(timeout=PATIENCE)
        assert "broken" not in line, line["broken"]
        return line

    def begun(self) -> Any:
        """Wait until its answer has begun; return what the client tells of it."""
        line = self._next()
        assert "begun" in line, line
        return line["begun"]

    def outcome(self) -> Outcome:
        """Wait until it is over; return what the client made of it."""
        while "begun" in (line := self._next()):
            pass
        return line


class Program:
    """Each line to the program asks one client: ``{id, client, …}``; its lines are ``{id, begun: …}`` and then ``{id, …}``."""

    def __init__(self, node: Node, name: str) -> None:
        self._process = subprocess.Popen(
            node.command(name),
            env={**os.environ, "STATIC": str(STATIC)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # some clients print what they report
            text=True,
            bufsize=1,
            encoding="utf-8",
        )
        self._asked: dict[int, Queue[Outcome]] = {}
        self._numbers = itertools.count(1)
        self._free = threading.Semaphore(AT_ONCE)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in map(json.loads, self._process.stdout):
            id = line.pop("id")
            for lines in [*self._asked.values()] if id is None else [self._asked[id]]:
                lines.put(line)
            if id is not None and "begun" not in line:
                self._free.release()
        for lines in [*self._asked.values()]:
            lines.put({"broken": "the program has ended"})

    def ask(self, client: str, url: str, **about: Any) -> Asked:
        """Have a client ask; it goes on meanwhile."""
        assert self._free.acquire(timeout=PATIENCE)
        id = next(self._numbers)
        lines = self._asked[id] = Queue()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps({'id': id, 'client': client, 'url': url, **about})}\n")
        self._process.stdin.flush()
        return Asked(lines)

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join()
        self._process.stdout.close()


@contextmanager
def running(node: Node, name: str) -> Iterator[Program]:
    """Run the program."""
    program = Program(node, name)
    try:
        yield program
    finally:
        program.close()
