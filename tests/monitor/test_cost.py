"""What the monitor costs with 5,000 open streams: CPU of the process, bytes and questions of the log, and the page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory, override_settings

from django_agent_sse.admin.live_view import Viewer
from django_agent_sse.contrib.prometheus import StreamCollector
from django_agent_sse.eventlog.current import event_log, reset
from django_agent_sse.hub.board import board
from django_agent_sse.hub.measures import encode
from django_agent_sse.hub.measuring import Looker, Question
from django_agent_sse.hub.reporter import REPORT, REPORTS, ROWS, WATCHED
from django_agent_sse.wire import Event
from tests.inprocess import Site, eventually, serve

STREAMS = 5_000
AT_ONCE = 250
ROUNDS = 7
MOST = 0.02
"""Of a core."""
DATABASE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"


async def idle(c: Any, stream: Any, number: int) -> None:
    await stream.write("hello")
    await stream.wait_closed()


async def opened(site: Site) -> None:
    """So many open streams."""
    for begin in range(0, STREAMS, AT_ONCE):
        some = [
            site.connect(f"/stream/{number}/", headers={"user-agent": AGENT, "x-forwarded-for": "203.0.113.7"})
            for number in range(begin, begin + AT_ONCE)
        ]
        for client in some:
            await eventually("it is open", lambda: client.chunks, within=60)  # noqa: B023


async def left(site: Site) -> None:
    """All of them leave, which takes a while."""
    for client in site.clients:
        client.leave()
    await asyncio.wait([client.task for client in site.clients], timeout=120)


def cpu(work: Callable[[], Any]) -> float:
    """Seconds of this thread's CPU: the least of some rounds, for whatever else this machine does."""
    took = []
    for _ in range(ROUNDS):
        before = time.thread_time()
        work()
        took.append(time.thread_time() - before)
    return min(took)


@pytest.fixture
def no_reads_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the board reads anew."""
    monkeypatch.setattr("django_agent_sse.hub.board.READ", 0.0)


async def test_the_registry_takes_less_than_two_hundredths_of_a_core(no_reads_saved: None) -> None:
    async with serve(idle) as site:
        await opened(site)
        looker, question = Looker(), Question()
        report = cpu(lambda: encode(looker.snapshot()))
        looker.rows(question)
        rows = cpu(lambda: encode(looker.snapshot(), answers=[[{}, *looker.rows(question)]]))
        scrape = cpu(lambda: list(StreamCollector().collect()))
        size, told = len(encode(looker.snapshot())), len(encode(looker.snapshot(), answers=[[{}, *looker.rows(question)]]))
        quiet, watched = report / REPORT, report / REPORT + rows / WATCHED
        print(
            f"\n{STREAMS:,} streams: a report takes {report * 1e3:.1f} ms of CPU and {size:,} bytes, {quiet:.2%} of a core; "
            f"with rows {rows * 1e3:.1f} ms and {told:,} bytes, {watched:.2%} while somebody watches; "
            f"a scrape takes {scrape * 1e3:.1f} ms"
        )
        assert size < 2_000
        assert told < 64_000
        assert quiet < MOST
        assert watched < 5 * MOST
        first = await page(told=print)
        assert first < 100_000
        await left(site)


async def page(told: Callable[[str], Any]) -> int:
    """The cost of one event of the page; its bytes."""
    request = RequestFactory().get("/")
    request.user = User(pk=1, username="staff")
    viewer = Viewer(question=Question(), user="1", sees_payloads=False, closes=True)
    took = []
    for _ in range(ROUNDS):
        before = time.process_time()
        shown = await viewer.look(request)
        took.append(time.process_time() - before)
    size = len(json.dumps(shown))
    told(f"an event of the page takes {min(took) * 1e3:.1f} ms of CPU and {size:,} bytes")
    return size


class Asked(list[str]):
    """Questions to the database."""

    def __call__(self, execute: Any, sql: str, *rest: Any) -> Any:
        self.append(sql)
        return execute(sql, *rest)


@pytest.fixture
def database_log(transactional_db: None) -> Iterator[None]:
    """Topics in the database."""
    with override_settings(AGENT_SSE=DATABASE):
        yield
    reset()


def test_reports_ask_little_of_the_database(database_log: None) -> None:
    log = event_log()
    asked = Asked()
    text = encode(Looker().snapshot())
    for topic in (REPORTS, ROWS):
        log.append_unrung(topic, Event(text))
    with connection.execute_wrapper(asked):
        log.append_unrung(REPORTS, Event(text))
    writes = [sql for sql in asked if not sql.startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"))]
    asked.clear()
    board._reset()
    with connection.execute_wrapper(asked):
        board._take(log, REPORTS)
    reads = len(asked)
    print(f"\na report asks the database {len(writes)} questions each {REPORT:g} s, a look {reads} for each of two topics")
    assert len(writes) <= 4
    assert reads <= 4
    assert asyncio.run(_local())


async def _local() -> bool:
    return board.local
