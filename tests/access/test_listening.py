"""How orders travel: what a process hears, what it leaves alone, and what it does where orders may have been lost."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest

from django_agent_sse import Router, aclose_streams
from django_agent_sse.access import book as booking
from django_agent_sse.access import django_signals, service
from django_agent_sse.access.django_signals import MOST_UNDELIVERED, teller
from django_agent_sse.access.orders import ACCESS, MOST, AccessOrder, Close, Recheck, in_parts, orders
from django_agent_sse.access.service import Access, access
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.records import Page, Record
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.runtime.backoff import Backoff
from django_agent_sse.topics.orders import MAX_BYTES, MAX_REMEMBERED, REMEMBERED_SECONDS, OrderReader, OrderRefused
from django_agent_sse.wire import Event
from tests.inprocess import Client, eventually
from tests.serving import served

from .people import PATIENCE, leave, opened, revoked, waiting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryEventLog]:
    """A log that other processes seem to write to: the tests do."""
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}, "RECHECK": None}
    found = event_log()
    assert isinstance(found, MemoryEventLog)
    found.clear_all()
    teller.flush()  # what a test before has changed; before there are other processes to tell
    monkeypatch.setattr(MemoryEventLog, "crosses_processes", True)
    monkeypatch.setattr(service, "under_test", lambda: False)
    yield found
    access.stop(PATIENCE)
    found.clear_all()


@pytest.fixture
async def stream(log: MemoryEventLog) -> AsyncIterator[Callable[[], Any]]:
    """What opens a stream; those that nobody has ended are left afterwards."""
    clients: list[Client] = []
    router = Router()
    router.sse("here/", waiting)

    async def one() -> Client:
        clients.append(client := await opened("/here/"))
        return client

    with served(router):
        yield one
        await leave(*(client for client in clients if not client.complete))


async def listens() -> Any:
    """Wait until this process has read what there is."""
    listener = await eventually("it listens", lambda: access._listener, PATIENCE)
    await eventually("it has read", lambda: listener._reader._read_at, PATIENCE)
    return listener


def append(log: MemoryEventLog, order: AccessOrder) -> None:
    log.append(ACCESS, orders.event_of(order))


async def test_an_order_of_another_process_is_executed_and_one_of_its_own_is_executed_once(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    execute = Access.execute

    def note(self: Access, order: AccessOrder, age: float | None = None) -> None:
        executed.append(order.id)
        execute(self, order, age)

    monkeypatch.setattr(Access, "execute", note)
    client = await stream()
    await listens()
    append(log, Recheck(id="theirs", everybody=True))
    await eventually("it is executed", lambda: "theirs" in executed, PATIENCE)
    append(log, Recheck(id="theirs", everybody=True))  # once more, as after a failover
    await aclose_streams(topic="nothing")
    append(log, Close(id="last", route="here/"))
    await revoked(client)
    assert executed[0] == "theirs"
    assert executed[2:] == ["last"]
    assert len(executed) == 3  # its own once, and the other's once


async def test_what_was_ordered_a_moment_before_a_stream_began_is_not_for_it_and_what_came_since_is(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that had no streams reads what was said while its first one began."""
    monkeypatch.setattr(booking, "SECOND_LOOK", 30.0)  # the machine may stand still; the other order is a minute old
    append(log, Close(route="here/"))
    with monkeypatch.context() as past:
        now = time.time()
        past.setattr("django_agent_sse.topics.orders.time.time", lambda: now - 60)
        append(log, Close(route="here/"))
    log.append(ACCESS, Event("nothing"))
    first = await stream()
    await listens()
    await asyncio.sleep(0)
    # Clocks may differ by a little: the one of just now counts, since the stream may have been asked about before it.
    await revoked(first)
    second = await stream()
    append(log, Close(topic="another"))
    await eventually("all is read", lambda: access._listener and not access._listener._wake.is_set(), PATIENCE)
    assert not second.complete


async def test_an_order_that_cannot_be_told_is_told_when_the_log_is_back(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log restarts in the moment in which somebody signs out: this process knows it, and the others hear of it later."""
    monkeypatch.setattr(teller, "_retry", Backoff(0.02, 0.02))
    away, tries, append = [True], [], MemoryEventLog.append

    def fails(self: MemoryEventLog, topic: str, event: Event, **about: Any) -> Any:
        if topic == ACCESS and away[0]:
            tries.append(event)
            raise EventLogUnavailable("it restarts")
        return append(self, topic, event, **about)

    monkeypatch.setattr(MemoryEventLog, "append", fails)
    await stream()
    listener = await listens()
    gone, locked = Close(sessions=frozenset({"a"})), Recheck(users=frozenset({"1"}))
    teller._publish([gone])
    teller._publish([locked])
    await eventually("it is tried again and again", lambda: len(tries) > 4, PATIENCE)
    assert log.state(ACCESS).top == 0
    assert listener.known == set()
    away[0] = False
    await eventually("they are told", lambda: log.state(ACCESS).top == 2, PATIENCE)
    told = [orders.order_of(record.event) for record in log.read_after(ACCESS, 0).records]
    assert told == [gone, locked]
    assert teller._undelivered == []
    assert caplog.text.count("who may have streams cannot be told to other processes now") == 1


async def test_a_process_that_ends_tells_what_waits_for_the_log(log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is back a moment before the next try."""
    monkeypatch.setattr(teller, "_retry", Backoff(3600.0, 3600.0))
    monkeypatch.setattr(teller, "_retrying", True)

    def fails(*_: Any, **__: Any) -> Any:
        raise EventLogUnavailable("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryEventLog, "append", fails)
        teller._publish([gone := Close(sessions=frozenset({"a"}))])
    teller.flush()  # as at the end of a process
    assert [orders.order_of(record.event) for record in log.read_after(ACCESS, 0).records] == [gone]
    access.failures.recovered()


async def test_where_too_many_orders_wait_for_the_log_everybody_is_asked_instead(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "_retry", Backoff(3600.0, 3600.0))
    monkeypatch.setattr(teller, "_retrying", True)

    def fails(*_: Any, **__: Any) -> Any:
        raise EventLogUnavailable("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryEventLog, "append", fails)
        for number in range(MOST_UNDELIVERED + 1):
            teller._publish([Close(topic=f"t{number}")])
        (order,) = teller._undelivered
    assert order == Recheck(id=order.id, everybody=True)
    teller._publish()
    access.failures.recovered()
    assert log.state(ACCESS).top == 1


async def test_where_too_many_orders_wait_for_the_log_those_who_have_signed_out_are_named_all_the_same(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where sessions are in signed cookies, guards that are asked find nothing."""
    monkeypatch.setattr(teller, "_retry", Backoff(3600.0, 3600.0))
    monkeypatch.setattr(teller, "_retrying", True)
    monkeypatch.setattr(django_signals, "MOST_ENDED", 2 * MOST_UNDELIVERED)

    def fails(*_: Any, **__: Any) -> Any:
        raise EventLogUnavailable("it is away")

    def told() -> tuple[int, set[str], set[str]]:
        everybody = [order for order in teller._undelivered if isinstance(order, Recheck) and order.everybody]
        ends = [order for order in teller._undelivered if isinstance(order, Close)]
        assert len(ends) + len(everybody) == len(teller._undelivered)
        users, sessions = ({*chain.from_iterable(getattr(order, name) for order in ends)} for name in ("users", "sessions"))
        return len(everybody), users, sessions

    with monkeypatch.context() as patched:
        patched.setattr(MemoryEventLog, "append", fails)
        for number in range(MOST_UNDELIVERED):
            teller._publish([Close(users=frozenset({f"u{number}"}))])
        teller._publish([Close(sessions=frozenset({"s"}))])
        assert told() == (1, {f"u{number}" for number in range(MOST_UNDELIVERED)}, {"s"})
        assert len(teller._undelivered) == 3
        assert "told of the first" not in caplog.text
        teller._publish([Close(users=frozenset({f"v{number}"})) for number in range(2 * MOST_UNDELIVERED)])
        everybody, users, sessions = told()
        assert (everybody, len(users), sessions) == (1, 2 * MOST_UNDELIVERED, set()), "bounded, in all"
        assert {f"u{number}" for number in range(MOST_UNDELIVERED)} < users, "and those that came first are kept"
        assert caplog.text.count("told of the first") == 1
    waits = len(teller._undelivered)
    teller._publish()
    access.failures.recovered()
    assert log.state(ACCESS).top == waits


async def test_an_order_that_was_signed_long_ago_only_asks(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The clocks of machines differ by minutes, or this process was asleep; or somebody has copied it."""
    client = await stream()
    (permit,) = access.book().permits.values()
    await listens()
    executed: list[AccessOrder] = []
    listener = access._listener
    assert listener is not None
    monkeypatch.setattr(listener, "_execute", lambda order, age: executed.append(order))
    given = [
        Close(id="of a session", sessions=frozenset({"s"})),
        Close(id="of a route", route="here/"),
        Recheck(id="of a user", users=frozenset({"1"})),
    ]
    for minutes in (-10, 10):
        with monkeypatch.context() as past:
            now = time.time()
            past.setattr("django_agent_sse.topics.orders.time.time", lambda now=now, minutes=minutes: now + 60 * minutes)
            events = [orders.event_of(order) for order in given]
        for event in [*events, *events]:  # a copy of a copy does nothing at all
            log.append(ACCESS, event)
    await eventually("all is read", lambda: listener._reader._cursor == log.state(ACCESS).top == 12, PATIENCE)
    assert executed == [
        Recheck(id="of a session", sessions=frozenset({"s"})),
        Recheck(id="of a route", everybody=True),
        given[2],
    ]
    assert caplog.text.count("is not executed") == 1
    assert "it was copied, or the clocks of machines differ" in caplog.text
    assert permit.stream in access.book().permits
    assert not client.complete


async def test_a_copy_of_an_order_of_this_process_itself_does_nothing(log: MemoryEventLog, stream: Any) -> None:
    await stream()
    await listens()
    await aclose_streams(topic="nothing")
    (record,) = log.read_after(ACCESS, 0).records
    client = await stream()
    executed: list[AccessOrder] = []
    listener = access._listener
    assert listener is not None
    listener._execute = lambda order, age: executed.append(order)
    for _ in range(3):
        log.append(ACCESS, record.event)
    await eventually("all is read", lambda: listener._reader._cursor == 4, PATIENCE)
    assert executed == []
    assert not client.complete


def test_an_order_is_one_while_its_key_is_rotated_and_never_of_another_project(settings: Any) -> None:
    order = Close(sessions=frozenset({"s"}))
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "old", []
    event = orders.event_of(order)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
    assert orders.order_of(event) == order
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "of another project", []
    with pytest.raises(OrderRefused, match="SECRET_KEY"):
        orders.order_of(event)


async def test_an_order_that_is_long_over_ends_nothing(log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as past:
        now = time.time()
        past.setattr("django_agent_sse.topics.orders.time.time", lambda: now - 60)
        append(log, Close(route="here/"))
    client = await stream()
    await listens()
    book = access.book()
    await eventually("it is taken", lambda: book._lately._forgotten > -math.inf, PATIENCE)
    await asyncio.sleep(0)
    assert not client.complete


@pytest.mark.parametrize("forged", ["unsigned", "of the monitor", "large"])
async def test_what_is_not_signed_is_not_executed_and_is_told_once(
    forged: str, log: MemoryEventLog, stream: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from django_agent_sse.contrib.monitor.commands import Close as Kick
    from django_agent_sse.contrib.monitor.commands import event_of

    events = {
        "unsigned": Event('["close", 1, {"route": "here/"}]', event="close"),
        "of the monitor": event_of(Kick(route="here/")),
        "large": Event("x" * (MAX_BYTES + 1)),
    }
    client = await stream()
    await listens()
    for _ in range(2):
        log.append(ACCESS, events[forged])
    append(log, Close(route="another/"))
    await eventually("it is told", lambda: "is not executed" in caplog.text, PATIENCE)
    await eventually("all is read", lambda: access._listener._reader._cursor == log.state(ACCESS).top, PATIENCE)  # type: ignore[union-attr]
    assert not client.complete
    assert caplog.text.count("is not executed") == 1


@contextmanager
def unread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody reads the log meanwhile."""

    async def away(*_: Any) -> Any:
        raise EventLogUnavailable("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryEventLog, "aread_after", away)
        yield


async def test_where_orders_may_have_been_lost_everybody_is_asked(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[AccessOrder] = []
    await stream()
    listener = await listens()
    listener._execute = lambda order, age: executed.append(order)
    listener._task.call(lambda: None)
    reader = listener._reader
    for number in range(3):
        append(log, Close(id=str(number), topic="a"))
    await eventually("they are read", lambda: len(executed) == 3, PATIENCE)
    cursor = reader._cursor
    with unread(monkeypatch):
        for number in range(3, 6):
            log.append_unrung(ACCESS, orders.event_of(Close(id=str(number), topic="a")))
        log.trim(ACCESS, max_events=1)
    await eventually("it is noticed", lambda: any(isinstance(order, Recheck) for order in executed), PATIENCE)
    assert reader._cursor > cursor
    assert executed[-1] == Recheck(id=executed[-1].id, everybody=True)


async def test_a_log_that_comes_back_without_its_latest_orders_is_read_from_its_beginning(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server that restarts from a snapshot: others stand where those were that have been read, and all are asked about."""
    executed: list[AccessOrder] = []
    await stream()
    listener = await listens()
    listener._execute = lambda order, age: executed.append(order)
    given = [Close(id=str(number), topic="a") for number in range(4)]
    for order in given:
        append(log, order)
    await eventually("they are read", lambda: executed == given, PATIENCE)
    page = await log.aread_after(ACCESS, 0)
    after = Close(id="after", topic="a")
    record = page.records[1]._replace(event=orders.event_of(after), nonce="AFTER")
    kept = dataclasses.replace(page, records=[page.records[0], record], top=2)

    async def read(self: MemoryEventLog, topic: str, offset: int = 0, *_: Any) -> Any:
        assert topic == ACCESS
        return dataclasses.replace(kept, records=kept.records[offset:])

    monkeypatch.setattr(MemoryEventLog, "aread_after", read)
    await eventually("it is noticed", lambda: len(executed) > 5, PATIENCE)
    assert executed[4:] == [after, Recheck(id=executed[5].id, everybody=True)]


async def test_an_event_that_is_another_one_than_was_read_there_is_of_another_history(log: MemoryEventLog) -> None:
    """The log has lost some and has got as many since, so that only the nonce tells."""
    reader = OrderReader(orders, 60.0, lambda *_: None)
    record = Record(1, orders.event_of(Close(id="1", topic="a")), time.time(), "FIRST")
    pages = [
        Page(epoch="e", top=0),
        Page(epoch="e", top=1, records=[record]),
        Page(epoch="e", top=1, before="FIRST"),
        Page(epoch="e", top=1, before="OTHER"),
        Page(epoch="e", top=1, records=[record._replace(nonce="OTHER", event=orders.event_of(Close(id="2", topic="a")))]),
    ]

    class Log:
        async def aread_after(self, *_: Any) -> Page:
            return pages.pop(0)

    found = [[order.id async for order, _, _ in reader.read(Log())] for _ in range(4)]  # type: ignore[arg-type]
    assert found == [[], ["1"], [], ["2"]]
    assert reader.missed


async def test_what_this_process_has_ordered_is_told_again_where_the_log_has_lost_it(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody has read it, and after this process has: the log comes back without its last second, and then empty."""
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(service, "READ_BACK_SECONDS", 3600.0)  # not while the log loses what it is told
    executed: list[AccessOrder] = []
    await stream()
    listener = await listens()
    listener._execute = lambda order, age: executed.append(order)
    with monkeypatch.context() as lost:
        lost.setattr(MemoryEventLog, "append", lambda *_, **__: None)
        await aclose_streams(topic="a")
    (given,) = [id for _, id, _ in access.recent()]
    monkeypatch.setattr(service, "READ_BACK_SECONDS", 0.2)

    def told() -> list[str]:
        return [orders.order_of(record.event).id for record in log.read_after(ACCESS, 0).records]

    await eventually("it is told again", told, PATIENCE)
    await eventually("it is read", lambda: listener._reader._cursor == 1, PATIENCE)
    await asyncio.sleep(0.5)
    assert told() == [given], "once"
    with unread(monkeypatch):
        log.clear_all()
        append(log, Close(id="another's", topic="a"))
    await eventually("it is told once more", lambda: len(told()) > 1, PATIENCE)
    await eventually("it is read", lambda: listener._reader._cursor == 2, PATIENCE)
    assert told() == ["another's", given]
    assert [order.id for order in executed if isinstance(order, Close)] == ["another's"], "here it was executed when it was given"


async def test_a_log_that_is_away_is_told_once_and_heard_again(
    log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await stream()
    await listens()
    away = True
    read = MemoryEventLog.aread_after

    async def fails(self: MemoryEventLog, topic: str, *args: Any) -> Any:
        if away and topic == ACCESS:
            raise EventLogUnavailable("it is away")
        return await read(self, topic, *args)

    monkeypatch.setattr(MemoryEventLog, "aread_after", fails)
    append(log, Close(route="here/"))
    await eventually("it fails", lambda: access._listener._failures.failures > 1, PATIENCE)  # type: ignore[union-attr]
    assert not client.complete
    away = False
    await revoked(client)
    assert caplog.text.count("orders about access cannot be read from the event log now") == 1


async def test_it_listens_while_there_are_streams(log: MemoryEventLog, stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "UNUSED_SECONDS", 0.05)
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.05)
    client = await stream()
    await listens()
    await leave(client)
    await eventually("it ends", lambda: access._listener is None, PATIENCE)
    again = await stream()
    append(log, Close(route="here/"))
    await revoked(again)


async def test_a_log_of_one_process_is_not_listened_to(settings: Any) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
    router = Router()
    router.sse("here/", waiting)
    with served(router):
        client = await opened("/here/")
        assert access._listener is None
        await aclose_streams(route="here/")
        await revoked(client)
    assert event_log().state(ACCESS).top == 0


def test_an_order_travels_and_what_anybody_changes_in_it_is_noticed() -> None:
    for order in (
        Recheck(users=frozenset({"1", "2"})),
        Recheck(everybody=True),
        Close(sessions=frozenset({"a"}), route="x/", topic="t", reconnect=False),
    ):
        event = orders.event_of(order)
        assert orders.order_of(event) == order
        for place in range(0, len(event.data), 5):
            other = "A" if event.data[place] != "A" else "B"
            with pytest.raises(OrderRefused, match="not signed"):
                orders.order_of(Event(event.data[:place] + other + event.data[place + 1 :]))


def test_many_names_are_several_orders_that_fit() -> None:
    names = [f"shop.customer:{number:032}" for number in range(1200)]
    parts = [*in_parts([*names, names[0]])]
    assert [len(part) for part in parts] == [MOST, MOST, 200]
    assert sorted(frozenset().union(*parts)) == names
    assert len(orders.event_of(Recheck(users=parts[0])).data) < MAX_BYTES


@pytest.mark.parametrize("character", ["x", "é", "\U0001f642"])
def test_names_that_are_long_are_more_orders(character: str) -> None:
    names = [f"{number:04}{character * 250}" for number in range(600)]
    parts = [*in_parts(names)]
    assert [*chain(*map(sorted, parts))] == names
    assert all(len(orders.event_of(Close(users=part)).data) < MAX_BYTES for part in parts)
    assert [*in_parts([])] == []


def test_no_session_is_told_by_its_key() -> None:
    from django_agent_sse.access.identity import session_text

    key = "0123456789abcdef0123456789abcdef"
    assert key not in orders.event_of(Close(sessions=frozenset({session_text(key)}))).data
    assert len(session_text(key)) == 32
    assert session_text("") == ""


def test_an_order_is_remembered_for_as_long_as_it_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = OrderReader(orders, 60.0, lambda *_: None)
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0)
    assert not reader.executed("old")
    assert reader.executed("old")
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0 + REMEMBERED_SECONDS - 1)
    assert not reader.executed("new")
    assert reader.executed("old")
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0 + REMEMBERED_SECONDS + 1)
    assert not reader.executed("newest")
    assert [*reader._executed] == ["new", "newest"]
    for number in range(MAX_REMEMBERED):
        reader.executed(str(number))
    assert len(reader._executed) == MAX_REMEMBERED
