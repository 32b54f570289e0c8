"""What every event log does: one suite over all of them, by the sync verbs and by their twins."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_agent_sse.eventlog.base import PAGE_BYTES, PAGE_EVENTS, EventLog
from django_agent_sse.eventlog.eviction import evictions
from django_agent_sse.eventlog.position import Position
from django_agent_sse.eventlog.records import Appended
from django_agent_sse.eventlog.validation import MAX_KEY, MAX_NAME, InternalTopic
from django_agent_sse.exceptions import (
    ConfigurationError,
    EventTooLarge,
    InvalidEvent,
    PositionConflict,
    TopicClosed,
    TopicNameInvalid,
)
from django_agent_sse.wire.event import Event
from tests.timing import LONG

from .conftest import Door

TOPIC = "builds.42"
MEBIBYTE = 1_048_576


def events(*texts: str) -> list[Event]:
    return [Event(text) for text in texts]


def texts(page: Any) -> list[str]:
    return [record.event.data for record in page.records]


def everything(log: Any, topic: str = TOPIC, after: int = 0, limit: int = PAGE_EVENTS) -> list[tuple[int, str]]:
    """All that is kept, page by page."""
    found: list[tuple[int, str]] = []
    while records := log.read_after(topic, after, limit).records:
        found += [(record.offset, record.event.data) for record in records]
        after = records[-1].offset
    return found


# Order, numbers, pages


def test_events_are_numbered_from_one_without_a_gap_over_single_appends_and_batches(log: Any) -> None:
    first = log.append(TOPIC, Event("one"))
    batch = log.append(TOPIC, events("two", "three", "four"))
    assert (first.first, first.last, len(first)) == (1, 1, 1)
    assert [position.offset for position in batch] == [2, 3, 4]
    assert {position.epoch for position in [*first, *batch]} == {first.epoch}
    assert everything(log) == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]


def test_an_event_comes_back_as_it_went_in(log: Any) -> None:
    given_events = [
        Event("a\nb", event="log", retry=5),
        Event("", event=""),
        Event("\u2028 ü ✓ \U0001f600"),
        Event("{}", event="é"),
    ]
    before = time.time()
    log.append(TOPIC, given_events)
    records = log.read_after(TOPIC).records
    assert [record.event for record in records] == given_events
    assert all(before - 1 <= record.at <= time.time() + 1 for record in records)


def test_a_topic_that_does_not_exist_is_empty_and_at_position_zero(log: Any) -> None:
    page, state = log.read_after(TOPIC), log.state(TOPIC)
    assert (page.epoch, page.top, page.floor, page.closed, list(page.records)) == ("", 0, 0, None, [])
    assert not state.exists
    assert log.topics() == [], "reading makes no topic"


def test_a_page_has_the_events_after_the_cursor_up_to_its_limit_and_the_state_of_that_moment(log: Any) -> None:
    log.append(TOPIC, events(*map(str, range(1, 11))))
    page = log.read_after(TOPIC, 3, 4)
    assert texts(page) == ["4", "5", "6", "7"]
    assert (page.top, page.floor, page.closed) == (10, 0, None)
    assert texts(log.read_after(TOPIC, 10)) == texts(log.read_after(TOPIC, 99)) == []


def test_a_page_ends_by_bytes_too_and_always_has_an_event(log: Any) -> None:
    big = "x" * (PAGE_BYTES - 4)
    log.append(TOPIC, events("small", big, big))
    assert [len(page.records) for page in (log.read_after(TOPIC, 0), log.read_after(TOPIC, 1), log.read_after(TOPIC, 2))] == [
        1,
        1,
        1,
    ]


def test_an_empty_batch_appends_nothing(log: Any) -> None:
    log.append(TOPIC, Event("one"))
    assert len(log.append(TOPIC, [])) == 0
    assert log.state(TOPIC).top == 1


def test_after_empty_batches_a_topic_takes_its_first_event(log: Any) -> None:
    for _ in range(2):
        assert len(log.append(TOPIC, [])) == 0
    assert log.append(TOPIC, Event("one")).first == 1
    assert [record.event.data for record in log.read_after(TOPIC).records] == ["one"]


def test_topics_do_not_see_each_other_however_alike_their_names_are(log: Any) -> None:
    """Databases have collations for which some of these are the same: whoever may read one topic would read the other."""
    names = ["a", "A", "a ", "a  ", " a", "a~", "a%", "a_", "a\\", "a.b", "a b"]
    for name in names:
        log.append(name, Event(name))
        log.append(name, Event(name), key=name)
    assert {name: everything(log, name) for name in names} == {name: [(1, name), (2, name)] for name in names}
    assert log.topics() == sorted(names)
    assert log.topics(prefix="a ") == ["a ", "a  ", "a b"]
    log.delete("a ")
    assert {*names} - {*log.topics()} == {"a "}


def test_concurrent_appends_are_each_contiguous_and_none_is_lost(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    batches = [[Event(f"{number}.{part}") for part in range(3)] for number in range(200)]

    def append(some: list[list[Event]]) -> list[Appended]:
        try:
            return [log.append(TOPIC, batch) for batch in some]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        appended = [one for some in pool.map(append, [batches[n : n + 25] for n in range(0, 200, 25)]) for one in some]
    found = everything(log)
    assert [offset for offset, _ in found] == list(range(1, 601))
    for number, its in enumerate(appended):
        assert [text for _, text in found[its.first - 1 : its.last]] == [f"{number}.{part}" for part in range(3)]


# Once, and only where it was expected


def test_the_same_key_appends_once_and_returns_the_same_positions(log: Any) -> None:
    first = log.append(TOPIC, events("one", "two"), key="job-7")
    log.append(TOPIC, Event("between"))
    assert log.append(TOPIC, events("one", "two"), key="job-7") == first
    assert log.append(TOPIC, Event("other"), key="job-8").first == 4
    assert log.append("another", Event("one"), key="job-7").first == 1, "keys are a topic's own"
    assert [text for _, text in everything(log)] == ["one", "two", "between", "other"]


def test_a_repeated_key_is_answered_even_when_the_topic_is_closed(log: Any) -> None:
    first = log.append(TOPIC, Event("last"), key="end")
    log.close(TOPIC)
    assert log.append(TOPIC, Event("last"), key="end") == first


def test_a_key_is_forgotten_after_its_window(open_log: Callable[..., Any]) -> None:
    log = open_log(KEY_WINDOW=0.05)
    log.append(TOPIC, Event("one"), key="k")
    time.sleep(0.06)  # the window itself
    assert log.append(TOPIC, Event("two"), key="k").first == 2


def test_an_append_that_expects_another_end_is_refused_and_told_the_real_one(log: Any) -> None:
    log.append(TOPIC, Event("one"), expect=0)
    log.append(TOPIC, Event("two"), expect=1)
    for wrong in (0, 1, 3, 2**63, 2**70):  # the last two are more than a column takes
        with pytest.raises(PositionConflict, match="ends at 2") as refused:
            log.append(TOPIC, Event("three"), expect=wrong)
        assert refused.value.top == 2
    assert len(everything(log)) == 2
    with pytest.raises(PositionConflict):
        log.append("new", Event("x"), expect=5)
    assert log.topics() == [TOPIC], "a refused append makes no topic"


# Ends and new beginnings


def test_a_closed_topic_keeps_its_events_and_takes_no_more(log: Any) -> None:
    log.append(TOPIC, Event("one"))
    assert log.close(TOPIC, "build passed")
    assert not log.close(TOPIC, "again")
    with pytest.raises(TopicClosed, match="build passed"):
        log.append(TOPIC, Event("two"))
    page = log.read_after(TOPIC)
    assert (texts(page), page.closed, log.state(TOPIC).closed) == (["one"], "build passed", "build passed")


def test_closing_a_topic_that_does_not_exist_makes_it(log: Any) -> None:
    assert log.close(TOPIC)
    state = log.state(TOPIC)
    assert (state.exists, state.closed, state.top) == (True, "completed", 0)
    assert not log.close(TOPIC, "again")
    assert log.state(TOPIC) == state


def test_closing_a_topic_that_keeps_no_events_ends_that_one(log: Any) -> None:
    log.append(TOPIC, [Event("one"), Event("two")], key="k")
    assert log.trim(TOPIC, max_events=0) == 2
    before = log.state(TOPIC)
    assert log.close(TOPIC, "done")
    state = log.state(TOPIC)
    assert (state.epoch, state.top, state.closed, before.top) == (before.epoch, 2, "done", 2)
    assert not log.close(TOPIC, "again")
    assert log.append(TOPIC, [Event("one"), Event("two")], key="k").last == 2


def test_a_deleted_topic_begins_anew_in_another_epoch(log: Any) -> None:
    before = log.append(TOPIC, events("one", "two"), key="k")
    log.close(TOPIC)
    assert log.delete(TOPIC)
    assert not log.delete(TOPIC)
    assert not log.state(TOPIC).exists
    after = log.append(TOPIC, Event("new"), key="k")
    assert after.first == 1
    assert after.epoch != before.epoch
    assert everything(log) == [(1, "new")]


# Retention


def test_only_so_many_events_are_kept_and_the_floor_says_so(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_EVENTS=3)
    log.append(TOPIC, events("1", "2"))
    log.append(TOPIC, events("3", "4", "5"))
    page = log.read_after(TOPIC, 0)
    assert (texts(page), page.floor, page.top, page.records[0].offset) == (["3", "4", "5"], 2, 5, 3)
    assert log.append(TOPIC, Event("6")).first == 6


def test_a_batch_larger_than_what_is_kept_keeps_its_end(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_EVENTS=3)
    appended = log.append(TOPIC, events(*map(str, range(1, 11))))
    assert (appended.first, appended.last) == (1, 10)
    assert everything(log) == [(8, "8"), (9, "9"), (10, "10")]


def test_only_so_many_bytes_are_kept_but_the_newest_event_always(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_BYTES=10)
    log.append(TOPIC, events("aaaa", "bbbb", "cccc"))
    assert [text for _, text in everything(log)] == ["bbbb", "cccc"]
    assert log.state(TOPIC).bytes == 8
    log.append(TOPIC, Event("x" * 50))
    assert [len(text) for _, text in everything(log)] == [50]


def test_what_is_too_old_is_not_read_any_more(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_AGE=0.05)
    log.append(TOPIC, events("one", "two"))
    time.sleep(0.06)  # the age itself
    page = log.read_after(TOPIC)
    assert (texts(page), page.floor, page.top) == ([], 2, 2)
    assert log.append(TOPIC, Event("three")).first == 3


def test_trim_drops_by_count_bytes_and_age_and_keeps_numbers(log: Any) -> None:
    log.append(TOPIC, events("aa", "bb", "cc", "dd", "ee"))
    assert log.trim(TOPIC, max_events=4) == 1
    assert log.trim(TOPIC, max_bytes=6) == 1
    assert log.trim(TOPIC) == 0
    state = log.state(TOPIC)
    assert (state.floor, state.top, state.events, state.bytes) == (2, 5, 3, 6)
    assert log.trim(TOPIC, max_age=1000) == 0
    assert log.trim(TOPIC, max_events=0) == 3
    assert log.trim("none", max_events=0) == 0
    assert log.append(TOPIC, Event("ff")).first == 6


def test_the_number_of_topics_is_bounded_and_closed_ones_go_first(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_TOPICS=3)
    for name in ("a", "b", "c"):
        log.append(name, Event(name))
    log.close("b")
    log.append("d", Event("d"))
    assert log.topics() == ["a", "c", "d"]
    log.append("a", Event("again"))
    log.append("e", Event("e"))
    assert log.topics() == ["a", "d", "e"], "c was longest without an event"


def test_topics_that_are_followed_are_not_evicted_and_the_log_grows_beyond_its_limit(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_TOPICS=3)
    for name in ("a", "b", "c"):
        log.append(name, Event(name))
    log.close("b")
    log.note_followed(["a", "b", "none"])
    log.append("d", Event("d"))
    assert log.topics() == ["a", "b", "d"], "c was the first that nobody follows, though b is closed and a older"
    log.note_followed(["d"])
    log.append("e", Event("e"))
    assert log.topics() == ["a", "b", "d", "e"], "all others are followed: the new one has its place"
    log.append("f", Event("f"))
    assert log.topics() == ["a", "b", "d", "f"], "and makes room for the next"
    log.close("g")
    assert log.topics() == ["a", "b", "d", "g"]


def test_a_topic_that_was_followed_long_ago_may_be_evicted(open_log: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("memory", "database.log", "redis.index"):
        monkeypatch.setattr(f"django_agent_sse.eventlog.{module}.FOLLOWED_FOR", -1.0)
    log = open_log(MAX_TOPICS=2)
    for name in ("a", "b"):
        log.append(name, Event(name))
    log.note_followed(["a", "b"])
    log.append("c", Event("c"))
    assert len(log.topics()) == 2
    assert "c" in log.topics()


def test_the_topics_of_the_package_are_never_evicted_and_take_no_room(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_TOPICS=2)
    log.append(InternalTopic("sse.monitor.rows"), Event("first"))
    log.close(InternalTopic("sse.monitor.over"))
    for name in ("a", "b", "c"):
        log.append(name, Event(name))
    assert log.topics() == ["b", "c"]
    assert [*(log.log if isinstance(log, Door) else log).internal_topics()] == ["sse.monitor.over", "sse.monitor.rows"]


def test_an_evicted_topic_has_vanished_and_a_deleted_one_has_not(open_log: Callable[..., Any]) -> None:
    log = open_log(MAX_TOPICS=1)
    log.append("a", Event("a"))
    log.append("b", Event("b"))
    assert log.read_after("a").lost
    log.delete("b")
    assert not log.read_after("b").lost, "somebody deleted it"
    log.append("b", Event("again"))
    log.append("c", Event("c"))
    assert log.topics() == ["c"]
    assert log.read_after("b").lost, "that it was deleted once says nothing of this one"


def test_whoever_follows_an_evicted_topic_is_told_and_so_is_the_project(
    open_log: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_agent_sse.eventlog.eviction.FIRST_REPORT", 3600.0)  # a busy machine is slow at twelve appends
    log = open_log(MAX_TOPICS=2)
    rung: list[str] = []
    inner = log.log if isinstance(log, Door) else log
    inner.on_change = lambda topic, *page: rung.append(topic)
    for number in range(12):
        log.append(f"t.{number:02}", Event("x"))
    assert not [one for one in caplog.records if one.name == "django_agent_sse.eventlog"], "it is said by the burst"
    assert {f"t.{number:02}" for number in range(10)} <= {topic for n, topic in enumerate(rung) if topic in rung[:n]}
    evictions.tell()
    (told,) = [record.getMessage() for record in caplog.records if record.name == "django_agent_sse.eventlog"]
    assert told.startswith("MAX_TOPICS (2) is reached: evicted 10 topics to make room for new ones ('t.00', 't.01', 't.02', …)")


def test_the_state_counts_what_is_kept(log: Any) -> None:
    before = time.time()
    log.append(TOPIC, [Event("ü", event="né"), Event("abc")])
    state = log.state(TOPIC)
    assert (state.events, state.bytes, state.top, state.floor, state.closed) == (2, 2 + 3 + 3, 2, 0, None)
    assert before - 1 <= state.oldest_at <= state.newest_at <= time.time() + 1


def test_topics_are_listed_sorted_by_prefix_and_page(log: Any) -> None:
    for name in ("b.2", "a.1", "b.1", "b_1", "b%1", "c"):
        log.append(name, Event("x"))
    assert log.topics() == ["a.1", "b%1", "b.1", "b.2", "b_1", "c"]
    assert log.topics("b.") == ["b.1", "b.2"]
    assert log.topics("b_") == ["b_1"]
    assert log.topics(limit=2) == ["a.1", "b%1"]
    assert log.topics(after="b%1", limit=2) == ["b.1", "b.2"]
    assert log.topics("b", after="b.1") == ["b.2", "b_1"]


def test_clear_all_forgets_everything(log: Any) -> None:
    log.append(TOPIC, Event("x"))
    log.clear_all()
    assert log.topics() == []


# What is refused


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1), "ü", "a\nb", "a\x7f", "\0", 42, None, b"bytes"])
def test_a_name_that_no_topic_can_have_is_refused_by_every_verb(log: Any, name: Any) -> None:
    for verb in ("read_after", "state", "close", "delete", "trim"):
        with pytest.raises(TopicNameInvalid):
            getattr(log, verb)(name)
    with pytest.raises(TopicNameInvalid):
        log.append(name, Event("x"))
    with pytest.raises(TopicNameInvalid):
        log.close(TOPIC, name)
    assert log.topics() == []


def test_the_longest_name_and_key_are_taken(log: Any) -> None:
    name = "~" * MAX_NAME
    log.append(name, Event("x"), key="k" * MAX_KEY)
    assert log.topics() == [name]


@pytest.mark.parametrize(
    "wrong", [{"key": ""}, {"key": "k" * (MAX_KEY + 1)}, {"key": 7}, {"expect": -1}, {"expect": "1"}, {"expect": True}]
)
def test_odd_keys_and_expectations_are_refused(log: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent, match=next(iter(wrong))):
        log.append(TOPIC, Event("x"), **wrong)


def test_an_event_of_a_mebibyte_is_taken_and_a_larger_one_refused_with_its_whole_batch(log: Any) -> None:
    log.append(TOPIC, Event("x" * MEBIBYTE))
    assert len(log.read_after(TOPIC).records[0].event.data) == MEBIBYTE
    with pytest.raises(EventTooLarge, match=r"event 1 has 1,048,578 bytes, 1,048,576 fit"):
        log.append(TOPIC, events("small", "ü" * (MEBIBYTE // 2 + 1)))
    assert log.state(TOPIC).top == 1


def test_an_event_with_an_id_of_its_own_is_refused(log: Any) -> None:
    with pytest.raises(InvalidEvent, match="the log numbers the events"):
        log.append(TOPIC, [Event("x"), Event("y", id="7")])
    assert log.topics() == []


@pytest.mark.parametrize(
    "options", [{"MAX_EVENT": 1}, {"max_events": 1}, {"MAX_EVENTS": 0}, {"MAX_AGE": "1"}, {"MAX_BYTES": True}]
)
def test_options_that_do_not_exist_or_make_no_sense_are_refused(
    new_log: Callable[..., EventLog], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options)).upper()):
        new_log(**options)


# Positions


@given(st.text() | st.from_regex(r"[A-Za-z]{8}\.\d{1,22}", fullmatch=True))
def test_a_position_is_read_as_it_was_written_or_not_at_all(text: str) -> None:
    found = Position.parse(text)
    assert found is None or str(found) == text


def test_positions_of_a_log_are_read_back(log: Any) -> None:
    (position,) = log.append(TOPIC, Event("x"))
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "abcdefgh",
        "abcdefgh.",
        "abcdefgh.01",
        "abcdefgh.-1",
        "abcdefg.1",
        "abcdefgh.1 ",
        "abcdefgh.9999999999999999999",
        "x" * 600,
    ],
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert Position.parse(text) is None


@settings(max_examples=50 if LONG else 10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_a_log_is_what_a_list_would_be(new_log: Callable[..., EventLog], data: st.DataObject) -> None:
    """Random verbs against a plain list that keeps the last 20. A log that is no memory gets fewer of them."""
    log = new_log(MAX_EVENTS=20)
    log.clear_all()
    chance, model, top = random.Random(data.draw(st.integers(0, 2**32))), list[tuple[int, str]](), 0
    for _ in range(10 if log.durable else 60):
        if chance.random() < 0.7:
            batch = [str(chance.random()) for _ in range(chance.randint(1, 30))]
            log.append(TOPIC, events(*batch))
            model = [*model, *zip(range(top + 1, top + 1 + len(batch)), batch, strict=True)][-20:]
            top += len(batch)
        elif chance.random() < 0.5:
            keep = chance.randint(0, 25)
            log.trim(TOPIC, max_events=keep)
            model = model[max(0, len(model) - keep) :]
        cursor = chance.randint(0, top + 3)
        wanted = [entry for entry in model if entry[0] > cursor]
        assert everything(log, after=cursor, limit=chance.randint(1, 7)) == wanted
        assert log.state(TOPIC).events == len(model)


def test_heads_tell_where_many_topics_are_and_leave_out_those_that_do_not_exist(log: Any) -> None:
    log.append(TOPIC, events("one", "two", "three"))
    log.trim(TOPIC, max_events=1)
    log.close("builds.7", "failed")
    state, closed = log.state(TOPIC), log.state("builds.7")
    assert log.summaries([TOPIC, "builds.7", "builds.8"]) == {
        TOPIC: (state.epoch, 2, 3, None),
        "builds.7": (closed.epoch, 0, 0, "failed"),
    }
    assert log.summaries([]) == {}
