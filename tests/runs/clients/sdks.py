"""What a test asks of SDKs: those of PyPI on threads and on a loop, those of npm in a program beside; all of them at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.npm import Node

PATIENCE = 120.0
AT_ONCE = 16


@dataclass(slots=True, kw_only=True)
class Ask:
    """One question.

    Attributes:
        base: The address that the SDK is told.
        model: Of the site: ``whole``, ``fails`` or ``waits``.
        headers: Beside the SDK's own.
        query: Likewise.
        retries: How often the SDK may send it again by itself.
        then: What a client that resumes sends beside its own headers when it comes back.
    """

    base: str
    model: str = "whole"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    then: Mapping[str, str] = field(default_factory=dict)

    @property
    def extra(self) -> dict[str, Any]:
        """As the SDKs of Python take it."""
        return {"extra_headers": dict(self.headers), "extra_query": dict(self.query)}


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a client made of an answer.

    Attributes:
        text: All deltas.
        kinds: The type of each event.
        numbers: The number of each event that has one.
        usage: The tokens that were counted at the end.
        id: Of the answer.
        error: The class of what was raised.
        message: What it said.
        final: The text that a helper put together.
        connections: How many were needed.
        half: It has shown half of the answer.
    """

    text: str = ""
    kinds: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    usage: int | None = None
    id: str = ""
    error: str | None = None
    message: str = ""
    final: str | None = None
    connections: int = 0
    half: threading.Event = field(default_factory=threading.Event)

    def take(
        self, kind: str, text: str | None = "", *, number: int | None = None, usage: int | None = None, id: str = ""
    ) -> None:
        """Add what an event says."""
        self.text += text or ""
        self.kinds.append(kind)
        self.numbers += [] if number is None else [number]
        self.usage = usage if usage is not None else self.usage
        self.id = id or self.id
        if text and self.text.endswith(": Djan"):
            self.half.set()


def shared_log(redis_url: str) -> dict[str, Any]:
    """The settings of servers that share a log."""
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    return {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}


Blocking = Callable[[Ask, Seen], None]
Async = Callable[[Ask, Seen], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is being answered."""

    seen: Seen
    over: Future[Seen]

    def result(self) -> Seen:
        """Wait for the end of it."""
        return self.over.result(PATIENCE)

    def wait_half(self) -> None:
        """Wait until half of the answer is there."""
        assert self.seen.half.wait(PATIENCE), self.seen


class SDKs:
    """The clients by their names."""

    def __init__(
        self, blocking: Mapping[str, Blocking], asynchronous: Mapping[str, Async], node: Node, program: str, npm: list[str]
    ) -> None:
        self._blocking = blocking
        self._async = asynchronous
        self.names = [*blocking, *asynchronous, *(f"{name} (npm)" for name in npm)]
        self._pool = ThreadPoolExecutor(AT_ONCE * len(self.names))
        self._loop = asyncio.new_event_loop()
        self._numbers = itertools.count()
        self._asked: dict[int, Asked] = {}
        self._program = subprocess.Popen(
            node.command(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._threads = [threading.Thread(target=self._loop.run_forever), threading.Thread(target=self._read)]
        for thread in self._threads:
            thread.start()

    def ask(self, name: str, **about: Any) -> Asked:
        """Have one client ask, and go on meanwhile."""
        ask, seen = Ask(**about), Seen()
        if name in self._blocking:
            return Asked(seen, self._pool.submit(self._run_blocking, self._blocking[name], ask, seen))
        if name in self._async:
            return Asked(seen, asyncio.run_coroutine_threadsafe(self._run_async(self._async[name], ask, seen), self._loop))
        asked = self._asked[number := next(self._numbers)] = Asked(seen, Future())
        line = {"number": number, "client": name.removesuffix(" (npm)"), **{key: getattr(ask, key) for key in Ask.__slots__}}
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps(line) + "\n")
        return asked

    def _run_blocking(self, client: Blocking, ask: Ask, seen: Seen) -> Seen:
        try:
            client(ask, seen)
        except Exception as error:
            seen.error, seen.message = type(error).__name__, str(error)
        return seen

    async def _run_async(self, client: Async, ask: Ask, seen: Seen) -> Seen:
        try:
            await client(ask, seen)
        except Exception as error:
            seen.error, seen.message = type(error).__name__, str(error)
        return seen

    def _read(self) -> None:
        assert self._program.stdout is not None
        for line in map(json.loads, self._program.stdout):
            asked = self._asked[line.pop("number")]
            if half := line.pop("half", ""):
                asked.seen.id = half
                asked.seen.half.set()
                continue
            for key, value in line.items():
                setattr(asked.seen, key, value)
            asked.over.set_result(asked.seen)

    def close(self) -> None:
        """End them."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._program.wait(PATIENCE)
        if self._program.stdout is not None:
            self._program.stdout.close()
        self._loop.close()
        self._pool.shutdown()


@contextmanager
def asking(*about: Any) -> Iterator[SDKs]:
    """Have SDKs at hand."""
    sdks = SDKs(*about)
    try:
        yield sdks
    finally:
        sdks.close()
