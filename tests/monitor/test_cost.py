"""What many open streams cost the monitor, 5,000 with ``LONG_PROOFS=1``: CPU, bytes and questions of the log, and the page."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.test import AsyncClient, RequestFactory, override_settings
from django.urls import path

from django_agent_sse.contrib.monitor import cluster
from django_agent_sse.contrib.monitor.admin.live_view import Viewer
from django_agent_sse.contrib.monitor.cluster import MAX_FIRST_BYTES, PAST_SECONDS, ClusterView, cluster_view
from django_agent_sse.contrib.monitor.inspector import StreamInspector, StreamQuery
from django_agent_sse.contrib.monitor.report_json import encode
from django_agent_sse.contrib.monitor.reporter import (
    HISTORY,
    MOST_ROUTES,
    REPORT_INTERVAL,
    REPORTS,
    ROWS,
    ROWS_INTERVAL,
    RoutesInTurn,
)
from django_agent_sse.contrib.prometheus import StreamCollector
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.runtime.pools import readers, writers
from django_agent_sse.streams.counters import RouteCounts, counters
from django_agent_sse.streams.snapshot import Process, Snapshot
from django_agent_sse.topics.arrivals import arrivals
from django_agent_sse.wire import Event
from tests.inprocess import Site, eventually, serve
from tests.timing import LONG

pytestmark = pytest.mark.alone if LONG else pytest.mark.slow
STREAMS = 5_000 if LONG else 500
AT_ONCE = 250
ROUNDS = 7 if LONG else 5
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


async def test_the_registry_takes_less_than_two_hundredths_of_a_core() -> None:
    counters.reset()  # routes of other tests in this process are in each report else
    async with serve(idle) as site:
        await opened(site)
        looker, question = StreamInspector(), StreamQuery()
        report = cpu(lambda: encode(looker.snapshot()))
        looker.rows(question)
        rows = cpu(lambda: encode(looker.snapshot(), [(question, looker.answer(question))]))
        scrape = cpu(lambda: list(StreamCollector().collect()))
        size, told = len(encode(looker.snapshot())), len(encode(looker.snapshot(), [(question, looker.answer(question))]))
        quiet, watched = report / REPORT_INTERVAL, report / REPORT_INTERVAL + rows / ROWS_INTERVAL
        print(
            f"\n{STREAMS:,} streams: a report takes {report * 1e3:.1f} ms of CPU and {size:,} bytes, {quiet:.2%} of a core; "
            f"with rows {rows * 1e3:.1f} ms and {told:,} bytes, {watched:.2%} while somebody watches; "
            f"a scrape takes {scrape * 1e3:.1f} ms"
        )
        assert size < 2_000
        assert told < 64_000
        if LONG:
            assert quiet < MOST
            assert watched < 5 * MOST
        await left(site)


# The last hour

WORKERS, HOUR_ROUTES = 4, 20
READ_SECONDS = 5.0
"""For the first look at a whole hour, on a machine with much else to do; it is read once."""


def busy(number: int, minute: int) -> RouteCounts:
    """A route that has done a little of everything by that minute."""
    return RouteCounts(
        open=250,
        opened=minute * 40,
        endings={"client_disconnect": minute * 38, "handler_error": minute, "max_duration": minute},
        refused={"guard": minute, "limit_user": minute},
        events=minute * 100_000,
        bytes=minute * 9_000_000,
        seconds=minute * 4000.0,
        durations=[minute * 5] * 9,
        starts=[minute * 4] * 12,
        start_seconds=minute * 0.8,
        behind=[240, 5, 5, 0, 0, 0, 0],
        causes={"handler_error/ValueError": minute, "guard/403": minute},
    )


def test_what_an_hour_of_history_costs(database_log: None) -> None:
    log, now, sizes = event_log(), time.time(), list[int]()
    log.clear_all()
    for minute in range(61):
        for worker in range(WORKERS):
            process = Process(id=f"w{worker}", host="web-1", pid=worker, since=0.0)
            routes = {f"route/{number}/<int:pk>/": busy(number, minute) for number in range(HOUR_ROUTES)}
            snapshot = Snapshot(process=process, at=now - 3600 + minute * 60, routes=routes)
            text = encode(snapshot)
            sizes.append(len(text))
            log.append_unrung(HISTORY, Event(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterView, "local", False)
        view = ClusterView()
        began = time.process_time()
        view.read(0.0)
        read = time.process_time() - began
        assert len(view.past().routes) == HOUR_ROUTES
        view._past_at = 0.0
        sums = cpu(lambda: (setattr(view, "_past_at", 0.0), view.past()))
    a_minute, hour = statistics.mean(sizes), 60 * statistics.mean(sizes)
    print(
        f"\n{HOUR_ROUTES} busy routes: a report has {a_minute:,.0f} bytes, an hour of a process {hour / 1000:,.0f} kB; "
        f"the first look at an hour of {WORKERS} processes takes {read * 1e3:.0f} ms of CPU, the sums {sums * 1e3:.1f} ms "
        f"every {PAST_SECONDS:g} s while somebody looks"
    )
    assert hour < 1_000_000
    assert read < READ_SECONDS


def test_reports_of_a_thousand_busy_routes_are_small_and_a_first_look_has_all_of_a_hundred_processes() -> None:
    process = Process(id="w1", host="web-1", pid=1, since=0.0)
    snapshot = Snapshot(
        process=process, at=1.0, routes={f"route/{number}/<int:pk>/": busy(number, 60) for number in range(1_000)}
    )
    report, rows, hour = (len(encode(RoutesInTurn(MOST_ROUTES[topic]).of(snapshot))) for topic in (REPORTS, ROWS, HISTORY))
    print(f"\na report of 1,000 busy routes has {report:,} bytes, with rows {rows:,} more, of the hour {hour:,}")
    assert 100 * 3 * report < MAX_FIRST_BYTES
    assert rows < report / 3
    assert 60 * hour < 1_000_000


def test_what_a_stream_pays_for_being_measured() -> None:
    def one(number: int) -> None:
        counters.opened("r/", time.monotonic() - began)

    began, many = time.monotonic(), 20_000
    counters.reset()
    timed = cpu(lambda: [one(number) for number in range(many)]) / many
    plain = cpu(lambda: [time.monotonic() for number in range(many)]) / many
    arrival = cpu(lambda: [arrivals.count(began) for number in range(many)]) / many
    counters.reset()
    print(
        f"\na stream that opens is counted in {timed * 1e6:.2f} µs, its start noted in {plain * 1e6:.2f} µs; a read of a topic "
        f"in {arrival * 1e6:.2f} µs"
    )
    assert timed + plain + arrival < 100e-6, "beside the half a millisecond that a connection takes"


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
    text = encode(StreamInspector().snapshot())
    for topic in (REPORTS, ROWS):
        log.append_unrung(topic, Event(text))
    with connection.execute_wrapper(asked):
        log.append_unrung(REPORTS, Event(text))
    writes = [sql for sql in asked if not sql.startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"))]
    asked.clear()
    cluster_view.reset()
    cluster_view._read_topic(log, REPORTS)  # the first look, which also asks where to begin
    log.append_unrung(REPORTS, Event(text))
    with connection.execute_wrapper(asked):
        cluster_view._read_topic(log, REPORTS)
    reads = len(asked)
    print(
        f"\na report asks the database {len(writes)} questions each {REPORT_INTERVAL:g} s, a look {reads} for each of two topics"
    )
    assert len(writes) <= 4
    assert reads <= 4


# The page, which reads what others report: a log that crosses processes, and a cluster_view that is not of this process alone

OTHERS = 2
"""Processes that report, with so many streams each."""
EVENT_BYTES = 100_000
SIGNED_IN = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
urlpatterns = [path("admin/", admin.site.urls)]


class Told:
    """What other processes report, one second after another."""

    def __init__(self) -> None:
        self._looker = StreamInspector()
        self._log = event_log()

    def second(self) -> None:
        question = StreamQuery()
        for pid in range(OTHERS):
            process = Process(id=f"other-{pid}", host="web-1", pid=pid, since=0.0)
            now = dataclasses.replace(self._looker.snapshot(), process=process)
            answer = self._looker.answer(question)
            own = [row._replace(process=process.id, id=f"{process.id}.{number}") for number, row in enumerate(answer.rows)]
            answers = [(question, answer._replace(rows=own))]
            self._log.append_unrung(REPORTS, Event(encode(now)))
            self._log.append_unrung(ROWS, Event(encode(now, answers)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Every question to the database, from any thread."""
    found, execute = Asked(), CursorWrapper.execute

    def told(self: CursorWrapper, sql: str, params: Any = None) -> Any:
        found.append(sql)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", told)
    return found


@pytest.fixture
def lasting_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log's threads keep their connections, as they do on a server, and give them back at the end."""
    with monkeypatch.context() as only_here:
        only_here.setattr("django_agent_sse.runtime.pools.under_test", lambda: False)
        yield
    for threads in (readers, writers):
        together = threading.Barrier(2)
        for one in [threads.submit(lambda met=together: met.wait(30)) for _ in range(2)]:
            one.result(30)


async def measured(work: Callable[[], Awaitable[Any]], before: Callable[[], Any], asked: Asked) -> tuple[float, int, Any]:
    """Seconds of the process's CPU and questions to the database, the median of some rounds; and what came out."""
    took, questions = [], []
    for _ in range(ROUNDS):
        await sync_to_async(before)()
        asked.clear()
        began = time.process_time()
        result = await work()
        took.append(time.process_time() - began)
        questions.append(len(asked))
    return statistics.median(took), int(statistics.median(questions)), result


async def test_what_a_page_costs_that_reads_what_other_processes_report(
    database_log: None, lasting_connections: None, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterView, "local", False)
    monkeypatch.setattr(cluster, "QUERY_INTERVAL", 3600.0)  # it is asked for once, in the first round
    client = AsyncClient()
    boss = await sync_to_async(User.objects.create_superuser)("boss")
    await sync_to_async(client.force_login)(boss)
    viewer = Viewer(query=StreamQuery(), user=str(boss.pk), sees_payloads=False, closes=True)
    request = RequestFactory().get("/")
    request.user = boss
    async with serve(idle) as site:
        await opened(site)
        cluster_view.reset()
        told = await sync_to_async(Told)()
        fresh = await measured(lambda: viewer.look(request, within=0.0), told.second, asked)
        kept = await measured(lambda: viewer.look(request, within=60.0), lambda: None, asked)
        with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=SIGNED_IN):
            html = await measured(lambda: client.get("/admin/agent_sse_monitor/livestreams/"), told.second, asked)
        await left(site)
    cluster_view.reset()
    shown = fresh[2]
    assert len(shown["rows"]) == 100
    assert not {"routes", "names"} & shown.keys(), "what can be chosen is told when it changes"
    assert shown["cards"][0]["value"] == f"{OTHERS * STREAMS:,}", "of the others, and read from the log"
    size = len(json.dumps(shown))
    print(
        f"\n{OTHERS} processes with {STREAMS:,} streams each: an event of the page takes {fresh[0] * 1e3:.1f} ms of CPU, "
        f"{fresh[1]} questions to the database and {size:,} bytes; {kept[0] * 1e3:.1f} ms and {kept[1]} questions where another "
        f"page has just read; the page itself {html[0] * 1e3:.1f} ms, {html[1]} questions and {len(html[2].content):,} bytes"
    )
    assert html[2].status_code == 200
    assert size < EVENT_BYTES
    assert fresh[1] > 0
    assert fresh[1] <= 4
    assert kept[1] == 0
    assert html[1] <= 12
