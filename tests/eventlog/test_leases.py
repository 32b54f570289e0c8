"""Leases and pointers, which every event log keeps: the same suite over all of them, by the sync verbs and by their twins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.db import connections

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.leases import MOST_SECONDS, STOPS, Lease
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import (
    ArgumentInvalid,
    EventLogUnavailable,
    EventTooLarge,
    InvalidEvent,
    LeaseHeld,
    LeaseLost,
    TopicClosed,
    TopicNameInvalid,
)
from django_agent_sse.wire.event import Event

from .conftest import Door
from .test_contract import everything

TOPIC = "runs.42"
SHORT = 0.05
"""Seconds of a lease that shall run out."""
PATIENCE = 60.0
_T = TypeVar("_T")
_U = TypeVar("_U")


def inner(log: Any) -> EventLog:
    return log.log if isinstance(log, Door) else log  # type: ignore[no-any-return]


def lease_of(log: Any, topic: str = TOPIC) -> Lease:
    found = log.lease(topic)
    assert isinstance(found, Lease)
    return found


def run_out(log: Any, topic: str = TOPIC) -> None:
    """Wait until a lease has run out, by the log's own clock."""
    until = time.monotonic() + PATIENCE
    while not lease_of(log, topic).expired:
        assert time.monotonic() < until
        time.sleep(0.005)


def at_once(call: Callable[[_T], _U], over: Iterable[_T]) -> list[_U]:
    """Call from eight threads, as many processes would."""

    def alone(value: _T) -> _U:
        try:
            return call(value)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        return [*pool.map(alone, over)]


def least(seconds: float, began: float) -> float:
    """What is left at least of a lease that was taken after ``began``; clocks may differ by 0.1 s."""
    return seconds - (time.monotonic() - began) - 0.1


# Who has it


def test_a_lease_is_taken_and_says_who_and_until_when(log: Any) -> None:
    began, before = time.monotonic(), time.time()
    lease = log.acquire(TOPIC, "r1", 30)
    assert (lease.holder, lease.stop, lease.alive, lease.expired) == ("r1", False, True, False)
    assert least(30, began) < lease.left <= 30
    assert before + 29.9 < lease.deadline < time.time() + 30.1
    read = lease_of(log)
    assert (read.holder, read.deadline, read.stop) == ("r1", lease.deadline, False)
    assert least(30, began) < read.left <= 30
    state = log.state(TOPIC)
    assert (state.exists, state.top, state.closed, log.topics()) == (True, 0, None, [TOPIC]), "it has made the topic"


def test_a_topic_without_a_lease_has_none(log: Any) -> None:
    log.append("plain", Event("x"))
    log.acquire(TOPIC, "r1", 30)
    assert log.lease("plain") is None
    assert log.lease("none") is None
    assert log.topics() == ["plain", TOPIC], "asking makes no topic"
    assert {name: lease.holder for name, lease in log.leases(["plain", TOPIC, "none"]).items()} == {TOPIC: "r1"}
    assert log.leases([]) == {}


def test_while_a_lease_is_alive_nobody_else_gets_it(log: Any) -> None:
    began = time.monotonic()
    log.acquire(TOPIC, "r1", 30)
    with pytest.raises(LeaseHeld, match="'r1' holds the lease of the topic 'runs.42'") as refused:
        log.acquire(TOPIC, "r2", 30)
    assert refused.value.holder == "r1"
    assert least(30, began) < refused.value.left <= 30
    assert lease_of(log).holder == "r1"


def test_who_holds_it_may_take_it_again(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.request_stop(TOPIC, "r1")
    again = log.acquire(TOPIC, "r1", 90)
    assert again.left > 45
    assert again.stop, "what it was asked is not forgotten"


def test_a_lease_that_ran_out_may_be_taken_over_and_the_first_holder_has_lost_it(log: Any) -> None:
    log.acquire(TOPIC, "r1", SHORT)
    run_out(log)
    assert log.acquire(TOPIC, "r2", 30).holder == "r2"
    with pytest.raises(LeaseLost, match="'r1' no longer holds"):
        log.renew(TOPIC, "r1", 30)
    with pytest.raises(LeaseLost):
        log.append(TOPIC, Event("late"), holder="r1")
    with pytest.raises(LeaseLost):
        log.close(TOPIC, "finished", holder="r1")
    assert not log.release(TOPIC, "r1")
    assert (lease_of(log).holder, log.state(TOPIC).top, log.state(TOPIC).closed) == ("r2", 0, None)


def test_of_many_who_want_it_at_once_one_gets_it(new_log: Callable[..., EventLog]) -> None:
    log = new_log()

    def acquire(number: int) -> str | None:
        try:
            return log.acquire(TOPIC, f"r{number}", 30).holder
        except LeaseHeld:
            return None

    (winner,) = filter(None, at_once(acquire, range(24)))
    assert lease_of(log).holder == winner


def test_a_renewal_moves_the_deadline_and_brings_the_wish_to_stop(log: Any) -> None:
    first = log.acquire(TOPIC, "r1", 30)
    renewed = log.renew(TOPIC, "r1", 90)
    assert renewed.deadline > first.deadline + 40
    assert (renewed.left > 45, renewed.stop) == (True, False)
    log.request_stop(TOPIC, "r1")
    assert log.renew(TOPIC, "r1", 50).stop


def test_several_are_renewed_at_once_and_those_that_are_lost_are_missing(log: Any) -> None:
    for topic in ("a", "b", "c", "d"):
        log.acquire(topic, "r1", 30)
    log.release("b", "r1")
    renewed = log.renew_all([("a", "r1", 90), ("b", "r1", 90), ("c", "r2", 90), ("d", "r1", 100)])
    assert {topic: lease.left > 45 for topic, lease in renewed.items()} == {"a": True, "d": True}
    assert lease_of(log, "c").left <= 30
    assert log.renew_all([]) == {}


def test_what_was_renewed_before_the_log_went_away_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryEventLog()
    for topic in ("a", "b"):
        log.acquire(topic, "r1", 5)
    renew = log._renew

    def away(topic: str, holder: str, seconds: float) -> Lease:
        if topic == "b":
            raise EventLogUnavailable("away")
        return renew(topic, holder, seconds)

    monkeypatch.setattr(log, "_renew", away)
    assert set(log.renew_all([("a", "r1", 50), ("b", "r1", 50)])) == {"a"}
    with pytest.raises(EventLogUnavailable):
        log.renew_all([("b", "r1", 50)])


@pytest.mark.parametrize("over", ["ran out", "given up", "closed", "deleted", "never there"])
def test_what_is_over_is_not_renewed(log: Any, over: str) -> None:
    if over != "never there":
        log.acquire(TOPIC, "r1", SHORT if over == "ran out" else 30)
    match over:
        case "ran out":
            run_out(log)
        case "given up":
            assert log.release(TOPIC, "r1")
        case "closed":
            log.close(TOPIC)
        case "deleted":
            log.delete(TOPIC)
    with pytest.raises(LeaseLost):
        log.renew(TOPIC, "r1", 30)
    assert log.topics() == ([] if over in ("deleted", "never there") else [TOPIC]), "a refused renewal makes no topic"


def test_a_lease_that_is_given_up_leaves_the_topic_open_for_others(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    assert not log.release(TOPIC, "r2")
    assert log.release(TOPIC, "r1")
    assert not log.release(TOPIC, "r1")
    assert log.lease(TOPIC) is None
    assert not log.expire(TOPIC)
    assert log.acquire(TOPIC, "r2", 30).holder == "r2"


def test_a_closed_topic_has_no_lease_to_take(log: Any) -> None:
    log.close(TOPIC, "done")
    with pytest.raises(TopicClosed, match="done") as refused:
        log.acquire(TOPIC, "r1", 30)
    assert refused.value.reason == "done"
    assert log.lease(TOPIC) is None


# What is appended under it


def test_the_holder_appends_and_so_may_others(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.append(TOPIC, [Event("1"), Event("2")], holder="r1")
    log.append(TOPIC, Event("3"))
    log.append(TOPIC, Event("4"), holder="r1", expect=3, key="k")
    assert log.append(TOPIC, Event("4"), holder="r1", key="k").last == 4
    assert everything(log, TOPIC) == [(1, "1"), (2, "2"), (3, "3"), (4, "4")]


@pytest.mark.parametrize("over", ["ran out", "given up", "another's", "deleted", "never there"])
def test_whoever_does_not_hold_the_lease_appends_nothing(log: Any, over: str) -> None:
    if over != "never there":
        log.acquire(TOPIC, "r1", SHORT if over == "ran out" else 30)
    match over:
        case "ran out":
            run_out(log)
        case "given up":
            log.release(TOPIC, "r1")
        case "deleted":
            log.delete(TOPIC)
    before, by = log.state(TOPIC), "r2" if over == "another's" else "r1"
    for call in (
        lambda: log.append(TOPIC, Event("late"), holder=by),
        lambda: log.append(TOPIC, Event("late"), holder=by, key="k"),
        lambda: log.close(TOPIC, "finished", last=[Event("late")], holder=by),
        lambda: log.close(TOPIC, "finished", holder=by),
    ):
        with pytest.raises(LeaseLost, match="Nothing was appended"):
            call()
    assert log.state(TOPIC) == before, "nothing was appended, made or closed"


def test_appending_to_a_closed_topic_says_why_it_was_closed_whoever_does(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.close(TOPIC, "by staff")
    for holder in ("r1", "r2", None):
        with pytest.raises(TopicClosed) as refused:
            log.append(TOPIC, Event("late"), holder=holder)
        assert refused.value.reason == "by staff"


# Last events


def test_the_last_events_and_the_end_are_one_step(log: Any) -> None:
    log.append(TOPIC, Event("1"))
    assert log.close(TOPIC, "finished", last=[Event("2", event="done"), Event("3", retry=7)])
    page = log.read_after(TOPIC)
    assert [record.event for record in page.records] == [Event("1"), Event("2", event="done"), Event("3", retry=7)]
    assert (page.top, page.closed) == (3, "finished")
    assert not log.close(TOPIC, "again", last=[Event("4")])
    state = log.state(TOPIC)
    assert (state.top, state.closed) == (3, "finished"), "what is closed gets no other last event"


def test_a_topic_may_be_made_with_its_last_events(log: Any) -> None:
    assert log.close(TOPIC, "finished", last=Event("only"))
    assert everything(log, TOPIC) == [(1, "only")]
    assert (log.state(TOPIC).closed, log.topics()) == ("finished", [TOPIC])


def test_last_events_that_the_log_does_not_take_close_nothing(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_EVENT_BYTES=10)
    log.append(TOPIC, Event("1"))
    with pytest.raises(EventTooLarge):
        log.close(TOPIC, "finished", last=[Event("x" * 11)])
    with pytest.raises(InvalidEvent):
        log.close(TOPIC, "finished", last=[Event("x", id="7")])
    with pytest.raises(EventTooLarge):
        log.acquire("other", "r1", 30, last=[Event("x" * 11)])
    assert (log.state(TOPIC).closed, log.topics()) == (None, [TOPIC])


def test_nothing_comes_after_the_last_events_though_others_go_on_publishing(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    log.acquire(TOPIC, "r1", 60)

    def work(number: int) -> None:
        try:
            if number == 20:
                log.close(TOPIC, "stopped", last=[Event("abort"), Event("[DONE]")], holder="r1")
            else:
                log.append(TOPIC, Event(str(number)), holder="r1" if number % 2 else None)
        except TopicClosed:
            pass

    at_once(work, range(40))
    found = everything(log, TOPIC)
    assert [text for _, text in found[-2:]] == ["abort", "[DONE]"]
    assert [text for _, text in found].count("[DONE]") == 1
    state = log.state(TOPIC)
    assert (state.top, state.closed) == (found[-1][0], "stopped")


def test_who_holds_the_lease_closes_and_stays_known(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    assert log.close(TOPIC, "finished", last=[Event("bye")], holder="r1")
    assert not log.close(TOPIC, "again", holder="r1")
    lease = lease_of(log)
    assert (lease.holder, lease.deadline, lease.left, lease.alive, lease.expired) == ("r1", 0, 0, False, False)
    assert not log.expire(TOPIC)
    assert not log.release(TOPIC, "r1")


def test_a_topic_that_somebody_else_closes_ends_the_lease(log: Any) -> None:
    log.acquire(TOPIC, "r1", SHORT, last=[Event("lost")])
    log.close(TOPIC, "by staff")
    assert not lease_of(log).alive
    assert not log.expire(TOPIC)
    assert (log.state(TOPIC).closed, log.state(TOPIC).top) == ("by staff", 0)


# Stopping


def test_a_wish_to_stop_stays_at_the_lease_and_may_be_repeated(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    assert log.request_stop(TOPIC, "r1")
    assert log.request_stop(TOPIC, "r1")
    lease = lease_of(log)
    assert (lease.stop, lease.alive) == (True, True)
    log.append(TOPIC, Event("the rest"), holder="r1")


def test_a_wish_to_stop_an_older_run_does_not_meet_the_newer_one(log: Any) -> None:
    log.acquire(TOPIC, "r1", SHORT)
    run_out(log)
    log.acquire(TOPIC, "r2", 30)
    assert not log.request_stop(TOPIC, "r1")
    assert not lease_of(log).stop
    log.request_stop(TOPIC, "r2")
    log.release(TOPIC, "r2")
    assert not log.acquire(TOPIC, "r3", 30).stop


def test_whoever_is_unknown_cannot_be_stopped_and_nothing_is_left_behind(log: Any) -> None:
    assert not log.request_stop(TOPIC, "r1")
    log.append("plain", Event("x"))
    assert not log.request_stop("plain", "r1")
    assert log.topics() == ["plain"]
    assert log.leases([TOPIC, "plain"]) == {}


def test_to_stop_what_is_over_changes_nothing(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.close(TOPIC, "finished", holder="r1")
    assert log.request_stop(TOPIC, "r1"), "it is known"
    assert not lease_of(log).stop
    assert log.state(TOPIC).closed == "finished"


def test_followers_are_notified_of_what_they_can_see(log: Any) -> None:
    notified: list[str] = []
    inner(log).on_change = lambda topic, *page: notified.append(topic)

    def told(call: Callable[[], object]) -> int:
        notified.clear()
        call()
        assert {*notified} <= {TOPIC, STOPS}
        return len(notified)

    assert told(lambda: log.acquire(TOPIC, "r1", 30)) == 1
    assert told(lambda: log.renew(TOPIC, "r1", 30)) == 0
    assert told(lambda: log.request_stop(TOPIC, "r2")) == 0
    assert told(lambda: log.request_stop(TOPIC, "r1")) == 1
    assert notified == [STOPS], "it is not for followers"
    assert told(lambda: log.expire(TOPIC)) == 0
    assert told(lambda: log.acquire(TOPIC, "r1", SHORT)) == 1
    run_out(log)
    assert told(lambda: log.expire(TOPIC)) == 1


# Lost


def test_whoever_looks_after_the_deadline_closes_with_what_the_holder_left_for_that(log: Any) -> None:
    last = [Event('{"type":"error"}', event="e"), Event("[DONE] ü", retry=5)]
    log.acquire(TOPIC, "r1", 60, last=last)
    log.append(TOPIC, Event("1"), holder="r1")
    assert not log.expire(TOPIC), "not before"
    assert log.state(TOPIC).closed is None
    log.renew(TOPIC, "r1", SHORT)
    run_out(log)
    assert log.expire(TOPIC)
    assert not log.expire(TOPIC), "once"
    page = log.read_after(TOPIC)
    assert [record.event for record in page.records] == [Event("1"), *last]
    assert (page.closed, page.top) == ("lost", 3)
    with pytest.raises(TopicClosed) as refused:
        log.append(TOPIC, Event("late"), holder="r1")
    assert refused.value.reason == "lost"
    with pytest.raises(LeaseLost):
        log.renew(TOPIC, "r1", 30)


def test_other_last_events_may_be_given_or_none(log: Any) -> None:
    for topic, last in (("a", [Event("other")]), ("b", [])):
        log.acquire(topic, "r1", SHORT, last=[Event("lost")])
        run_out(log, topic)
        assert log.expire(topic, last)
        assert [text for _, text in everything(log, topic)] == [event.data for event in last]
        assert log.state(topic).closed == "lost"


def test_a_renewed_lease_is_not_lost(log: Any) -> None:
    deadline = log.acquire(TOPIC, "r1", 30).deadline
    assert log.renew(TOPIC, "r1", 60).deadline > deadline
    assert not log.expire(TOPIC)
    assert log.state(TOPIC).closed is None


@pytest.mark.parametrize("topic", ["none", "plain"])
def test_what_has_no_lease_is_not_lost(log: Any, topic: str) -> None:
    log.append("plain", Event("x"))
    assert not log.expire(topic)
    assert log.topics() == ["plain"]
    assert log.state("plain").closed is None


def test_of_many_who_look_one_closes_it_once(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    log.acquire(TOPIC, "r1", SHORT, last=[Event("error"), Event("[DONE]")])
    run_out(log)
    assert at_once(lambda _: log.expire(TOPIC), range(24)).count(True) == 1
    assert everything(log, TOPIC) == [(1, "error"), (2, "[DONE]")]


def test_at_the_deadline_either_the_holder_or_the_reader_wins_and_nothing_comes_after_the_end(
    new_log: Callable[..., EventLog],
) -> None:
    """A holder that hurries at the last moment, beside readers who look: whatever happens, `lost` is the end."""
    log = new_log()
    log.acquire(TOPIC, "r1", 60, last=[Event("lost")])
    log.append(TOPIC, Event("first"), holder="r1")
    log.renew(TOPIC, "r1", 0.2)

    def work(number: int) -> bool:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if number:
                    if log.expire(TOPIC):
                        return True
                    if log.state(TOPIC).closed:
                        return False
                else:
                    log.append(TOPIC, Event("more"), holder="r1")
            except (LeaseLost, TopicClosed):
                if number == 0:
                    return False
        raise AssertionError

    assert at_once(work, range(6)).count(True) == 1
    found = [text for _, text in everything(log, TOPIC)]
    assert found.count("lost") == 1
    assert (found[0], found[-1]) == ("first", "lost")


# What becomes of a lease with its topic


def test_deleting_a_topic_ends_its_lease_and_the_next_one_of_that_name_has_none(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.request_stop(TOPIC, "r1")
    assert log.delete(TOPIC)
    assert log.lease(TOPIC) is None
    log.append(TOPIC, Event("new"))
    assert log.lease(TOPIC) is None
    with pytest.raises(LeaseLost):
        log.append(TOPIC, Event("late"), holder="r1")
    lease = log.acquire(TOPIC, "r1", 30)
    assert not lease.stop


def test_trimming_leaves_the_lease_alone(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.append(TOPIC, [Event("1"), Event("2")], holder="r1")
    assert log.trim(TOPIC, max_events=0) == 2
    assert lease_of(log).alive
    assert log.append(TOPIC, Event("3"), holder="r1").last == 3


def test_a_topic_that_somebody_works_on_is_not_evicted(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_TOPICS=3)
    log.acquire("a", "r1", 30)
    log.acquire("b", "r2", SHORT)
    log.append("c", Event("c"))
    run_out(log, "b")
    log.append("d", Event("d"))
    assert log.topics() == ["a", "c", "d"], "b was the oldest that nobody works on"
    assert lease_of(log, "a").alive
    assert log.lease("b") is None
    log.close("a", holder="r1")
    log.append("e", Event("e"))
    assert log.topics() == ["c", "d", "e"], "and when the work is over, the topic goes as any closed one"


def test_clear_all_forgets_leases_and_pointers(log: Any) -> None:
    log.acquire(TOPIC, "r1", 30)
    log.move_pointer("chat.7", TOPIC, expect=None)
    log.clear_all()
    assert (log.lease(TOPIC), log.pointer("chat.7")) == (None, None)


# Pointers


def test_a_pointer_is_moved_only_from_where_it_is_expected_to_lead(log: Any) -> None:
    assert log.pointer("chat.7") is None
    assert log.move_pointer("chat.7", "runs.1", expect="runs.0") is None
    assert log.pointer("chat.7") is None
    assert log.move_pointer("chat.7", "runs.1", expect=None) == "runs.1"
    assert log.move_pointer("chat.7", "runs.2", expect=None) == "runs.1"
    assert log.move_pointer("chat.7", "runs.2", expect="runs.1") == "runs.2"
    assert log.move_pointer("chat.7", "runs.3", expect="runs.1") == "runs.2"
    assert (log.pointer("chat.7"), log.pointer("chat.8")) == ("runs.2", None)
    assert log.topics() == [], "a pointer is no topic"


def test_a_pointer_is_removed_only_from_where_it_is_expected_to_lead(log: Any) -> None:
    log.move_pointer("chat.7", "runs.1", expect=None)
    assert log.move_pointer("chat.7", None, expect="runs.2") == "runs.1"
    assert log.move_pointer("chat.7", None, expect="runs.1") is None
    assert log.pointer("chat.7") is None
    assert log.move_pointer("chat.7", None, expect=None) is None


def test_of_many_who_move_a_pointer_at_once_one_does(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    for expect in (None, "runs.0"):
        if expect is not None:
            log.move_pointer("chat.7", expect, expect=log.pointer("chat.7"))
        targets = [f"runs.{number}" for number in range(1, 25)]
        leads = at_once(lambda to, expect=expect: log.move_pointer("chat.7", to, expect=expect), targets)  # type: ignore[misc]
        assert len({*leads}) == 1
        assert leads[0] == log.pointer("chat.7")


# What is refused


@pytest.mark.parametrize("seconds", [0, -1, MOST_SECONDS + 1, True, "30", None, float("nan"), float("inf")])
def test_a_lease_lasts_a_number_of_seconds(log: Any, seconds: Any) -> None:
    with pytest.raises(ArgumentInvalid, match="seconds"):
        log.acquire(TOPIC, "r1", seconds)
    with pytest.raises(ArgumentInvalid, match="seconds"):
        log.renew(TOPIC, "r1", seconds)
    assert log.topics() == []


@pytest.mark.parametrize("name", ["", "x" * 201, "ü", "a\nb", 42, None])
def test_names_of_holders_and_pointers_are_checked(log: Any, name: Any) -> None:
    for call in (
        lambda: log.acquire(TOPIC, name, 30),
        lambda: log.acquire(name, "r1", 30),
        lambda: log.renew(TOPIC, name, 30),
        lambda: log.release(TOPIC, name),
        lambda: log.request_stop(TOPIC, name),
        lambda: log.expire(name),
        lambda: log.lease(name),
        lambda: log.pointer(name),
        lambda: log.move_pointer(name, TOPIC, expect=None),
    ):
        with pytest.raises(TopicNameInvalid):
            call()
    if name is not None:
        with pytest.raises(TopicNameInvalid):
            log.append(TOPIC, Event("x"), holder=name)
        with pytest.raises(TopicNameInvalid):
            log.move_pointer("p", name, expect=None)
    assert log.topics() == []
