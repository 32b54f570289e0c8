"""Stop, finish, start, loss and shutdown of one run in every order, over real logs: each order settles in one documented way.

What is expected comes from `Told`, which knows the rules as the documentation has them, and nothing of the code. A run's keeper
is played by hand here, so that a step is done when its call returns.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections

from django_agent_sse import produce
from django_agent_sse.eventlog.backend import build_log
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import LeaseLost, RunExists, RunStopped
from django_agent_sse.runs import keeper, run_base
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.produce import Producing
from django_agent_sse.runs.run import Run
from django_agent_sse.streams.counters import counters
from django_agent_sse.topics.reading import history
from tests.timing import LONG, bound

from .logs import FOUR, empty_log

NAME, NEXT, KEY = "runs.1", "runs.2", "chat.7"
PATIENCE = 60.0
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(params=FOUR)
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(request.param, request) as one:
        yield one


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return found


def last(ending: RunEnding) -> list[str]:
    return [f"[{ending}]"]


class Told:
    """What the documentation says of a run after some steps."""

    def __init__(self) -> None:
        self.asked = self.lapsed = False
        self.decided: str | None = None
        self.closed: str | None = None
        self.started: str | None = None

    def ask(self) -> None:
        """Somebody asks it to stop: a flag, where it is not over."""
        self.asked = self.asked or self.closed is None

    def look(self) -> None:
        """Its process looks at its lease."""
        if self.closed is None and self.lapsed:
            self.closed = "lost"
        elif self.closed is None and self.asked:
            self.decided = self.decided or "stopped"

    def shutdown(self) -> None:
        """Its process is told to end."""
        self.decided = self.decided or "interrupted"

    def finish(self) -> None:
        """Its code returns."""
        if self.closed is None:
            self.closed = "lost" if self.lapsed else self.decided or "finished"

    def lapse(self) -> None:
        """Nobody renews its lease in time."""
        self.lapsed = self.lapsed or self.closed is None

    def expire(self) -> None:
        """A reader looks."""
        if self.lapsed and self.closed is None:
            self.closed = "lost"

    def start(self) -> None:
        """Another run wants the key."""
        self.expire()
        self.started = "begun" if self.closed else "refused"


class Life:
    """The same steps, taken."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.started: str | None = None
        begun = Producing(NAME, KEY, 60, last)
        self.id = begun._id
        assert begun._begin(log) is None
        self.run = Run(log, NAME, self.id, 60, last)
        self.run._enter()
        self.run._take([run_base.event_of("1")])

    def ask(self) -> None:
        self.log.request_stop(NAME, self.id)

    def look(self) -> None:
        lease = self.log.lease(NAME)
        self.run._do(self.run._seen(lease, self.run._reason() if lease is not None and not lease.deadline else None))

    def shutdown(self) -> None:
        self.run._do(self.run._life.shutdown())

    def finish(self) -> None:
        self.run._exit(None)

    def lapse(self) -> None:
        if isinstance(self.log, MemoryEventLog):
            now = self.log._now() + 61
            self.log._now = lambda: now
            return
        try:
            self.log.renew(NAME, self.id, 0.001)
        except LeaseLost:
            return
        until("it has run out", lambda: self.log.lease(NAME).left <= 0)  # type: ignore[union-attr]

    def expire(self) -> None:
        self.log.expire(NAME)

    def start(self) -> None:
        try:
            with produce(NEXT, key=KEY, last=last):
                self.started = "begun"
        except RunExists:
            self.started = "refused"


STEPS = ("ask", "look", "shutdown", "finish", "lapse", "expire", "start")
WORDS: dict[str, Sequence[str]] = {
    "stop": ("ask", "look"),
    "finish": ("finish",),
    "lost": ("lapse", "expire"),
    "interrupted": ("shutdown",),
    "start": ("start",),
}
"""What happens to a run, as the documentation names it."""


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No keeper looks and no timer runs, but what the test does; the endings that the metrics are told."""
    counted: list[str] = []
    monkeypatch.setattr(keeper.Keeper, "add", lambda self, run: None)
    monkeypatch.setattr("django_agent_sse.runs.run.Run._cut", _nothing)
    monkeypatch.setattr(counters, "run_ended", counted.append)
    return counted


async def _nothing(run: Run) -> None:
    """Do not wait for the code."""


def live(log: EventLog, steps: Sequence[str], counted: list[str]) -> tuple[str, str | None]:
    """Take the steps; then the code returns. Return the ending and what became of the other start."""
    log.clear_all()
    if isinstance(log, MemoryEventLog):
        log._now = time.time
    counted.clear()
    life, told = Life(log), Told()
    for step in (*steps, *(["finish"] if "finish" not in steps else [])):
        getattr(life, step)()
        getattr(told, step)()
        closed = log.state(NAME).closed
        assert closed == told.closed, (steps, step)
    found = [event.data for event in history(log, NAME)]
    assert closed is not None
    assert life.run.ending == closed, (steps, "the code and the readers are told the same")
    assert found[-1] == f"[{closed}]", (steps, found)
    assert sum(data.startswith("[") for data in found) == 1, (steps, found)
    assert sorted(counted) == sorted([closed, *(["finished"] if life.started == "begun" else [])]), (steps, counted)
    assert life.started == told.started, steps
    with pytest.raises(RunStopped):
        life.run.write("late")
    return closed, life.started


def test_every_order_of_every_step_settles_as_told(log: EventLog, by_hand: list[str]) -> None:
    """In memory four of seven steps in every order, all seven in the long form; in the stores two, and three in the long form."""
    size = (7 if LONG else 4) if isinstance(log, MemoryEventLog) else 3 if LONG else 2
    for steps in itertools.permutations(STEPS, size):
        live(log, steps, by_hand)


def test_every_order_of_what_may_happen_settles_as_told(log: EventLog, by_hand: list[str]) -> None:
    few = not isinstance(log, MemoryEventLog) and not LONG
    for words in itertools.permutations(WORDS, 2 if few else 5):
        live(log, [step for word in words for step in WORDS[word]], by_hand)


def table() -> dict[tuple[str, str], str]:
    """The table of the documentation: the ending by what comes first and what comes then."""
    text = (DOCS / "internals" / "life.rst").read_text(encoding="utf-8").partition(".. csv-table::")[2]
    heads, *rows = [line.strip().split(",") for line in text.splitlines()[1:] if "," in line and line.startswith("   ")]
    return {(row[0], head): cell for row in rows for head, cell in zip(heads[1:], row[1:], strict=True)}


@pytest.mark.parametrize("log", ["memory"], indirect=True)
def test_the_table_of_the_documentation_is_what_happens(log: EventLog, by_hand: list[str]) -> None:
    found = {}
    for first, then in itertools.product(WORDS, repeat=2):
        ending, started = live(log, [*WORDS[first], *(WORDS[then] if first != then else ())], by_hand)
        found[first, then] = ending if started is None else f"{ending}; {started}"
    assert table() == found


# At once


def flood(log: EventLog, number: int, ids: dict[int, str]) -> None:
    with produce(f"runs.{number}", last=last) as out:
        ids[number] = out.id
        at = 0
        while True:
            out.write(at)
            at += 1
            if at % 20 == 0:
                time.sleep(0.01)


def test_nothing_comes_after_the_last_event_of_forty_runs_that_are_stopped_while_they_write(log: EventLog) -> None:
    other = build_log(django_settings.AGENT_SSE["EVENT_LOG"]) if log.crosses_processes else log
    vendor = connections[log.alias].vendor if isinstance(log, DatabaseEventLog) else ""
    together = 2 if vendor == "sqlite" else 8  # it has one writer at a time, and lets none of them wait in a row
    for start in range(0, 40, together):
        ids: dict[int, str] = {}

        def work(number: int, ids: dict[int, str] = ids) -> None:
            try:
                flood(log, number, ids)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(start, start + together)]
        for thread in threads:
            thread.start()
        for number in range(start, start + together):
            until("it writes", lambda number=number: log.state(f"runs.{number}").top >= 20)  # type: ignore[misc]
            assert other.request_stop(f"runs.{number}", ids[number])
        for thread in threads:
            thread.join(PATIENCE)
    for number in range(40):
        data = [event.data for event in history(log, f"runs.{number}")]
        assert data == [*map(str, range(len(data) - 1)), "[stopped]"], number
        assert log.state(f"runs.{number}").closed == "stopped"


@pytest.mark.parametrize("log", ["sqlite", "postgres", "redis"], indirect=True)
async def test_a_stop_while_the_model_thinks_is_seen_at_once_without_a_channel_layer(log: EventLog) -> None:
    """Of a database log the leases are looked at five times a second; a stop elsewhere is found by that."""
    other = build_log(django_settings.AGENT_SSE["EVENT_LOG"])
    notes: list[str] = []
    async with produce(NAME, last=last, lease=3000) as out:
        began = time.monotonic()
        try:  # it may be over before the answer to the wish is here
            assert await asyncio.to_thread(_apart, lambda: other.request_stop(NAME, out.id))
            await asyncio.sleep(10 * PATIENCE)
        finally:
            notes.append("finally")
    assert time.monotonic() - began < bound(0.5, PATIENCE)  # the renewal of the lease would come after a thousand seconds
    assert notes == ["finally"]
    assert (await log.astate(NAME)).closed == "stopped"


@pytest.mark.parametrize("log", ["memory"], indirect=True)
def test_sync_code_that_sleeps_is_not_waited_for_and_learns_of_it_when_it_writes(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_agent_sse.runs.run.CLEANUP_SECONDS", 0.3)
    notes: list[str] = []
    with produce(NAME, last=last) as out:
        log.request_stop(NAME, out.id)
        until("its readers have the end while it sleeps", lambda: log.state(NAME).closed)
        assert out.ending == "stopped"
        try:
            out.write("late")
        finally:
            notes.append("finally")
    assert notes == ["finally"]
    assert [event.data for event in history(log, NAME)] == ["[stopped]"]


def _apart(call: Callable[[], bool]) -> bool:
    try:
        return call()
    finally:
        connections.close_all()
