"""Search in every event log: what is found, in both directions, in steps, and what it costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.level_counts import counts
from django_agent_sse.eventlog.line_matcher import LineMatcher, LineQuery
from django_agent_sse.eventlog.search import Budget, Search, SearchResult
from django_agent_sse.exceptions import QueryInvalid
from django_agent_sse.wire.event import Event
from django_agent_sse.wire.redraws import Redraw

TOPIC = "builds.42"


def endless() -> Budget:
    return Budget(seconds=float("inf"), bytes=float("inf"))


def search(
    log: EventLog, limit: int = 1000, context: int = 0, back: bool = False, place: int | None = None, **query: Any
) -> SearchResult:
    with LineMatcher(LineQuery(**query)) as matcher:
        return Search(log, TOPIC, matcher, place=place, back=back, budget=endless()).run(limit, context)


def found(*args: Any, **query: Any) -> list[int]:
    return [one.record.offset for one in search(*args, **query).found if one.lines]


def brute(events: list[Event], text: str) -> list[int]:
    return [number for number, event in enumerate(events, 1) if text.lower() in event.data.lower()]


def lines(count: int = 9000) -> list[Event]:
    """A log in which some lines have a word, and some are errors."""
    chance = random.Random(7)
    events = []
    for number in range(1, count + 1):
        text = f"step {number}"
        if chance.random() < 0.002:
            text += " Needle “quoted”"
        if chance.random() < 0.002:
            text = f"ERROR: {text}"
        events.append(Event(text, event="stderr" if number % 7 == 0 else "stdout"))
    return events


def written(log: EventLog, events: list[Event], together: int = 700) -> None:
    for begin in range(0, len(events), together):
        log.append(TOPIC, events[begin : begin + together])


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
def test_all_that_matches_is_found_and_nothing_else(new_log: Callable[..., EventLog], back: bool) -> None:
    log, events = new_log(), lines()
    written(log, events)
    wanted = brute(events, "needle")
    assert len(wanted) > 5
    assert found(log, text="needle", back=back) == wanted
    assert found(log, text="Needle", case=True, back=back) == wanted
    assert found(log, text="needle", case=True, back=back) == []
    assert found(log, text="“QUOTED”", back=back) == wanted
    errors = [number for number, event in enumerate(events, 1) if event.data.startswith("ERROR")]
    assert found(log, levels=frozenset({"error"}), back=back) == errors
    assert found(log, text="needle", levels=frozenset({"error"}), back=back) == sorted({*wanted} & {*errors})
    assert found(log, text="needle", source="stderr", back=back) == [n for n in wanted if n % 7 == 0]


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
def test_answers_that_go_on_are_together_the_whole(new_log: Callable[..., EventLog], back: bool) -> None:
    log, events = new_log(), lines(3000)
    written(log, events)
    whole: list[int] = []
    place: int | None = None
    for _ in range(100):
        result = search(log, 3, back=back, place=place, text="needle")
        whole += [one.record.offset for one in (reversed(result.found) if back else result.found)]
        assert len(result.found) <= 3
        place = result.place
        if place is None:
            break
    assert whole == sorted(brute(events, "needle"), reverse=back)


def test_a_search_ends_where_its_cost_does_and_says_where_it_goes_on(new_log: Callable[..., EventLog]) -> None:
    log, events = new_log(), lines(9000)
    written(log, events)
    whole: list[int] = []
    place: int | None = None
    steps = 0
    while True:
        ticks = iter(range(1_000_000))
        with LineMatcher(LineQuery(text="needle “")) as matcher:
            budget = Budget(seconds=2, clock=lambda ticks=ticks: float(next(ticks)))  # type: ignore[misc]
            result = Search(log, TOPIC, matcher, place=place, back=True, budget=budget).run(1000)
        assert result.scanned is not None
        whole = [one.record.offset for one in result.found] + whole
        steps += 1
        if (place := result.place) is None:
            break
        assert place == result.scanned[0]
    assert whole == brute(events, "needle")
    assert steps > 1


def test_bytes_end_a_search_too(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("x" * 100_000) for _ in range(40)], 5)
    with LineMatcher(LineQuery(text="ý")) as matcher:
        result = Search(log, TOPIC, matcher, place=None, back=True, budget=Budget(seconds=60, bytes=1_500_000)).run(10)
    assert result.scanned is not None
    assert 10 <= result.scanned[1] - result.scanned[0] + 1 <= 30


def test_matches_stand_in_their_context_once(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event(f"{'hit' if number in (3, 5, 30) else 'line'} {number}") for number in range(1, 41)])
    result = search(log, text="hit", context=2)
    assert [(one.record.offset, bool(one.lines)) for one in result.found] == [
        *[(number, number in (3, 5)) for number in range(1, 8)],
        *[(number, number == 30) for number in range(28, 33)],
    ]


def test_an_event_of_several_lines_says_which_of_them_match(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("one\nERROR: two\n\x1b[31mTW\x1b[0mO three"), Event("two", event="exit")])
    assert [one.lines for one in search(log, text="two").found] == [[1, 2]]
    (one,) = search(log, text="two", levels=frozenset({"error"})).found
    assert (one.lines, one.level) == ([1], "error")


def test_lines_that_were_taken_back_and_drafts_are_no_matches(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("pull 0%", event="stdout"), Event("other", event="stderr"), Redraw(1, "pull 50%").event("stdout")])
    written(log, [Redraw(0, "").event("stdout"), Event("pull 100%", event="stdout")])
    assert found(log, text="pull") == [5]
    assert found(log, text="pull", back=True) == [5]


def test_what_is_no_longer_kept_is_not_looked_at(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event(f"ERROR: {number}") for number in range(1, 101)], 30)
    log.trim(TOPIC, max_events=10)
    assert found(log, text="error") == [*range(91, 101)]
    assert found(log, levels=frozenset({"error"}), back=True) == [*range(91, 101)]
    log.delete(TOPIC)
    result = search(log, levels=frozenset({"error"}), back=True)
    assert (result.found, result.scanned, result.place) == ([], None, None)


def test_errors_and_warnings_are_counted_and_the_first_ones_known(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event(f"step {number}", event="stdout") for number in range(1, 5001)])
    assert counts.of(log, TOPIC, endless()) == (0, 0, None, None, 5000)
    written(
        log, [Event("WARNING: odd"), Event("x", event="critical"), Event("FAILED tests/x.py\nERROR: y\nwarning: z"), Event("end")]
    )
    assert counts.of(log, TOPIC, endless()) == (3, 2, 5002, 5001, 5004)
    log.trim(TOPIC, max_events=2)
    first = counts.of(log, TOPIC, endless())
    assert (first.first_error, first.first_warning, first.upto) == (5003, 5003, 5004)


def test_the_databases_index_is_of_what_is_kept(alias: str) -> None:
    from django_agent_sse.eventlog.database import DatabaseEventLog
    from django_agent_sse.models import LogMark

    log = DatabaseEventLog(ALIAS=alias)
    written(log, [Event("ERROR: a" if number % 2 else "fine") for number in range(1, 21)], 20)
    assert counts.of(log, TOPIC, Budget()).errors == 10
    log.trim(TOPIC, max_events=5)
    assert counts.of(log, TOPIC, Budget())[:3] == (2, 0, 17)
    log.trim(TOPIC, max_events=1)
    written(log, [Event("fine")])
    log.trim(TOPIC, max_events=1)
    assert not LogMark.objects.using(alias).filter(last__gt=0).exists()
    log.append("other", [Event("ERROR")])
    log.close("other", last=[Event("ERROR: at last")])
    assert counts.of(log, "other", Budget())[:3] == (2, 0, 1)
    log.delete("other")
    log.clear_all()
    assert LogMark.objects.using(alias).count() == 0


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"text": "x" * 501}, "500 characters"),
        ({"text": "a\nb"}, "one line"),
        ({"levels": frozenset({"bad"})}, "error, warning, info, debug"),
        ({"source": "stdin"}, "stdout and stderr"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_with_the_reason(query: dict[str, Any], says: str) -> None:
    with pytest.raises(QueryInvalid, match=says):
        LineQuery(**query)
