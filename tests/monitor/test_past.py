"""The last hour of all processes: from the log, so that it survives them; percentiles, what went wrong, and who was refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.test import override_settings

from django_agent_sse import apublish
from django_agent_sse.contrib.monitor import cluster, history, service
from django_agent_sse.contrib.monitor import reporter as reporting
from django_agent_sse.contrib.monitor.admin import tables
from django_agent_sse.contrib.monitor.cluster import IDLE_SECONDS, ClusterView
from django_agent_sse.contrib.monitor.history import LONG_BUCKET, ROUTES, History, Past, Percentile, percentiles
from django_agent_sse.contrib.monitor.inspector import Answer, RefusedRow, StreamInspector, StreamQuery, StreamRow
from django_agent_sse.contrib.monitor.report_json import decode, encode
from django_agent_sse.contrib.monitor.reporter import HISTORY, KEPT, REPORTS, Reporter, RoutesInTurn
from django_agent_sse.contrib.monitor.service import Monitor, monitor
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.streams.admission import Meeting, admission
from django_agent_sse.streams.counters import CAUSES, WHO, Refusal, RouteCounts, counters
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.snapshot import Process, Snapshot, this_process
from django_agent_sse.topics.arrivals import arrivals
from django_agent_sse.wire import Event
from tests.inprocess import eventually, serve

from .test_reporter import begin, log, until

__all__ = ["begin", "log"]  # fixtures

DATABASE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}}
MINUTE = PATIENCE = 60.0


@pytest.fixture(autouse=True)
def from_zero() -> Iterator[None]:
    counters.reset()
    yield
    counters.reset()
    monitor.stop()


def snapshot(at: float, *, id: str = "a", route: str = "r/", idle: bool = False, **counts: Any) -> Snapshot:
    process = Process(id=id, host="web", pid=1, since=0.0)
    return Snapshot(process=process, at=at, routes={route: RouteCounts(**counts)}, idle=idle)


# Percentiles


@pytest.mark.parametrize(
    ("name", "counts", "expected"),
    [
        ("starts", [0] * 12, [None, None, None]),
        ("starts", [100, *[0] * 11], [(0.0025, False), (0.00475, False), (0.00495, False)]),
        ("starts", [0, 50, 0, 0, 50, *[0] * 7], [(0.01, False), (0.095, False), (0.099, False)]),
        ("starts", [*[0] * 11, 3], [(10, True)] * 3),
        ("behind", [990, 9, 1, 0, 0, 0, 0], [(0, False), (0, False), (0, False)]),
        ("behind", [50, 0, 50, 0, 0, 0, 0], [(0, False), (9.1, False), (9.82, False)]),
    ],
)
def test_percentiles_stand_between_the_bounds_of_their_bucket(name: str, counts: list[int], expected: list[Any]) -> None:
    found = percentiles(name, counts)
    wanted = [None if one is None else Percentile(pytest.approx(one[0]), one[1]) for one in expected]
    assert found == wanted


def test_what_takes_longer_than_is_counted_is_said_to() -> None:
    (found,) = percentiles("starts", [*[0] * 11, 1], [0.5])
    assert tables.told(found, tables.formatting.moment) == "over 10.0 s"
    assert tables.told(None, tables.formatting.moment) == "–"
    shown = [tables.formatting.moment(seconds) for seconds in (0.0001, 0.0123, 0.9991, 0.9999, 1.23, 59.9, 60, 3700)]
    assert shown == ["1 ms", "12 ms", "999 ms", "1.0 s", "1.2 s", "59.9 s", "1 min 0 s", "1 h 1 min"]


# What the core counts


async def test_a_stream_says_how_long_its_first_byte_took_and_what_its_errors_were() -> None:
    async def handler(c: Any, stream: Any, number: int) -> None:
        if number == 1:
            raise LookupError("before it began, with a secret")
        await stream.write("x")
        if number == 2:
            raise ArithmeticError("afterwards, with a secret")

    async def refuse(c: Any) -> bool:
        return int(c.params["number"]) != 3

    async with serve(handler, guards=[refuse], settings={"DEBUG_PROPAGATE_EXCEPTIONS": False}) as site:
        clients = [site.connect(f"/stream/{number}/") for number in (1, 2, 3, 4)]
        for client in clients:
            await eventually("it is over", lambda client=client: client.task.done(), PATIENCE)
        counts = await eventually("all is counted", lambda: _counted(StreamInspector().snapshot()), PATIENCE)
    assert counts.causes == {"error/LookupError": 1, "handler_error/ArithmeticError": 1, "guard/403": 1}
    assert (counts.opened, sum(counts.starts)) == (2, 2)
    assert 0 < counts.start_seconds < 10
    (found,) = percentiles("starts", counts.starts, [0.5])
    assert found is not None
    assert found.value < 10


def _counted(found: Snapshot) -> RouteCounts | None:
    counts = found.routes.get("stream/<int:number>/")
    return counts if counts is not None and sum(counts.endings.values()) == 2 and sum(counts.refused.values()) == 2 else None


def test_causes_and_who_was_refused_are_bounded() -> None:
    for number in range(CAUSES + 5):
        counters.refused("r/", Refusal.ERROR, f"Error{number}")
    counts = counters.copy()["r/"]
    assert len(counts.causes) == CAUSES + 1
    assert counts.causes["error/other"] == 5
    for number in range(WHO + 7):
        counters.refused("r/", Refusal.OVERLOADED, user=str(number))
    counters.refused("r/", Refusal.OVERLOADED, user="1")
    assert counters.refused_most(2) == [("overloaded", "", "other", 7), ("overloaded", "1", "", 2)]
    assert StreamInspector().answer(StreamQuery(stream="-")).refused[0] == RefusedRow("overloaded", "", "other", 7)


def test_who_meets_limits_is_told_as_far_as_it_may_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    uses = [
        Meeting(limit="session", of="", open=100, most=100),
        Meeting(limit="address", of="203.0.113.9", open=900, most=1000),
        Meeting(limit="route", of="r/", open=80, most=100),
        Meeting(limit="user", of="auth.user:7", open=3, most=4),
        Meeting(limit="address", of="2001:db8:1:2::/64", open=600, most=1000),
        Meeting(limit="user", of="shop.customer:9", open=2, most=4),
    ]
    monkeypatch.setattr(admission, "meetings", lambda count: uses[:count])
    rows = StreamInspector().answer(StreamQuery(stream="-")).limits
    assert rows == [
        ("session", "", "", 100, 100),
        ("address", "", "203.0.113.0/24", 900, 1000),
        ("route", "", "r/", 80, 100),
        ("user", "7", "", 3, 4),
        ("address", "", "2001:db8:1::/48", 600, 1000),
        ("user", "shop.customer:9", "", 2, 4),
    ]
    both = [("p1", row) for row in rows] + [("p2", row) for row in rows]
    found = tables.limits(both, {"7": "alice"}, {"p1": "web:1", "p2": "web:2"})
    assert [(row["what"], row["who"], row["process"], row["open"]) for row in found] == [
        ("Limit: streams of one address", "203.0.113.0/24", "", "1,800 of 1,000"),
        ("Limit: streams of one user", "alice", "", "6 of 4"),
        ("Limit: streams of one address", "2001:db8:1::/48", "", "1,200 of 1,000"),
        ("Limit: streams of one session", "–", "web:1", "100 of 100"),
        ("Limit: streams of one session", "–", "web:2", "100 of 100"),
        ("Limit: streams of one user", "shop.customer:9", "", "4 of 4"),
        ("Limit: streams of the route", "r/", "web:1", "80 of 100"),
        ("Limit: streams of the route", "r/", "web:2", "80 of 100"),
    ]


async def test_how_far_a_stream_is_behind_is_sampled_and_how_long_events_take_is_counted_for_each_read() -> None:
    async def follows(c: Any, stream: Any, number: int) -> None:
        await stream.follow("past.1")

    memory = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
    with override_settings(AGENT_SSE=memory):
        arrivals.reset()
        async with serve(follows, send_timeout=600) as site:
            await apublish("past.1", "there before")
            client = site.connect("/stream/1/")
            await client.event()
            assert sum(arrivals.copy()) == 0, "it may have been there for long"
            await apublish("past.1", "news")
            await client.event()
            assert sum(arrivals.copy()) == 1
            client.hold()
            await apublish("past.1", "it waits to be taken")
            await client.stuck()
            for _ in range(20):
                await apublish("past.1", "x")
            behind = await eventually("it is behind", lambda: _behind() if _behind()[3] else None, PATIENCE)
            assert behind == [0, 0, 0, 1, 0, 0, 0], "by 11 to 100 events"
            client.flow()
            await client.take(21)
            assert (await eventually("it has caught up", lambda: _behind() if _behind()[0] else None, PATIENCE))[0] == 1


def _behind() -> list[int]:
    return StreamInspector().snapshot().routes["stream/<int:number>/"].behind


# An hour


def test_each_route_has_what_all_processes_did_in_the_hour() -> None:
    past, now = History(LONG_BUCKET, routes=True), 1_000 * MINUTE + 30
    for id, factor in (("a", 1), ("b", 10)):
        for minute in range(3):
            done = minute * factor
            durations = [done, *[0] * 8]
            past.take(
                snapshot(
                    now + minute * MINUTE,
                    id=id,
                    open=2,
                    opened=done,
                    endings={"handler_error": done},
                    causes={"handler_error/E": done},
                    durations=durations,
                    behind=[2, *[0] * 6],
                )
            )
    counts = past.routes()["r/"]
    assert (counts.opened, counts.endings, counts.causes) == (22, {"handler_error": 22}, {"handler_error/E": 22})
    assert counts.durations[0] == 22
    assert counts.behind[0] == 2 * 2 * 2 * 60, "a sample of a minute counts for a minute"
    assert past.last()["r/", "endings", "handler_error"] == now + 2 * MINUTE
    past.forget(now + 59 * MINUTE)
    assert past.routes()["r/"].opened == 22
    past.forget(now + 62 * MINUTE)
    assert past.routes()["r/"].opened == 11, "the first of the two minutes is too old"
    past.forget(now + 70 * MINUTE)
    assert (past.routes(), past.last()) == ({}, {})


def test_only_so_many_routes_have_a_past() -> None:
    past, now = History(LONG_BUCKET, routes=True), 1_000 * MINUTE
    for at in (0, 1):
        routes = {f"r{number}/": RouteCounts(opened=at) for number in range(ROUTES + 20)}
        past.take(Snapshot(process=Process(id="a", host="web", pid=1, since=0.0), at=now + at, routes=routes))
    assert len(past.routes()) == ROUTES


def test_only_so_much_of_the_last_reports_is_kept_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "COUNTED_ROUTES", 10)
    past, now = History(LONG_BUCKET, routes=True), 1_000 * MINUTE

    def report(id: str, at: float, opened: int, routes: int = 4) -> None:
        counts = {f"r{number}/": RouteCounts(opened=opened) for number in range(routes)}
        past.take(Snapshot(process=Process(id=id, host="web", pid=1, since=0.0), at=now + at, routes=counts))

    for at, id in enumerate("abc"):
        report(id, at, 1)
    assert [one.process.id for one in past.latest()] == ["b", "c"], "three have twelve"
    report("b", 10, 3)
    report("a", 11, 100)
    assert past.routes()["r0/"].opened == 2, "nobody knows how many of a's hundred are of this hour"
    report("a", 12, 105)
    assert past.routes()["r0/"].opened == 7
    report("d", 13, 1, routes=50)
    assert [one.process.id for one in past.latest()] == ["d"], "one that has more alone is kept alone"
    past.forget(now + 70 * MINUTE)
    assert (past.latest(), past._counted) == ([], 0)


def test_what_went_wrong_is_kept_of_so_many_routes_and_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "ROUTES", 3)
    monkeypatch.setattr(history, "MOST_WORDS", 2)
    past, now = History(LONG_BUCKET, routes=True), 1_000 * MINUTE
    for at in (0, 1):
        routes = {f"r{number}/": RouteCounts(endings={f"e{word}": at for word in range(5)}) for number in range(5)}
        past.take(Snapshot(process=Process(id="a", host="web", pid=1, since=0.0), at=now + at, routes=routes))
    assert past.last().keys() == {(f"r{number}/", "endings", word) for number in range(3) for word in ("e0", "e1")}
    assert past.routes()["r0/"].endings == {"e0": 1, "e1": 1}


def test_a_first_look_reads_the_newest_reports_up_to_so_many_bytes(log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    now, many = time.time(), 200
    for number in range(many):
        log.append_unrung(HISTORY, Event(encode(snapshot(now - many + number, opened=number))))
    sizes = [len(record.event.data) for record in log.read_after(HISTORY, 0, many).records]
    monkeypatch.setattr(ClusterView, "local", False)
    taken = list[float]()
    monkeypatch.setattr(History, "take", lambda self, snapshot: taken.append(snapshot.at))
    monkeypatch.setattr(cluster, "MAX_FIRST_BYTES", 50 * max(sizes))
    ClusterView().read(0.0)
    assert 50 <= len(taken) <= 55
    assert taken[-1] == pytest.approx(now - 1)
    taken.clear()
    monkeypatch.setattr(cluster, "MAX_FIRST_BYTES", 1)
    ClusterView().read(0.0)
    assert len(taken) == cluster.SAMPLE, "some in any case"


@pytest.mark.django_db(transaction=True)
def test_the_hour_survives_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Monitor, "reports", lambda self: True)  # as outside of a test
    with override_settings(AGENT_SSE=DATABASE):
        log, now = event_log(), time.time()
        log.clear_all()
        for minute in range(50, 10, -1):  # all of it is over: the last report of that process is eleven minutes old
            done = 50 - minute
            text = encode(snapshot(now - minute * MINUTE, id="dead", open=7, opened=done, endings={"handler_error": done}))
            log.append_unrung(HISTORY, Event(text))
        fresh = ClusterView()
        fresh.read(0.0)
        seen, past = fresh.snapshot(), fresh.past()
        assert seen.processes == ()
        assert past.routes["r/"].endings == {"handler_error": 39}
        assert sum(seen.hour["errors"]) == 39
        assert max(seen.hour["open"]) == 7
        assert sum(seen.series["errors"]) == 0, "not in the last five minutes"
        (row,) = tables.problems(past)[0]
        assert (row["what"], row["count"]) == ("A handler failed after its stream had begun", "39")
        assert row["last"] == tables.formatting.clock(now - 11 * MINUTE)
        asked = [topic for topic in (REPORTS, HISTORY) if fresh._cursors.get(topic)]
        log.append_unrung(REPORTS, Event(encode(snapshot(now, id="new", open=1))))
        fresh.read(0.0)
        assert HISTORY in asked
        assert [status.snapshot.process.id for status in fresh.snapshot().processes] == ["new"]
        log.clear_all()
    reset()


def test_a_report_is_kept_each_minute(
    log: MemoryEventLog, begin: Callable[[], Reporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REPORT_INTERVAL", 0.02)
    monkeypatch.setattr(reporting, "HISTORY_INTERVAL", 1_000.0)
    one = begin()
    until("it has reported now and then", lambda: log.state(REPORTS).top >= 10)
    assert log.state(HISTORY).top == 1
    one._history_at = 0.0
    until("another one is kept", lambda: log.state(HISTORY).top == 2 and one._history_at)
    assert one._history_at - time.monotonic() > 1_000 - 100
    assert dict(KEPT)[HISTORY] == 3660


# Very many routes


def large(at: float, opened: dict[int, int], *, id: str = "a", since: float = 0.0, many: int = 1_000) -> Snapshot:
    routes = {f"r{n}/": RouteCounts(open=2, opened=1 + opened.get(n, 0)) for n in range(many)}
    return Snapshot(process=Process(id=id, host="web", pid=1, since=since), at=at, routes=routes)


def test_of_very_many_routes_reports_tell_in_turn_and_first_of_those_that_have_changed() -> None:
    turns, now = RoutesInTurn(50), time.time()
    assert turns.of(few := large(now, {}, many=50)) is few, "of all, where they are few"
    told = [turns.of(large(now + 5 * n, {7: n, 900: n})) for n in range(21)]
    assert {len(one.routes) for one in told} == {50}
    assert all({"r7/", "r900/"} <= one.routes.keys() for one in told[20:])
    assert {route for one in told[:20] for route in one.routes} == {f"r{n}/" for n in range(1_000)}, (
        "all, a hundred seconds later"
    )
    last = decode(encode(told[-1]))[0]
    assert (
        last.sums
        == {"routes": 1_000, "open": 2_000, "opened": 1_040, **dict.fromkeys(("slow", "events", "bytes"), 0)} | last.sums
    )
    assert (last.total("open"), last.total("opened")) == (2_000, 1_040)
    busy = [turns.of(large(now + 200 + 5 * n, dict.fromkeys(range(800), n))) for n in range(1, 81)]
    assert {route for one in busy for route in one.routes} == {f"r{n}/" for n in range(1_000)}, "the quiet ones too"
    assert len(encode(busy[-1])) < 5_000


def test_a_reader_has_all_routes_once_each_was_told_and_counts_none_of_them_twice() -> None:
    past, turns, now = History(LONG_BUCKET, routes=True), RoutesInTurn(50), 1_000 * MINUTE
    reports = [turns.of(large(now + 5 * n, {700: 10 * n}, many=900)) for n in range(60)]
    for report in reports:
        past.take(report)
        (seen,) = past.latest()
        assert seen.total("open") == 1_800, "from the first report on"
    assert len(seen.routes) == 900
    assert seen.routes["r700/"].opened == 1 + 590
    first = next(n for n, report in enumerate(reports) if "r700/" in report.routes)
    assert 0 < first < 20
    opened = {route: counts.opened for route, counts in past.routes().items() if counts.opened}
    assert opened == {"r700/": 590 - 10 * first}, "what was before it was first told of need not be of this hour"
    past.take(turns.of(large(now + 300, {700: 590}, many=901)))
    assert past.latest()[0].routes["r900/"].opened == past.routes()["r900/"].opened == 1, "it is new"


def test_a_process_cannot_tell_of_more_routes_than_it_says_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PROCESS_ROUTES", 30)
    past, now = History(LONG_BUCKET, routes=True), 1_000 * MINUTE
    for n in range(10):
        routes = {f"r{n}-{other}/": RouteCounts(open=1) for other in range(20)}
        process = Process(id="a", host="web", pid=1, since=0.0)
        past.take(Snapshot(process=process, at=now + n, routes=routes, sums={"routes": 2**53, "open": 1}))
    assert len(past.latest()[0].routes) == past._counted == 20


def test_pages_have_so_many_rows_however_much_there_is() -> None:
    past = Past(open={f"r{n}/": n for n in range(500)}, routes={}, last={}, arrivals=[])
    rows = tables.routes(past, "-open")
    assert (len(rows), rows[0]["route"], rows[-1]["route"]) == (tables.LISTED, "r499/", "r300/")
    view, now = ClusterView(), time.time()
    for n in range(250):
        view._history.take(snapshot(now - (12 if n >= 240 else 0), id=f"p{n:03}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "reports", lambda self: True)
        patch.setattr(cluster.time, "time", lambda: now)
        processes = tables.processes(view.snapshot())
    assert len(processes) == tables.LISTED
    assert [row["state"] for row in processes[:11]] == ["late"] * 10 + ["reporting"], "those come first that are in trouble"


def test_rows_of_a_process_that_answers_late_stay_for_as_long_as_its_report_holds() -> None:
    view, now, query = ClusterView(), time.time(), StreamQuery()
    view._history.take(snapshot(now, id="a", open=1))
    row = StreamRow("a.1", "r/", (), "", now, 1.0, 0, 0, None, 0, 0.0, "", "", "a", "open")
    view._answers["a", query] = Answer([row], 1, {}, [], [], [], now - 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "reports", lambda self: True)
        patch.setattr(cluster.time, "time", lambda: now)
        assert view.rows(query) == ([row], 1, 1), "and it is said that it has not answered yet"
        assert view.rows(query, since=now) == ([], 0, 1)
        view._answers["a", query] = view._answers["a", query]._replace(at=now - 1)
        assert view.rows(query) == ([row], 1, 0)


# Processes without streams


def test_a_process_without_streams_says_seldom_that_it_is_there_and_follows_nothing(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "IDLE_INTERVAL", 0.05)
    one = Reporter(idle=True)
    try:
        until("it has reported now and then", lambda: log.state(REPORTS).top >= 3)
        assert one.idle
        assert one._reader._log is None, "it follows no commands"
        last = log.read_after(REPORTS, log.state(REPORTS).top - 1).records[-1].event.data
        assert '"idle":true' in last
        one.wake()
        until("it follows commands", lambda: one._reader._log is log)
        assert not one.idle
        monkeypatch.setattr(reporting, "UNUSED_SECONDS", 0.0)
        until("it has nothing to do again", lambda: one.idle and one._reader._log is None)
    finally:
        one.stop(60)
    assert '"last":true' in log.read_after(REPORTS, log.state(REPORTS).top - 1).records[-1].event.data


def test_a_process_that_serves_is_there_before_its_first_stream_unless_it_is_a_wsgi_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(service, "Reporter", lambda *, idle: begun.append(idle))
    one = Monitor()
    monkeypatch.setattr(one, "reports", lambda: True)
    request_started.connect(one.first_request)
    try:
        one.first_request(WSGIHandler)
        assert begun == []
        one.first_request(ASGIHandler)
        assert begun == [True]
        assert not request_started.disconnect(one.first_request), "it is asked once"
    finally:
        request_started.disconnect(one.first_request)


def test_a_refusal_wakes_the_reports_as_a_stream_does(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(counters, "on_opened", (lambda: called.append("x"),))
    counters.refused("r/", Refusal.GUARD)
    counters.opened("r/")
    assert called == ["x", "x"]


def test_an_idle_process_is_listed_and_not_asked() -> None:
    view, now = ClusterView(), time.time()
    for id, age in (("new", 10.0), ("old", IDLE_SECONDS + 1)):
        view._history.take(snapshot(now - age, id=id, idle=True))
    view._history.take(snapshot(now, id=this_process().id, open=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "reports", lambda self: True)
        seen = view.snapshot()
    assert {status.snapshot.process.id: status.state for status in seen.processes} == {
        "new": "idle",
        this_process().id: "reporting",
    }
    assert seen.answering == [this_process().id]
    row = next(tables.process(status) for status in seen.processes if status.state == "idle")
    assert (row["state_label"], row["act"]) == ("idle", "")


def test_a_kicked_stream_is_trouble_and_one_that_is_over_is_none() -> None:
    past, now = History(LONG_BUCKET, routes=True), 1_000 * MINUTE
    past.take(snapshot(now))
    past.take(snapshot(now + 5, endings={str(ending): 1 for ending in Ending}, refused={"of a later version": 2}))
    found, _ = tables.problems(as_past(past))
    assert {row["what"] for row in found} == {
        "A handler failed after its stream had begun",
        "A client took nothing for too long",
        "A guard said no to an open stream",
        "Staff closed a stream",
        "of a later version",
    }


def as_past(past: History) -> Any:
    return Past(open={}, routes=past.routes(), last=past.last(), arrivals=past.arrivals())
