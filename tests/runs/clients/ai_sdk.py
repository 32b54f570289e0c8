"""The program of Node.js that runs the clients of the AI SDK, and what each made of an answer."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from queue import Queue
from typing import Any

from tests.npm import Node

PATIENCE = 90.0
Seen = dict[str, Any]


class Chatting:
    """A chat that goes on."""

    def __init__(self) -> None:
        self.lines: Queue[Seen] = Queue()

    def begun(self) -> str:
        """Wait until its answer has text; return the id of the run."""
        line = self.lines.get(timeout=PATIENCE)
        assert line.get("begun"), line
        return str(line["run"])

    def over(self) -> Seen:
        """Wait until the client has ended; return what it shows."""
        while "broken" in (line := self.lines.get(timeout=PATIENCE)) or "begun" in line:
            assert "broken" not in line, line["broken"]
        return line


class Clients:
    """``tests/node/ai_sdk.mjs``: some chats at once, the others wait; those that a test waits for begin at once."""

    def __init__(self, node: Node) -> None:
        self._chats: dict[int | None, Chatting] = {}
        self._numbers = itertools.count(1)
        self.program = subprocess.Popen(
            node.command("ai_sdk.mjs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.program.stdout is not None
        for line in map(json.loads, self.program.stdout):
            for chat in [self._chats[line["id"]]] if line["id"] is not None else [*self._chats.values()]:
                chat.lines.put(line)

    def ask(self, client: str, origin: str, path: str, **about: Any) -> Chatting:
        """Begin a chat; see the program for what may be said about it."""
        number = next(self._numbers)
        chat = self._chats[number] = Chatting()
        assert self.program.stdin is not None
        line = {"id": number, "client": client, "origin": origin, "path": path, "chat": f"chat-{number}", **about}
        self.program.stdin.write(f"{json.dumps(line)}\n")
        self.program.stdin.flush()
        return chat

    def close(self) -> None:
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.close()
        self.program.wait(PATIENCE)
        self._reader.join()
        self.program.stdout.close()


@contextmanager
def asking(node: Node) -> Iterator[Clients]:
    """Run the program."""
    clients = Clients(node)
    try:
        yield clients
    finally:
        clients.close()


def texts(seen: Mapping[str, Any], kind: str = "text") -> list[str]:
    """The text of each part of the one answer that a client shows."""
    (message,) = seen["messages"]
    return [part["text"] for part in message["parts"] if part["type"] == kind]
