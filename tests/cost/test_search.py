"""What a search of a log costs, and how long others wait meanwhile. With ``-s`` it prints its figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import sync_to_async
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Event, Router
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.eventlog.records import MOST_EVENT_BYTES
from tests.serving import served
from tests.timing import LONG

from .measuring import PING, WAIT, cost_of, get, ping

pytestmark = pytest.mark.slow
LINES = 1_000_000 if LONG else 20_000
LOGS = ["memory.MemoryEventLog", "database.DatabaseEventLog"]


@pytest.fixture(autouse=True, params=LOGS, ids=lambda name: name.partition(".")[0])
def log(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[None]:
    """A log with many lines, which is served."""
    router = Router()
    router.log("lines/log/", "lines")
    urls: list[Any] = [path(PING[1:], ping), path("", include(router.urls))]
    options = {"MAX_EVENTS": 2 * LINES, "MAX_BYTES": 2**40, "MAX_EVENT_BYTES": MOST_EVENT_BYTES}
    about = {"BACKEND": f"django_agent_sse.eventlog.{request.param}", "OPTIONS": options}
    with served(urls), override_settings(AGENT_SSE={"EVENT_LOG": about}):
        reset()
        event_log().clear_all()
        yield
        event_log().clear_all()
    reset()


def written(count: int = LINES) -> None:
    for begin in range(0, count, 5000):
        lines = [f"step {number} of the build, which goes on" for number in range(begin, begin + 5000)]
        event_log().append("lines", [Event(line, event="stdout") for line in lines])
    event_log().append("lines", [Event("ERROR: it broke", event="stderr")])


@pytest.mark.parametrize(
    "query", ["grep=nowhere", "grep=n%C3%B6where", "level=info", "level=error&context=5", "from=-1&levels=1"]
)
async def test_others_do_not_wait_while_a_log_is_searched(query: str) -> None:
    await sync_to_async(written)()

    async def work() -> None:
        status, size, *_ = await get("/lines/log/range/", query)
        assert (status, size < 10_000) == (200, True)

    cost = await cost_of(work)
    print(f"\n{query}: {LINES:,} lines, {cost.seconds:.2f} s, others wait {cost.held:.3f} s, {cost.peak / 1e6:.0f} MB")
    assert cost.held < WAIT
    assert cost.peak < 64_000_000


async def test_nor_while_lines_of_the_largest_size_are(log: None) -> None:
    def large() -> None:
        for _ in range(6):
            event_log().append("lines", Event("x" * (MOST_EVENT_BYTES - 100), event="stdout"))

    await sync_to_async(large)()

    async def work() -> None:
        status, size, *_ = await get("/lines/log/range/", f"grep={quote('ünfound')}")
        assert (status, size < 1000) == (200, True)

    cost = await cost_of(work)
    assert cost.held < WAIT
