"""The clock of one event loop: visits in buckets, spread, and over when they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import BUCKET, FINE_BUCKET, PHASE, LoopState
from tests.inprocess import eventually


class Visited:
    """Notes its visits and answers with what ``again`` says."""

    def __init__(self, again: Callable[[float], float | None] = lambda now: None) -> None:
        self.due_slot: float | None = None
        self.visits: list[float] = []
        self.again = again

    def tick(self, now: float) -> float | None:
        self.visits.append(now)
        return self.again(now)


class Ended:
    def __init__(self) -> None:
        self.endings: list[Ending] = []

    def end(self, ending: Ending, *, retry: int | None = None) -> bool:
        self.endings.append(ending)
        return True


@pytest.fixture
async def here() -> LoopState:
    return LoopState(asyncio.get_running_loop(), lambda: False)


async def test_many_streams_that_come_together_are_visited_apart(here: LoopState) -> None:
    visited = [Visited() for _ in range(1000)]
    now = here.loop.time()
    for one in visited:
        here.watch(one, 15)
    slots = {one.due_slot for one in visited if one.due_slot is not None}
    assert min(slots) >= now + 15 * PHASE
    assert max(slots) <= here.loop.time() + 15 + BUCKET
    assert 6 <= len(slots) <= 10
    assert all(due_slot % BUCKET == 0 for due_slot in slots)
    share = max(sum(one.due_slot == due_slot for one in visited) for due_slot in slots)
    assert share < 300


async def test_a_bucket_costs_one_timer_however_many_are_in_it(here: LoopState, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[float] = []
    monkeypatch.setattr(here.loop, "call_at", lambda when, *_, **__: timers.append(when))
    for _ in range(1000):
        here.watch(Visited(), 15)
    assert len(timers) == len(set(timers)) <= 10


async def test_a_short_interval_has_finer_buckets(here: LoopState) -> None:
    visited = [Visited() for _ in range(100)]
    for one in visited:
        here.watch(one, 0.2)
    slots = {one.due_slot for one in visited if one.due_slot is not None}
    assert max(slots) <= here.loop.time() + 0.2 + FINE_BUCKET
    assert len(slots) >= 2


async def test_a_visit_says_when_to_come_again(here: LoopState) -> None:
    visited = Visited()
    visited.again = lambda now: now + 0.05 if len(visited.visits) < 3 else None
    here.watch(visited, 0.05)
    began = here.loop.time()
    await eventually("three visits", lambda: len(visited.visits) == 3)
    assert visited.visits == sorted(visited.visits)
    assert visited.visits[2] - began >= 0.05 * (2 + PHASE) - 0.01
    await asyncio.sleep(0.15)
    assert len(visited.visits) == 3
    assert visited.due_slot is None


async def test_without_an_interval_there_is_no_visit(here: LoopState) -> None:
    visited = Visited()
    here.watch(visited, None)
    assert visited.due_slot is None


async def test_unwatched_means_never_visited_again(here: LoopState) -> None:
    one, other = Visited(), Visited()
    for visited in (one, other):
        here.watch(visited, 0.05)
    here.unwatch(one)
    here.unwatch(one)
    await eventually("the other is visited", lambda: other.visits)
    await asyncio.sleep(0.1)
    assert one.visits == []


async def test_a_visit_may_unwatch_another_of_the_same_bucket(here: LoopState) -> None:
    visited = [Visited(), Visited()]

    def unwatch_all(now: float) -> None:
        for one in visited:
            here.unwatch(one)

    for one in visited:
        one.again = unwatch_all
        here.watch(one, 0.05)
    await eventually("a visit", lambda: any(one.visits for one in visited))
    await asyncio.sleep(0.15)
    assert all(one.due_slot is None for one in visited)


async def test_a_visit_that_fails_stops_no_other(here: LoopState) -> None:
    complaints: list[object] = []
    here.loop.set_exception_handler(lambda loop, context: complaints.append(context["exception"]))

    def fails(now: float) -> None:
        raise ValueError

    visited = [Visited(fails) for _ in range(20)]
    for one in visited:
        here.watch(one, 0.05)
    await eventually("all are visited", lambda: all(one.visits for one in visited))


async def test_end_all_ends_every_stream_also_when_one_leaves_meanwhile(here: LoopState) -> None:
    streams = [Ended() for _ in range(10)]
    for one in streams:
        here.add(one)

    class Leaves(Ended):
        def end(self, ending: Ending, *, retry: int | None = None) -> bool:
            here.discard(self)
            return super().end(ending)

    leaving = Leaves()
    here.add(leaving)
    here.end_all(Ending.SHUTDOWN)
    assert [one.endings for one in [*streams, leaving]] == [[Ending.SHUTDOWN]] * 11
    assert here.streams == set(streams)


async def test_the_finished_futures_are_finished(here: LoopState) -> None:
    assert await here.sent is True
    assert await here.dropped is False
    assert await here.sent is True
