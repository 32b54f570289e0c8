"""Limits of streams: each is on by default, is met at its number and not before, is refused politely, and lets others in."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.test import override_settings
from django.urls import path

from django_agent_sse import Context, Router, Stream, asgi
from django_agent_sse.exceptions import ConfigurationError
from django_agent_sse.runtime import descriptors
from django_agent_sse.streams import admission as module
from django_agent_sse.streams import rates
from django_agent_sse.streams.admission import IN_SCOPE, Arrival, admission, arrive
from django_agent_sse.streams.counters import Refusal, counters
from django_agent_sse.streams.limits import NAMES, Limits, limits
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.shared_counts import shared
from django_agent_sse.testing import run
from tests.inprocess import Client, eventually, serve
from tests.serving import connect, served

LOW: dict[str, Any] = dict.fromkeys(name.upper() for name in NAMES)
"""All of them off."""


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    admission.reset()
    shared.reset()
    counters.reset()
    monkeypatch.setattr(run, "Arrival", lambda _: Arrival("127.0.0.1"))  # else the clients of tests have no address
    yield
    assert admission.open == 0, "every place is given back"
    assert (shared.counts(), dict(admission._routes), admission._names) == ({}, {}, {})
    admission.reset()


def limited(**low: Any) -> dict[str, Any]:
    """Settings with these limits and no others."""
    return {"AGENT_SSE": {"LIMITS": {**LOW, **{name.upper(): value for name, value in low.items()}}}}


async def stays(c: Context, stream: Stream, number: int) -> None:
    await stream.write("hello")
    await asyncio.Event().wait()


async def named(c: Context) -> bool:
    """A guard that takes everybody for whom he says he is."""
    name = c.query.get("user")
    c.user = User(pk=int(name), username=name) if name else AnonymousUser()
    c.request.session = type("Session", (), {"session_key": c.query.get("session")})()  # type: ignore[attr-defined]
    return True


async def let_in(client: Client) -> bool:
    """Whether it has a stream; a refusal must be one that a client can act on."""
    event = await client.event()
    if event.event != "sse.overloaded":
        assert event.data == "hello"
        return True
    assert event.retry is not None
    assert 4_000 < event.retry < 60_000
    assert client.status == 200
    await client.over()
    return False


def refusals() -> dict[str, int]:
    return {reason: count for counts in counters.copy().values() for reason, count in counts.refused.items()}


@pytest.mark.parametrize(
    ("kind", "same", "another"),
    [
        ("user", "user=1", "user=2"),
        ("session", "user=1&session=aaaaaaaa", "user=1&session=bbbbbbbb"),
        ("session", "session=aaaaaaaa", "user=1&session=bbbbbbbb"),
    ],
)
async def test_a_client_has_so_many_streams_and_others_have_theirs(kind: str, same: str, another: str) -> None:
    async with serve(stays, settings=limited(**{kind: 2}), guards=[named]) as site:
        first, second = site.connect(query=same), site.connect(query=same)
        assert [await let_in(client) for client in (first, second)] == [True, True]
        assert not await let_in(site.connect(query=same))
        assert await let_in(site.connect(query=another))
        assert refusals() == {f"limit_{kind}": 1}
        first.leave()
        await first.over()
        assert await let_in(site.connect(query=same)), "a place is free again as soon as a stream is over"


async def test_many_sessions_of_one_user_are_one_user() -> None:
    async with serve(stays, settings=limited(user=2, session=2), guards=[named]) as site:
        sessions = ("aaaaaaaa", "bbbbbbbb", "cccccccc")
        assert [await let_in(site.connect(query=f"user=1&session={one}")) for one in sessions] == [True, True, False]
        assert await let_in(site.connect(query="user=2&session=cccccccc"))


async def test_what_begins_no_stream_takes_no_place() -> None:
    async with serve(stays, settings=limited(process=1, address=1, user=1), guards=[named]) as site:
        assert await let_in(site.connect(query="user=1"))
        for method, status in (("HEAD", 200), ("OPTIONS", 200), ("PUT", 405)):
            client = site.connect(query="user=1", method=method)
            assert await client.begun() == status
            await client.over()
        assert admission.open == 1


async def test_an_address_has_so_many_streams() -> None:
    async with serve(stays, settings=limited(address=2), guards=[named]) as site:
        assert [await let_in(site.connect(query=f"user={number}")) for number in (1, 2, 3)] == [True, True, False]
        assert refusals() == {"limit_address": 1}


async def test_a_process_and_a_route_have_so_many_streams() -> None:
    async with serve(stays, settings=limited(process=2)) as site:
        assert [await let_in(site.connect()) for _ in range(3)] == [True, True, False]
    async with serve(stays, settings=limited(route=2)) as site:
        assert [await let_in(site.connect()) for _ in range(3)] == [True, True, False]
    async with serve(stays, settings=limited(route=5), max_streams=1) as site:
        assert [await let_in(site.connect()) for _ in range(2)] == [True, False]
    assert refusals() == {"limit_process": 1, "limit_route": 2}


async def test_one_route_does_not_keep_another_out() -> None:
    router = Router()
    router.sse("full/", _plain, max_streams=1)
    router.sse("free/", _plain)
    with served(router, **limited()):
        clients = [connect(url, headers={"accept": "text/event-stream"}) for url in ("/full/", "/full/", "/free/")]
        assert [await let_in(client) for client in clients] == [True, False, True]
        for client in clients:
            client.leave()
            await client.over()
        await eventually("no stream is left", lambda: not registry.loop_state().streams)


async def _plain(c: Context, stream: Stream) -> None:
    await stream.write("hello")
    await asyncio.Event().wait()


@pytest.mark.parametrize(("low", "status"), [({"address": 1}, 429), ({"process": 1}, 503), ({"route": 1}, 503)])
async def test_a_client_without_control_events_gets_a_status_and_retry_after(low: dict[str, int], status: int) -> None:
    async with serve(stays, settings=limited(**low)) as site:
        assert await let_in(site.connect())
        refused = site.connect(headers={"accept": "*/*"})
        assert await refused.begun() == status
        await refused.over()
        assert 5 <= int(refused.headers["retry-after"]) <= 15
        assert {429: b"too_many_requests", 503: b"overloaded"}[status] in refused.raw
        assert b"come back later" in refused.raw
        assert "127.0.0.1" not in refused.raw.decode(), "it names nobody"


async def test_a_stream_that_never_begins_gives_its_place_back() -> None:
    async def fails(c: Context, stream: Stream, number: int) -> None:
        raise LookupError

    def answers(c: Context, number: int) -> Any:
        return c.json({})

    for handler, status in ((fails, 500), (answers, 200)):
        async with serve(handler, settings=limited(process=1, address=1)) as site:
            for _ in range(3):
                client = site.connect()
                assert await client.begun() == status
                await client.over()


async def test_the_limits_are_on_by_default_and_none_switches_each_and_all_off() -> None:
    with override_settings(AGENT_SSE={}):
        assert all(getattr(limits(), name) is not None for name in NAMES)
        assert limits() == Limits()
    with override_settings(AGENT_SSE={"LIMITS": {"USER": None}}):
        assert limits().user is None
        assert limits().session == Limits().session
    with override_settings(AGENT_SSE={"LIMITS": None}):
        assert [getattr(limits(), name) for name in NAMES] == [None] * len(NAMES)
    async with serve(stays, settings={"AGENT_SSE": {"LIMITS": None}}, guards=[named]) as site:
        assert all([await let_in(site.connect(query="user=1")) for _ in range(20)])
        assert not shared.counts()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"USERS": 1}, r"AGENT_SSE\['LIMITS'\]\['USERS'\] does not exist; did you mean 'USER'"),
        ({"USER": 0}, r"\['USER'\] must be a whole number from 1 to \d+ or None, not 0"),
        ({"USER": "5"}, r"\['USER'\] must be"),
        ({"DESCRIPTORS": 2}, r"\['DESCRIPTORS'\] must be a share between 0.0 and 1.0, or None, not 2"),
        ({"REPLAY_BYTES": 100}, r"\['REPLAY_BYTES'\] must be a number of bytes from 65536"),
        ([], r"AGENT_SSE\['LIMITS'\] is \[\]; it is a dict with any of USER, SESSION"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Any, says: str) -> None:
    with override_settings(AGENT_SSE={"LIMITS": given}), pytest.raises(ConfigurationError, match=says):
        limits()


# Before anybody is known


@pytest.fixture
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second passes, however busy the machine is."""
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1_000.0))


def scope(address: str = "8.8.8.8", **about: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "client": (address, 1), "headers": [], **about}


@pytest.mark.usefixtures("_stopped_clock")
async def test_an_address_connects_so_often_and_others_do_not_feel_it() -> None:
    with override_settings(**limited(address_connects=5)):
        found = [(await arrive(scope())).refusal for _ in range(7)]
        assert [refusal and refusal.reason for refusal in found] == [None] * 5 + [Refusal.ADDRESS_CONNECTS] * 2
        assert found[-1] is not None
        assert found[-1].status == 429
        assert (await arrive(scope("1.1.1.1"))).refusal is None


@pytest.mark.usefixtures("_stopped_clock")
async def test_a_process_takes_so_many_connects_a_second() -> None:
    with override_settings(**limited(connects=3)):
        found = [(await arrive(scope(f"8.8.8.{number}"))).refusal for number in range(8)]
        assert [refusal and refusal.reason for refusal in found] == [None] * 6 + [Refusal.CONNECTS] * 2
        assert found[-1] is not None
        assert found[-1].status == 503


@pytest.mark.usefixtures("_stopped_clock")
async def test_behind_a_unix_socket_connects_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server there knows no client. Its proxy's header does; where nobody has named it, the process's own limits hold."""

    async def reason(address: str) -> Refusal | None:
        refusal = (await arrive(scope(client=None, headers=[(b"x-forwarded-for", address.encode())]))).refusal
        return refusal and refusal.reason

    with override_settings(**limited(connects=2, address_connects=3)):
        assert [await reason("8.8.8.8") for _ in range(5)] == [None] * 4 + [Refusal.CONNECTS]
    admission.reset()
    settings = limited(connects=4, address_connects=3)
    with override_settings(AGENT_SSE={**settings["AGENT_SSE"], "PROXIES": 1}):
        assert [await reason("8.8.8.8") for _ in range(4)] == [None] * 3 + [Refusal.ADDRESS_CONNECTS]
        assert await reason("1.1.1.1") is None
    monkeypatch.setattr(descriptors, "exhausted", lambda share: True)
    with override_settings(**limited(descriptors=0.2)):
        assert await reason("8.8.8.8") == Refusal.DESCRIPTORS


@pytest.mark.usefixtures("_stopped_clock")
async def test_a_preflight_takes_no_connect_of_a_stream_and_has_a_limit_as_high() -> None:
    async def reasons(count: int, method: str, address: str = "8.8.8.8") -> list[Refusal | None]:
        found = [(await arrive(scope(address, method=method))).refusal for _ in range(count)]
        return [refusal and refusal.reason for refusal in found]

    with override_settings(**limited(address_connects=3)):
        assert await reasons(5, "OPTIONS") == [None] * 3 + [Refusal.ADDRESS_CONNECTS] * 2
        assert await reasons(4, "GET") == [None] * 3 + [Refusal.ADDRESS_CONNECTS]
        assert await reasons(3, "OPTIONS", "1.1.1.1") == [None] * 3
        for method in ("HEAD", "POST", "PUT"):
            assert await reasons(1, method) == [Refusal.ADDRESS_CONNECTS], "these are looked at by guards"
    admission.reset()
    with override_settings(**limited(connects=2)):
        assert await reasons(5, "OPTIONS") == [None] * 4 + [Refusal.CONNECTS]
        assert await reasons(5, "GET") == [None] * 4 + [Refusal.CONNECTS]


@pytest.mark.usefixtures("_stopped_clock")
async def test_a_flood_of_addresses_has_the_process_forget_nothing_of_its_own() -> None:
    """Each address is remembered in a table of stated size; what the process itself may take stands in another."""
    with override_settings(**limited(connects=1, address_connects=5)):
        for number in range(rates.MOST_COUNTED + 100):
            refusal = (await arrive(scope(str(ipaddress.IPv4Address(0x08000000 + number))))).refusal
            assert (refusal is None) is (number < 2)
        assert sum(len(one._due) for one in admission._address_rates) == rates.MOST_COUNTED


async def test_so_many_requests_of_an_address_are_looked_at_at_a_time_the_others_wait_in_line() -> None:
    with override_settings(**limited(unknown=2)):
        inside = [await arrive(scope()) for _ in range(2)]
        waiting = [asyncio.create_task(arrive(scope())) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await arrive(scope("1.1.1.1"))).refusal is None, "another one's does not wait"
        assert not any(task.done() for task in waiting)
        inside[0].known()
        inside[0].known()
        first = await waiting[0]
        await asyncio.sleep(0)
        assert not waiting[1].done(), "called twice, it gives one place"
        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        first.known()
        inside[1].known()
        again = [await arrive(scope()) for _ in range(2)]
        assert [one.refusal for one in again] == [None, None]
        for one in again:
            one.known()


async def test_who_waits_for_too_long_or_stands_in_too_long_a_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    with override_settings(**limited(unknown=1, address=1)):
        inside = await arrive(scope())
        waits, too_many = await asyncio.gather(arrive(scope()), arrive(scope()))
        assert [one.refusal and one.refusal.reason for one in (waits, too_many)] == [Refusal.UNKNOWN] * 2
        inside.known()
        after = await arrive(scope())
        assert after.refusal is None
        after.known()


async def test_a_place_that_comes_free_as_the_time_is_over_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)
    with override_settings(**limited(unknown=1)):
        inside = await arrive(scope())
        waits = asyncio.create_task(arrive(scope()))
        await asyncio.sleep(0)
        time.sleep(0.02)  # its time is over, and the loop has not seen it yet
        inside.known()
        inside = await waits
        assert inside.refusal is None
        waits = asyncio.create_task(arrive(scope()))
        await asyncio.sleep(0)
        inside.known()
        waits.cancel()  # its client has left in this very moment
        await asyncio.wait([waits])
        after = await arrive(scope())
        assert after.refusal is None
        after.known()
        gate = module._gates.here()
        assert not gate._inside
        assert not gate._lines


async def test_a_line_is_never_longer_than_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    with override_settings(**limited(unknown=1, address=None)):
        inside = await arrive(scope())
        waiting = [asyncio.create_task(arrive(scope())) for _ in range(5)]
        await eventually("two are refused", lambda: sum(task.done() for task in waiting) == 2)
        refused = [task for task in waiting if task.done() and task.result().refusal is not None]
        assert len(refused) == 2
        inside.known()
        for task in waiting[:3]:
            arrival = await task
            assert arrival.refusal is None
            arrival.known()


async def test_slow_guards_of_one_address_leave_the_others_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessed keys, each a slow look into a database: at most so many at a time."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 600.0)
    asked: list[str] = []
    release = asyncio.Event()

    async def slow(c: Context) -> bool:
        asked.append(c.query["key"])
        if c.query["key"] != "right":
            await release.wait()
        return c.query["key"] == "right"

    async with serve(stays, settings=limited(unknown=4), guards=[slow], around=asgi.wrap) as site:
        guesses = [Guess(site, f"{number}") for number in range(20)]
        await eventually("as many as may are asked", lambda: len(asked) == 4)
        right = Guess(site, "right", address="1.1.1.1")
        assert await let_in(right.client), "another address does not wait for them"
        assert len(asked) == 5
        release.set()
        for guess in guesses:
            assert await guess.client.begun() == 403
            await guess.client.over()
        assert len(asked) == 21


class Guess:
    """A request from an address of its own, as a server hands it over."""

    def __init__(self, site: Any, key: str, address: str = "8.8.8.8", accept: str = "text/event-stream") -> None:
        application = site.application

        async def from_address(given: dict[str, Any], receive: Any, send: Any) -> None:
            del given[IN_SCOPE]
            await application({**given, "client": (address, 1)}, receive, send)

        site.application = from_address
        self.client = site.connect(query=f"key={key}", headers={"accept": accept})
        site.application = application


@pytest.mark.usefixtures("_stopped_clock")
async def test_a_connect_too_many_is_refused_before_anybody_is_asked_who_it_is() -> None:
    asked: list[Context] = []

    async def guard(c: Context) -> bool:
        asked.append(c)
        return True

    async with serve(stays, settings=limited(address_connects=1), guards=[guard]) as site:
        assert await let_in(Guess(site, "first").client)
        assert not await let_in(Guess(site, "second").client)
        refused = Guess(site, "third", accept="*/*").client
        assert await refused.begun() == 429
        await refused.over()
        assert int(refused.headers["retry-after"]) >= 5
        assert await let_in(Guess(site, "other", address="1.1.1.1").client)
    assert len(asked) == 2
    assert counters.copy()["stream/<int:number>/"].refused == {"limit_address_connects": 2}


@pytest.mark.usefixtures("_stopped_clock")
async def test_the_wrapper_refuses_without_django_and_says_so_as_politely() -> None:
    calls: list[HttpRequest] = []

    async def view(request: HttpRequest) -> Any:
        calls.append(request)
        raise AssertionError

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with served([path("", view)], **limited(connects=1)):
        application = asgi.wrap(lambda *_: pytest.fail("it reaches Django"), match=lambda scope: True)  # type: ignore[arg-type]
        for _ in range(2):
            assert (await arrive(scope())).refusal is None
        for method, accept, status in (("GET", b"text/event-stream", 200), ("POST", b"text/event-stream", 503)):
            await application(scope(method=method, headers=[(b"accept", accept)]), None, send)
            start, body = sent[-2:]
            assert start["status"] == status
            headers = dict(start["headers"])
            assert (b"retry:" in body["body"]) is (status == 200)
            assert (b"retry-after" in headers) is (status == 503)
    assert counters.copy()[asgi.ANY_ROUTE].refused == {"limit_connects": 2}


# Descriptors


def test_a_share_of_the_descriptors_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "limit", lambda: None)
    assert not descriptors.exhausted(0.2)
    lowest = descriptors_open()
    monkeypatch.setattr(descriptors, "limit", lambda: lowest + descriptors.FEWEST_KEPT + 10)
    if lowest > descriptors.FEWEST_KEPT:
        assert not descriptors.exhausted(0.01)
    monkeypatch.setattr(descriptors, "limit", lambda: 2 * lowest)
    assert descriptors.exhausted(0.9), "half of them at most is kept"


def descriptors_open() -> int:
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    return lowest


async def test_where_no_descriptor_is_left_a_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "exhausted", lambda share: True)
    with override_settings(**limited(descriptors=0.2)):
        refusal = (await arrive(scope())).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.status) == (Refusal.DESCRIPTORS, 503)


def test_looking_costs_little() -> None:
    began = time.process_time()
    for _ in range(200):
        descriptors.exhausted(0.2)
    assert (time.process_time() - began) / 200 < 0.001


# Who meets them


async def test_who_meets_a_limit_is_told_to_whoever_looks() -> None:
    async with serve(stays, settings=limited(user=2, session=2, address=50, route=4, process=100), guards=[named]) as site:
        for _ in range(3):
            await let_in(site.connect(query="user=7&session=aaaaaaaa"))
        found = {(one.limit, one.of): (one.open, one.most) for one in admission.meetings()}
        assert found == {
            ("user", "auth.user:7"): (2, 2),
            ("session", ""): (2, 2),
            ("route", "stream/<int:number>/"): (2, 4),
        }


def test_an_arrival_that_is_known_twice_gives_one_place() -> None:
    arrival = Arrival("8.8.8.8")
    arrival.known()
    arrival.known()
