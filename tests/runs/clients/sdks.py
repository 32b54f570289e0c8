"""What a test asks of SDKs: those of PyPI on threads and on a loop, those of npm in a program beside; all of them at once."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
import httpx_sse

from tests.generators import leaving_none_open
from tests.npm import Node

from . import program
from .cutting import Cut
from .program import AT_ONCE, PATIENCE, Program
from .site import Site

NPM = " (npm)"
"""At the end of the names of those of npm."""


@dataclass(slots=True, kw_only=True)
class Ask:
    """One question.

    Attributes:
        url: The address that the SDK is told.
        model: Of the site: ``whole``, ``fails`` or ``waits``.
        headers: Beside the SDK's own.
        query: Likewise.
        retries: How often the SDK may send it again by itself.
    """

    url: str
    model: str = "whole"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0

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


Blocking = Callable[[Ask, Seen], None]
Async = Callable[[Ask, Seen], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is being answered by an SDK of PyPI."""

    seen: Seen
    over: Future[None]

    def half(self) -> str:
        """Wait until half of the answer is there; return its id."""
        assert self.seen.half.wait(PATIENCE), self.seen
        return self.seen.id

    def result(self) -> Seen:
        """Wait for the end of it."""
        try:
            self.over.result(PATIENCE)
        except Exception as error:
            self.seen.error, self.seen.message = type(error).__name__, str(error)
        return self.seen


@dataclass(frozen=True, slots=True)
class AskedNpm:
    """The same by one of npm."""

    asked: program.Asked

    def half(self) -> str:
        """Wait until half of the answer is there; return its id."""
        return str(self.asked.begun())

    def result(self) -> Seen:
        """Wait for the end of it."""
        return Seen(**self.asked.outcome()["seen"])


async def _answering(answer: Coroutine[Any, Any, None]) -> None:
    async with leaving_none_open():
        await answer


class SDKs:
    """The clients of a site by their names; their requests go through its proxy."""

    def __init__(self, site: Site, blocking: Mapping[str, Blocking], coroutines: Mapping[str, Async], npm: Program) -> None:
        self._site, self._blocking, self._coroutines, self._npm = site, blocking, coroutines, npm
        self._pool, self._free = ThreadPoolExecutor(AT_ONCE), threading.Semaphore(AT_ONCE)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def ask(
        self, name: str, *, path: str = "", model: str = "whole", key: str | None = None, retries: int = 0, **plan: Any
    ) -> Asked | AskedNpm:
        """Have one client ask, and go on meanwhile.

        Args:
            name: Of the client.
            path: Below that of all SDKs.
            model: Of the site: ``whole``, ``fails`` or ``waits``.
            key: Who has one sends it as ``Idempotency-Key``; the journal has it too.
            retries: How often the SDK may send it again by itself.
            plan: What becomes of its requests at the proxy.
        """
        called = key or uuid.uuid4().hex
        if plan:
            self._site.proxy.plan(called, **plan)
        headers = {"X-Plan": called, **({} if key is None else {"Idempotency-Key": key})}
        url = f"{self._site.proxy.url}/llm{path}"
        ask, seen = Ask(url=url, model=model, headers=headers, query={"key": called}, retries=retries), Seen()
        if name.endswith(NPM):
            return AskedNpm(self._npm.ask(name.removesuffix(NPM), **asdict(ask)))
        assert self._free.acquire(timeout=PATIENCE)
        if name in self._blocking:
            over = self._pool.submit(self._blocking[name], ask, seen)
        else:
            over = asyncio.run_coroutine_threadsafe(_answering(self._coroutines[name](ask, seen)), self._loop)
        over.add_done_callback(lambda _: self._free.release())
        return Asked(seen, over)

    def ask_all(self, names: Iterable[str], **about: Any) -> dict[str, Asked | AskedNpm]:
        """Have all of these ask the same."""
        return {name: self.ask(name, **about) for name in names}

    def close(self) -> None:
        """End them."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pool.shutdown()


@contextmanager
def asking(site: Site, blocking: Mapping[str, Blocking], coroutines: Mapping[str, Async], node: Node) -> Iterator[SDKs]:
    """Have SDKs at hand."""
    with program.running(node, "llm.mjs") as npm, closing(SDKs(site, blocking, coroutines, npm)) as sdks:
        yield sdks


def resumed(site: Site, path: str, cut: Cut, end: str) -> list[str]:
    """Have a client of one's own start a run, and come back once by ``Last-Event-ID``, unless it has the end; return all data."""
    name, data, last_id = uuid.uuid4().hex, list[str](), ""
    site.proxy.plan(name, cut=cut)
    with httpx.Client(base_url=site.proxy.url, timeout=PATIENCE, verify=False) as http:
        try:
            with httpx_sse.connect_sse(http, "POST", path, json={"model": "whole"}, headers={"X-Plan": name}) as source:
                where = source.response.headers["location"]
                for event in source.iter_sse():
                    data.append(event.data)
                    last_id = event.id
        except httpx.RemoteProtocolError:
            pass
        else:
            raise AssertionError(f"{cut}: it took {data} for whole")
        if data[-1:] != [end]:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            with httpx_sse.connect_sse(http, "GET", where, headers=headers) as source:
                data += [event.data for event in source.iter_sse()]
    return data
