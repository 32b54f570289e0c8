"""What gzip saves and costs: build logs and deltas of a language model, through Django's ASGI handler in process.

::

    python benchmarks/compression.py

Each kind of stream is read twice in turn, as it is and as gzip, by the same number of clients: bytes of the bodies, and
processor time for an event at a client, the best of the rounds. There are no sockets, of which gzip spares some: what is counted
is ours and Django's. ``w5`` of ``run.sh`` has a server: ``agent-sse-wrap-gzip`` beside ``agent-sse-wrap``. ``own`` streams are
written by their handler, ``topic`` streams follow one topic. ``--rounds N`` for more than five.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

LINES = 4_000
WATCHERS = 50
WRITERS = 10
TICK_LINES = 10
"""Lines that come together: 2,000 a second are published each 5 ms."""
TICK_DELTAS = 3
"""Deltas of 100 tokens a second that a run appends together, each 30 ms."""
WORDS = Path(__file__).with_name("FIGURES.md")


def build_log() -> list[str]:
    """Lines of 80 bytes or so, as a compiler and a test runner print them: each with a time, a path and a number of its own."""
    rng = random.Random(20261129)
    names = sorted({word.strip(".,`*()|") for word in WORDS.read_text().split() if word.isascii() and len(word) > 4})
    lines = []
    for number in range(LINES):
        path = "/".join(rng.sample(names, 2)).lower()
        built, passed = f"[{number * 100 // LINES:3}%] Building C object src/{path}.o", f"PASSED tests/{path}.py::test_{number}"
        at = f"12:{number // 60 % 60:02}:{number % 60:02}.{rng.randrange(1000):03}"
        lines.append(f"{at} {built if number % 2 else passed} ({rng.randrange(4000)} ms)")
    return lines


def deltas() -> list[str]:
    """Parts of an answer as the AI SDK's stream has them, a word each."""
    words = WORDS.read_text().split()
    return [f'{{"type":"text-delta","id":"txt-0","delta":" {word}"}}' for word in words[:LINES] if '"' not in word]


class Client:
    """One request for a stream."""

    def __init__(self, application: Any, path: str, gzip: bool) -> None:
        self.begun = asyncio.Event()
        self.taken = 0
        self._asked = False
        self._left = asyncio.Event()
        headers = [(b"host", b"testserver"), (b"accept", b"text/event-stream")]
        if gzip:
            headers.append((b"accept-encoding", b"gzip"))
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
            "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 40_000), "server": ("testserver", 80),
        }  # fmt: skip
        self.task = asyncio.create_task(application(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.taken += len(message.get("body", b""))
            self.begun.set()


Client._send.__module__ = "uvicorn.stand_in"  # its send() is taken for uvicorn's, which may be called from outside the task


def configure() -> Any:
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="urlconf",
        INSTALLED_APPS=["django_agent_sse"],
        LOGGING_CONFIG=None,
        AGENT_SSE={"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}, "LIMITS": None},
    )
    django.setup()
    from django.core.handlers.asgi import ASGIHandler

    from django_agent_sse import Context, Router, Stream
    from django_agent_sse.asgi import wrap

    router = Router()
    router.topic("topic/<slug:name>/", "{name}")

    @router.sse("own/<str:kind>/", compress=True)
    async def own(c: Context, stream: Stream, kind: str) -> None:
        for data in KINDS[kind]:
            await stream.write_sse(data)
            await asyncio.sleep(0)  # each is sent by itself, as it comes from a model

    urlconf = sys.modules["urlconf"] = ModuleType("urlconf")
    urlconf.urlpatterns = [*router.urls]  # type: ignore[attr-defined]
    return wrap(ASGIHandler())


KINDS: dict[str, Sequence[str]] = {"build log": build_log(), "deltas": deltas()}


async def topic(application: Any, kind: str, together: int, gzip: bool, topic: str) -> tuple[int, float]:
    """The bytes that each of the clients had, and the seconds of the processor for all of them."""
    from django_agent_sse import aclose_topic, apublish_many

    clients = [Client(application, f"/topic/{topic}/", gzip) for _ in range(WATCHERS)]
    for client in clients:
        await client.begun.wait()
    gc.collect()
    began = time.process_time()
    for start in range(0, len(KINDS[kind]), together):
        await apublish_many(topic, KINDS[kind][start : start + together])
        await asyncio.sleep(0.001)
    taken = time.process_time() - began
    await aclose_topic(topic)
    for client in clients:
        await client.task
    assert len({client.taken for client in clients}) == 1
    return clients[0].taken, taken


async def own(application: Any, kind: str, gzip: bool, _: str) -> tuple[int, float]:
    gc.collect()
    began = time.process_time()
    clients = [Client(application, f"/own/{kind}/", gzip) for _ in range(WRITERS)]
    for client in clients:
        await client.task
    return clients[0].taken, time.process_time() - began


async def measured(rounds: int) -> None:
    application = configure()
    rows: dict[str, tuple[str, int, Callable[[bool, str], Any]]] = {
        "build log, topic, 10 lines at a time": ("build log", WATCHERS, partial(topic, application, "build log", TICK_LINES)),
        "build log, topic, a line at a time": ("build log", WATCHERS, partial(topic, application, "build log", 1)),
        "deltas, topic, 3 at a time": ("deltas", WATCHERS, partial(topic, application, "deltas", TICK_DELTAS)),
        "deltas, own, one by one": ("deltas", WRITERS, partial(own, application, "deltas")),
    }
    print("| stream | bytes an event | as gzip | ratio | µs an event | as gzip | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number, (label, (kind, clients, run)) in enumerate(rows.items()):
        sizes, times = [0, 0], [float("inf")] * 2
        events = len(KINDS[kind])
        for turn in range(rounds):
            for gzip in (False, True):
                sizes[gzip], taken = await run(gzip, f"t{number}-{turn}-{gzip:d}")
                times[gzip] = min(times[gzip], taken)
        each = [f"{size / events:.1f}" for size in sizes]
        micro = [f"{seconds / events / clients * 1e6:.2f}" for seconds in times]
        print(f"| {label} | {' | '.join(each)} | {sizes[1] / sizes[0]:.2f} | {' | '.join(micro)} | {times[1] / times[0]:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(measured(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
