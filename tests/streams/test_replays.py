"""Catching up: so many at a time, so many bytes a second; nobody waits for a client that does not read, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import uvloop
from django.test import override_settings

from django_agent_sse import Context, Stream, apublish_many
from django_agent_sse.streams import replays
from django_agent_sse.streams.replays import Replays, replay_counts, replays_here
from tests.inprocess import eventually, serve

KB = 1_024


def settings(**low: Any) -> dict[str, Any]:
    return {"AGENT_SSE": {"LIMITS": low, "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}}


class Reader:
    """One that catches up: asks whenever it is told to."""

    def __init__(self, turns: Replays, name: str, said: list[str]) -> None:
        self.turns, self.name, self.said = turns, name, said

    def turn_came(self) -> None:
        if self.turns.may(self):
            self.said.append(self.name)


async def test_so_many_have_a_place_and_the_first_to_wait_is_the_first_to_get_one() -> None:
    with override_settings(**settings(REPLAYS=2, REPLAY_BYTES=None)):
        turns, said = Replays(asyncio.get_running_loop()), list[str]()
        a, b, c, d = (Reader(turns, name, said) for name in "abcd")
        assert [turns.may(one) for one in (a, b, c, d, a, b)] == [True, True, False, False, True, True]
        assert (turns.running, turns.waiting, turns.waited) == (2, 2, 2)
        turns.done(b)
        assert said == ["c"]
        turns.done(a)
        assert said == ["c", "d"]
        turns.done(c)
        turns.done(d)
        assert (turns.running, turns.waiting) == (0, 0)


async def test_a_client_that_takes_nothing_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "PATIENCE", 60.0)
    monkeypatch.setattr(replays, "LOOK", 0.01)
    with override_settings(**settings(REPLAYS=1, REPLAY_BYTES=None)):
        turns, said = Replays(asyncio.get_running_loop()), list[str]()
        stuck, waits = Reader(turns, "stuck", said), Reader(turns, "waits", said)
        assert turns.may(stuck)
        assert not turns.may(waits)
        monkeypatch.setattr(replays, "PATIENCE", -1.0)
        await eventually("its place is another's", lambda: said == ["waits"])
        monkeypatch.setattr(replays, "PATIENCE", 60.0)
        assert not turns.may(stuck), "it waits in line when it takes again"
        turns.done(waits)
        assert said == ["waits", "stuck"]


async def test_who_reads_slowly_and_without_end_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "PATIENCE", 60.0)
    with override_settings(**settings(REPLAYS=2, REPLAY_BYTES=None)):
        turns, said = Replays(asyncio.get_running_loop()), list[str]()
        a, b, c, d = (Reader(turns, name, said) for name in "abcd")
        monkeypatch.setattr(replays, "TURN", 60.0)
        assert [turns.may(one) for one in (a, b, c, d)] == [True, True, False, False]
        assert [turns.may(one) for one in (a, b)] == [True, True], "its turn is not over"
        monkeypatch.setattr(replays, "TURN", -1.0)
        assert not turns.may(a), "its turn is over, and others wait"
        assert said == ["c"]
        assert not turns.may(b)
        assert said == ["c", "d"]
        assert (turns.running, turns.waiting) == (2, 2)
        turns.done(c)
        turns.done(d)
        assert said == ["c", "d", "a", "b"], "they go on behind those who waited"
        assert turns.may(a), "where nobody waits, nobody gives up a place"
        turns.done(a)
        turns.done(b)


async def test_places_that_stuck_ones_lose_are_given_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand that do not read keep others waiting for a moment, not each for one."""
    monkeypatch.setattr(replays, "LOOK", 3_600.0)
    with override_settings(**settings(REPLAYS=8, REPLAY_BYTES=None)):
        turns, said = Replays(asyncio.get_running_loop()), list[str]()
        stuck = [Reader(turns, "stuck", said) for _ in range(8)]
        monkeypatch.setattr(replays, "PATIENCE", 60.0)
        waiting = [Reader(turns, str(number), said) for number in range(20)]
        assert all(turns.may(one) for one in stuck)
        assert not any(turns.may(one) for one in waiting)
        monkeypatch.setattr(replays, "PATIENCE", -1.0)
        turns._look()
        monkeypatch.setattr(replays, "PATIENCE", 60.0)
        assert said == [str(number) for number in range(8)]
        assert (turns.running, turns.waiting) == (8, 12)
        for one in waiting:
            turns.done(one)
        assert turns._timer is not None
        turns._timer.cancel()


async def test_bytes_go_at_the_rate_that_is_set_and_not_faster() -> None:
    with override_settings(**settings(REPLAYS=None, REPLAY_BYTES=1_000_000)):
        turns, said = Replays(asyncio.get_running_loop()), list[str]()
        reader = Reader(turns, "a", said)
        began, sent = time.monotonic(), 0
        while sent < 500_000:
            if turns.may(reader):
                turns.took(50_000)
                sent += 50_000
            else:
                before = len(said)
                await eventually("its turn comes", lambda before=before: len(said) > before)
                turns.took(50_000)
                sent += 50_000
        took = time.monotonic() - began
        assert took >= (500_000 - 250_000 - 50_000) / 1_000_000, "a quarter of a second's bytes go at once"
        turns.done(reader)


async def test_who_reads_in_another_way_waits_as_long() -> None:
    with override_settings(**settings(REPLAY_BYTES=1_000_000)):
        turns, began = Replays(asyncio.get_running_loop()), time.monotonic()
        for _ in range(10):
            await turns.paced(50_000)
        assert time.monotonic() - began >= 0.2


async def follows(c: Context, stream: Stream, number: int) -> None:
    await stream.follow("replayed")


async def _filled(events: int, size: int) -> None:
    await apublish_many("replayed", ["x" * size for _ in range(events)])


async def test_many_streams_catch_up_few_at_a_time_and_each_gets_everything() -> None:
    async with serve(follows, settings=settings(REPLAYS=2, REPLAY_BYTES=8_000_000)) as site:
        await _filled(300, 4 * KB)
        most = 0
        clients = [site.connect() for _ in range(8)]
        while not all(len(client._unread) >= 300 for client in clients):
            most = max(most, replay_counts()[0])
            await asyncio.sleep(0.001)
        assert 1 <= most <= 2
        for client in clients:
            offsets = [event.id.split(".")[1] for event in await client.take(300)]  # type: ignore[union-attr]
            assert offsets == [str(number) for number in range(1, 301)]
        assert replay_counts() == (0, 0)
        await apublish_many("replayed", ["live"])
        for client in clients:
            assert (await client.event()).data == "live"


async def test_a_stream_that_ends_while_it_waits_leaves_the_line() -> None:
    async with serve(follows, settings=settings(REPLAYS=1, REPLAY_BYTES=65_536)) as site:
        await _filled(600, 1 * KB)
        first, second = site.connect(), site.connect()
        await eventually("one of them waits", lambda: replay_counts() == (1, 1))
        for client in (first, second):
            client.leave()
            await client.over()
        assert replay_counts() == (0, 0)


async def test_live_events_are_not_held_up_by_those_who_catch_up() -> None:
    async with serve(follows, settings=settings(REPLAYS=1, REPLAY_BYTES=65_536)) as site:
        live = site.connect()
        await live.begun()
        await apublish_many("replayed", ["first"])
        assert (await live.event()).data == "first"
        await _filled(60, 1 * KB)
        await live.take(60)
        late = site.connect()
        await late.begun()
        await apublish_many("replayed", ["now"])
        assert (await live.event()).data == "now"
    assert replays_here().running == 0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_waits_for_bytes_is_called_on_every_loop_also_where_the_time_has_come(new_loop: Any) -> None:
    """uvloop gives a handle of another kind for what is due by now."""

    async def reads() -> None:
        turns, said = Replays(asyncio.get_running_loop()), list[str]()
        a, b = Reader(turns, "a", said), Reader(turns, "b", said)
        assert [turns.may(one) for one in (a, b)] == [True, False]
        turns._look_in(0.0)
        turns._look_in(-1.0)
        turns.took(1)
        turns._look_in(0.0)
        turns.done(a)
        await eventually("the other's turn comes", lambda: said == ["b"])
        turns.done(b)

    with override_settings(**settings(REPLAYS=1)), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(reads())
