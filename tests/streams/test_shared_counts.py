"""Counts over several processes: exact where it matters, free where it does not, and gone with the process that had them."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.test import override_settings

from django_agent_sse.streams import admission as admission_module
from django_agent_sse.streams import shared_counts
from django_agent_sse.streams.admission import Arrival
from django_agent_sse.streams.shared_counts import LEASE, PREFIX, SharedCounts
from tests.inprocess import eventually

LIMIT = 8
PATIENCE = 60.0
REALLY_EXCHANGED = SharedCounts._exchanged


@pytest.fixture(autouse=True)
def _cache() -> Iterator[None]:
    """A cache that processes share."""
    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.SharedCache"}}):
        yield
    SharedCache.held.clear()


class SharedCache(BaseCache):
    """As Redis, Memcached and the database are: values are copied, and ``add()`` is atomic."""

    held: ClassVar[dict[str, bytes]] = {}
    lock = threading.Lock()

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        with self.lock:
            found = key in self.held
            self.held.setdefault(key, pickle.dumps(value))
            return not found

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        return pickle.loads(self.held[key]) if key in self.held else default

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> None:
        self.held[key] = pickle.dumps(value)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        return timeout != 0 or self.held.pop(key, None) is not None

    def clear(self) -> None:
        self.held.clear()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[SharedCounts]:
    """What three processes have, each with an id of its own."""
    monkeypatch.setattr(shared_counts, "LOOK", 3600.0)  # no clock but the test's
    monkeypatch.setattr(shared_counts, "PATIENCE", PATIENCE)
    return [SharedCounts() for _ in range(3)]


async def test_a_limit_holds_over_all_processes(processes: list[SharedCounts]) -> None:
    keys = [await processes[number % 3].take("user", "a", LIMIT) for number in range(LIMIT)]
    assert None not in keys
    assert [await one.take("user", "a", LIMIT) for one in processes] == [None] * 3
    assert await processes[0].take("user", "b", LIMIT) is not None


async def test_a_place_that_is_given_back_in_one_is_free_in_another(processes: list[SharedCounts]) -> None:
    first, second, _ = processes
    keys = [await first.take("user", "a", LIMIT) for _ in range(LIMIT)]
    assert await second.take("user", "a", LIMIT) is None
    assert keys[0] is not None
    first.give_back(keys[0])
    assert first._fewer, "the others are told at the next look"
    first.exchange()
    assert await second.take("user", "a", LIMIT) is not None


@pytest.mark.parametrize("limit", [1, 2, 5, 40])
async def test_whatever_comes_together_no_more_are_let_in_than_may(processes: list[SharedCounts], limit: int) -> None:
    taken = await asyncio.gather(*(processes[number % 3].take("user", "a", limit) for number in range(3 * limit + 3)))
    let_in = sum(key is not None for key in taken)
    assert let_in <= limit * 1.25, "a quarter more at most, of which nobody was told"
    if limit < 12:
        assert let_in == limit, "small limits are exact"
    assert let_in >= limit, "nobody is refused for what others claim that are refused as well"


async def test_what_a_process_claimed_that_died_keeps_nobody_out(processes: list[SharedCounts]) -> None:
    dead, alive, _ = sorted(processes, key=lambda one: one._process)
    dead._limits["user"] = LIMIT
    dead._claim("user:a", LIMIT, steps_back=False)
    dead.exchange()
    taken = [await alive.take("user", "a", LIMIT) for _ in range(LIMIT)]
    assert taken == ["user:a"] * (LIMIT - 1) + [None]


async def test_who_goes_while_it_waits_claims_nothing_any_more(processes: list[SharedCounts]) -> None:
    first, second, _ = processes
    waits = [asyncio.create_task(first.take("user", "a", LIMIT)) for _ in range(LIMIT)]
    await asyncio.sleep(0)
    for one in waits:
        one.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    first.exchange()
    assert not first._claims
    assert [await second.take("user", "a", LIMIT) for _ in range(LIMIT)] == ["user:a"] * LIMIT


async def test_a_few_cost_no_round_trip(processes: list[SharedCounts], monkeypatch: pytest.MonkeyPatch) -> None:
    first = processes[0]
    await first.take("user", "z", 1_000)
    asked: list[object] = []
    monkeypatch.setattr(SharedCounts, "exchange", asked.append)
    for number in range(100):
        assert await first.take("user", str(number), 1_000) is not None
    assert asked == []


async def test_the_counts_of_a_process_that_died_are_gone_after_their_lease(processes: list[SharedCounts]) -> None:
    dead, alive, _ = processes
    for _ in range(LIMIT):
        await dead.take("user", "a", LIMIT)
    assert await alive.take("user", "a", LIMIT) is None
    cache = caches["default"]
    names = [
        name
        for name in (f"{PREFIX}{number}" for number in range(shared_counts.PLACES))
        if (found := cache.get(name)) and found[1].get("user:a") == LIMIT
    ]
    assert len(names) == 1
    cache.touch(names[0], 0)  # its lease runs out
    assert await alive.take("user", "a", LIMIT) is not None
    assert LEASE == 30


async def test_a_process_that_slept_through_its_lease_takes_another_place(processes: list[SharedCounts]) -> None:
    slept, heir, _ = processes
    await slept.take("user", "a", LIMIT)
    place = slept._place
    caches["default"].clear()
    heir._place = place
    heir.exchange()
    assert heir._place == place
    slept.exchange()
    slept.exchange()
    assert slept._place not in (None, place)
    heir.exchange()
    assert heir._place == place


async def test_what_is_written_names_nobody(processes: list[SharedCounts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "shared", processes[0])
    monkeypatch.setattr(SharedCounts, "_untold", lambda self, key: 0)
    request = type("Request", (), {"session": type("Session", (), {"session_key": "secret-session"})()})()
    context: Any = type("C", (), {"user_pk": 4711, "_user_label": "auth.user", "request": request, "route": "r/"})()
    ticket = await admission_module.admission.admit(context, Arrival("8.8.8.8"), None)
    processes[0].exchange()
    written = caches["default"].get(f"{PREFIX}{processes[0]._place}")
    assert [kind.partition(":")[0] for kind in written[1]] == ["user", "session", "address"]
    assert not any(secret in str(written[1:]) for secret in ("4711", "secret-session", "8.8.8.8"))
    ticket.release()  # type: ignore[union-attr]


async def test_a_cache_that_is_down_lets_each_process_count_for_itself(
    processes: list[SharedCounts], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = processes
    monkeypatch.setattr(shared_counts, "caches", Broken())
    with caplog.at_level(logging.WARNING):
        keys = [await one.take("user", "a", LIMIT) for one in (first, second) for _ in range(LIMIT)]
    assert None not in keys
    assert await first.take("user", "a", LIMIT) is None
    assert sum("cannot be counted" in record.getMessage() for record in caplog.records) == 2, "once in each"


class Slow(SharedCache):
    """One that answers late, or never: until ``answers`` is set."""

    answers = threading.Event()
    asked: ClassVar[list[str]] = []

    def get_many(self, keys: Any, version: Any = None) -> Any:
        self.asked.append("get_many")
        self.answers.wait(PATIENCE)
        return super().get_many(keys, version)


@pytest.fixture
def _exchanges_of_their_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each instance has the real thing, on a thread of its own; and a cache that does not answer."""
    Slow.answers.clear()
    Slow.asked.clear()
    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.Slow"}}):
        yield
    Slow.answers.set()


@pytest.mark.usefixtures("_exchanges_of_their_own")
async def test_a_cache_that_does_not_answer_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a firewall drops what goes to it: no error comes, ever."""
    monkeypatch.setattr(shared_counts, "PATIENCE", 0.05)
    monkeypatch.setattr(shared_counts, "LOOK", 0.01)
    monkeypatch.setattr(shared_counts, "RENEW", 0.01)
    monkeypatch.setattr(SharedCounts, "_exchanged", REALLY_EXCHANGED)
    counts = SharedCounts()
    monkeypatch.setattr(shared_counts, "shared", counts)
    with caplog.at_level(logging.WARNING):
        taken = await asyncio.gather(*(counts.take("user", "a", LIMIT) for _ in range(LIMIT + 5)))
    assert sum(key is not None for key in taken) == LIMIT, "each process counts for itself meanwhile"
    assert sum("cannot be counted" in record.getMessage() for record in caplog.records) == 1
    assert await counts.take("user", "b", LIMIT) is not None, "and nobody waits a second time"
    await asyncio.sleep(0.1)  # ten looks of the clock, at each of which something would be due
    assert Slow.asked == ["get_many"], "one question is open, and no second one is asked"
    for key in taken:
        if key is not None:
            counts.give_back(key)
    counts.give_back("user:b")
    Slow.answers.set()
    await eventually("it is answered, and then the clock rests", lambda: counts._began is None and counts._looking is None)


@pytest.mark.usefixtures("_exchanges_of_their_own")
async def test_what_was_last_known_of_the_others_counts_while_the_cache_is_slow(
    processes: list[SharedCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = processes
    Slow.answers.set()
    for _ in range(LIMIT):
        await first.take("user", "a", LIMIT)
    assert await second.take("user", "a", LIMIT) is None
    monkeypatch.setattr(second, "_retry_at", float("inf"))
    assert await second.take("user", "a", LIMIT) is None
    assert await second.take("user", "b", LIMIT) is not None


class Broken:
    asked = 0

    def __getitem__(self, alias: str) -> Any:
        raise ConnectionError("nobody listens")


async def test_local_memory_is_not_asked_at_all(processes: list[SharedCounts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "caches", Broken())
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
        keys = [await processes[0].take("user", "a", LIMIT) for _ in range(LIMIT + 1)]
    assert keys.count(None) == 1


async def test_the_clock_keeps_the_entry_and_tells_of_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "LOOK", 0.01)
    monkeypatch.setattr(shared_counts, "RENEW", 0.02)
    counts = SharedCounts()
    keys = [await counts.take("user", "a", 2) for _ in range(2)]
    first = counts._asked_at
    await eventually("it is written again", lambda: counts._asked_at > first)
    for key in keys:
        assert key is not None
        counts.give_back(key)

    def told() -> bool:
        return bool(caches["default"].get(f"{PREFIX}{counts._place}", [0, 1])[1] == {})

    await eventually("the others learn of it", told)
    await eventually("and then it rests", lambda: counts._looking is None)


async def test_the_clock_goes_on_for_those_who_come_without_asking_after_all_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "LOOK", 0.01)
    counts = SharedCounts()
    key = await counts.take("user", "a", 1_000)
    assert key is not None
    counts.give_back(key)
    await eventually("the clock rests", lambda: counts._looking is None, PATIENCE)
    asked: list[object] = []
    monkeypatch.setattr(SharedCounts, "exchange", lambda self: asked.append(setattr(self, "_asked_at", time.monotonic())))
    assert await counts.take("user", "b", 1_000) is not None
    assert asked == [], "so few are let in without asking"
    counts._asked_at -= shared_counts.RENEW  # the entry is as old as one that is renewed
    await eventually("the entry is renewed", lambda: asked, PATIENCE)


async def test_what_processes_say_of_who_meets_a_limit_adds_up(
    processes: list[SharedCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(LIMIT - 1):
        assert await processes[number % 3].take("user", "a", LIMIT) is not None
        assert await processes[number % 3].take("session", "s", LIMIT) is not None
    for one in processes:
        one.exchange()
    told = list[tuple[str, int]]()
    with override_settings(AGENT_SSE={"LIMITS": {"USER": LIMIT, "SESSION": LIMIT}}):
        for one in processes:
            monkeypatch.setattr(admission_module, "shared", one)
            told += [(meeting.limit, meeting.open) for meeting in admission_module.admission.meetings()]
    assert sorted(count for limit, count in told if limit == "user") == [2, 2, 3], "the monitor adds up those of all processes"
    assert [count for limit, count in told if limit == "session"] == [LIMIT - 1] * 3, "and leaves these apart"
