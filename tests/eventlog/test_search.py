"""Search in every event log: what is found, in both directions, in steps, and what it costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from django_agent_sse.eventlog.base import PAGE_BYTES, EventLog
from django_agent_sse.eventlog.candidates import BESIDE, joined
from django_agent_sse.eventlog.level_counts import counts
from django_agent_sse.eventlog.line_matcher import LineMatcher, LineQuery
from django_agent_sse.eventlog.search import Budget, Search, SearchResult
from django_agent_sse.exceptions import QueryInvalid
from django_agent_sse.wire.event import Event
from django_agent_sse.wire.line_levels import EXAMINED
from django_agent_sse.wire.redraws import MOST_LINES, Redraw

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


def test_lines_that_are_taken_back_long_after_are_none_either(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    bars = [Event(f"layer {number}", event="stdout") for number in range(MOST_LINES)]
    written(log, [Event("before", event="stdout"), *bars, *[Event("note", event="stderr")] * 100], 50)
    assert len(found(log, text="layer")) == MOST_LINES
    log.append(TOPIC, Redraw(MOST_LINES, "layer 0").event("stdout"))
    for back in (False, True):
        assert found(log, text="layer", back=back) == []
        assert found(log, text="e", source="stdout", back=back) == [1]


def test_an_answer_goes_on_looking_where_what_it_found_was_taken_back(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("hit", event="stdout"), *[Event("hit", event="stdout"), Redraw(1, "").event("stdout")] * 5, Event("end")])
    for back in (False, True):
        assert [one.record.offset for one in search(log, 1, back=back, text="hit").found] == [1]


def test_the_first_error_is_one_that_stands(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("ERROR: flaky\nfine", event="stdout"), Redraw(2, "").event("stdout"), Event("ok", event="stdout")])
    written(log, [Event("ERROR: real", event="stdout")])
    assert counts.of(log, TOPIC, endless()).first_error == 4


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("redrawn", [False, True])
def test_matches_that_do_not_fit_into_an_answer_come_with_the_next(
    new_log: Callable[..., EventLog], back: bool, context: int, redrawn: bool
) -> None:
    log = new_log()
    written(log, [Event("hit" + "x" * 90_000 * (number % 3)) for number in range(60)], 9)
    if redrawn:
        written(log, [Event("gone"), Redraw(1, "").event("stdout")])
    whole: list[int] = []
    place: int | None = None
    for _ in range(20):
        result = search(log, context=context, back=back, place=place, text="hit")
        size = sum(len(one.record.event.data) for one in result.found)
        assert size <= PAGE_BYTES + 180_003
        found = [one.record.offset for one in result.found if one.lines]
        whole = [*found, *whole] if back else [*whole, *found]
        if (place := result.place) is None:
            break
    assert whole == [*range(1, 61)]


def test_one_large_event_among_small_ones_is_found_in_a_few_reads(
    new_log: Callable[..., EventLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log()
    written(log, [*[Event("small")] * 4000, Event("x" * (PAGE_BYTES - 100))], 1000)
    reads: list[int] = []
    read_after = log.read_after
    monkeypatch.setattr(log, "read_after", lambda *args: reads.append(1) or read_after(*args))  # type: ignore[func-returns-value]
    assert found(log, text="ö", back=True) == []
    assert len(reads) < 30


def test_context_that_is_larger_than_an_answer_does_not_hold_it_up(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event(f"{'hit' if number == 20 else ''}{'x' * 400_000}") for number in range(1, 31)], 1)
    for back in (False, True):
        result = search(log, context=10, back=back, text="hit")
        assert [one.record.offset for one in result.found if one.lines] == [20]
        assert sum(len(one.record.event.data) for one in result.found) < 2 * PAGE_BYTES
        assert result.place is None


@pytest.mark.parametrize("text", ["one", "\x00one", "o\x08ne", "on\x1b[1me", "\x1b[31mONE", "x\rone"])
def test_what_is_not_seen_does_not_hide_a_text(new_log: Callable[..., EventLog], text: str) -> None:
    log = new_log()
    written(log, [Event("two"), Event(text), Event("two")])
    assert found(log, text="one") == [2]


def test_letters_that_are_ascii_in_lower_case_are_found(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("5 \u212a"), Event("\u0130stanbul"), Event("x")])
    assert found(log, text="5 k") == [1]
    assert found(log, text="i") == [2]


def test_what_is_seen_of_events_is_what_is_searched(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("token abc", event="delta"), Event("password=abc"), Event("hidden abc"), Event("abc")])

    def show(event: Event) -> Event | None:
        text = event.data.replace("password=abc", "password=***")
        return None if "hidden" in text else Event(f"[{event.event}] {text}")

    for back in (False, True):
        with LineMatcher(LineQuery(text="abc")) as matcher:
            result = Search(log, TOPIC, matcher, place=None if back else 0, back=back, budget=endless(), show=show).run(10)
        assert [one.record.event.data for one in result.found] == ["[delta] token abc", "[None] abc"]
        with LineMatcher(LineQuery(text="[delta]")) as matcher:
            result = Search(log, TOPIC, matcher, place=None if back else 0, back=back, budget=endless(), show=show).run(10)
        assert [one.record.offset for one in result.found] == [1]


def test_of_an_event_with_very_many_lines_the_first_ones_have_levels(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    log.append(TOPIC, Event("\n".join(["ERROR: x", *["y"] * EXAMINED, "ERROR: z"])))
    assert [one.lines for one in search(log, levels=frozenset({"error"})).found] == [[0]]
    assert counts.of(log, TOPIC, endless()).errors == 1
    assert [one.lines for one in search(log, text="error").found] == [[0, EXAMINED + 1]]


def test_a_topic_that_is_deleted_meanwhile_ends_a_search(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    for back in (False, True):
        written(log, lines(100))
        with LineMatcher(LineQuery(text="nowhere")) as matcher:
            looking = Search(log, TOPIC, matcher, place=None, back=back, budget=endless())
            log.delete(TOPIC)
            assert looking.run(10).found == []


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("what", ["nowhere", "line", "levels"])
@pytest.mark.parametrize("after", [0, 1, 2], ids=["before it reads", "after a page", "after two"])
def test_a_topic_that_is_trimmed_meanwhile_ends_a_search(
    new_log: Callable[..., EventLog], monkeypatch: pytest.MonkeyPatch, back: bool, what: str, after: int
) -> None:
    """It finds what is left, or nothing; a command's search, which has no bounds, ends too."""
    log, asked = new_log(), 0
    written(log, [Event(f"ERROR: line {number}") for number in range(1, 1_001)], 10)
    read = log.read_after

    def read_after(topic: str, *about: Any) -> Any:
        nonlocal asked
        if asked == after:
            log.trim(TOPIC, max_events=100)
        asked += 1
        assert asked < 1_000, "it goes on for ever"
        return read(topic, *about)

    query = LineQuery(levels=frozenset({"error"})) if what == "levels" else LineQuery(text=what)
    with LineMatcher(query) as matcher:
        looking = Search(log, TOPIC, matcher, place=500, back=back, budget=endless())
        monkeypatch.setattr(log, "read_after", read_after)
        monkeypatch.setattr("django_agent_sse.eventlog.search.REPLAY_EVENTS", 50)
        offsets = [one.record.offset for one in looking.run(10, context=2).found]
    assert offsets == sorted(offsets)
    if what == "nowhere":
        assert offsets == []


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


def test_lines_that_were_taken_back_are_not_counted(new_log: Callable[..., EventLog]) -> None:
    log = new_log()
    written(log, [Event("ERROR: a"), Event("ERROR: b"), Event("WARNING: c"), Event("x")])
    assert counts.of(log, TOPIC, endless()) == (2, 1, 1, 3, 4)
    log.append(TOPIC, [Event("FAILED y"), Redraw(4, "", errors=2, warnings=1).event("stdout"), Event("fine")])
    assert counts.of(log, TOPIC, endless()) == (1, 0, 1, None, 7)
    log.append(TOPIC, Redraw(3, "", errors=3).event("stdout"))
    assert counts.of(log, TOPIC, endless())[:2] == (0, 0), "more than there are"
    log.append(TOPIC, [Event("ERROR: z")])
    log.trim(TOPIC, max_events=1)
    assert counts.of(log, "builds.43", endless())[:2] == (0, 0)


@pytest.mark.parametrize(("marked", "steps"), [(4096, (20, 5, 1)), (20, (5, 1))])
def test_what_is_no_longer_kept_is_not_counted_any_more(
    new_log: Callable[..., EventLog], monkeypatch: pytest.MonkeyPatch, marked: int, steps: tuple[int, ...]
) -> None:
    monkeypatch.setattr("django_agent_sse.eventlog.level_counts.MARKED", marked)
    log = new_log()
    written(log, [Event("ERROR: a" if number % 3 else "WARNING: b") for number in range(30)], 7)
    assert counts.of(log, TOPIC, endless())[:2] == (20, 10)
    for kept in steps:
        log.trim(TOPIC, max_events=kept)
        texts = [record.event.data for record in log.read_after(TOPIC, 0, 100).records]
        assert len(texts) == kept
        assert counts.of(log, TOPIC, endless())[:2] == (texts.count("ERROR: a"), texts.count("WARNING: b"))
    written(log, [Event("ERROR: z")])
    assert counts.of(log, TOPIC, endless()).errors == texts.count("ERROR: a") + 1


def test_what_was_counted_is_not_counted_again(alias: str) -> None:
    from django_agent_sse.eventlog.database import DatabaseEventLog

    log = DatabaseEventLog(ALIAS=alias)
    total = 0
    for round_ in range(6):
        written(log, [Event("ERROR: a" if number % 3 else "WARNING: b") for number in range(round_ + 7)], 5)
        if round_ == 3:
            log.trim(TOPIC, max_events=11)
        page = log.read_after(TOPIC, 0, 1000)
        total = sum(record.event.data == "ERROR: a" for record in page.records)
        assert counts.of(log, TOPIC, endless())[:2] == (total, len(page.records) - total)
    known = counts.of(log, TOPIC, endless())
    assert log.level_counts(TOPIC, log.state(TOPIC).floor, known._replace(errors=100)) == known._replace(
        errors=100, first_error=None, first_warning=None
    )
    assert log.level_counts(TOPIC, 3, known._replace(errors=100)) == known._replace(first_error=None, first_warning=None)
    assert total


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
def test_an_index_is_read_in_steps(alias: str, back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from django_agent_sse.eventlog.database import DatabaseEventLog, marks, texts

    monkeypatch.setattr(marks, "STEP_MARKS", 3)
    monkeypatch.setattr(texts, "STEP_BYTES", 200)
    monkeypatch.setattr(texts, "STEP_ROWS", 2)
    log = DatabaseEventLog(ALIAS=alias)
    events = [Event(("ERROR: a" if number % 11 == 0 else "WARNING: b") if number % 2 else "fine") for number in range(1, 101)]
    written(log, events, 4)
    wanted = [number for number, event in enumerate(events, 1) if event.data == "ERROR: a"]
    assert found(log, levels=frozenset({"error"}), back=back) == wanted
    assert found(log, text="error", back=back) == wanted
    log.trim(TOPIC, max_events=50)
    assert found(log, levels=frozenset({"error"}), back=back) == [number for number in wanted if number > 50]
    assert found(log, text="error", back=back) == [number for number in wanted if number > 50]


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
def test_rows_beside_each_other_are_read_together(alias: str, back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from django_agent_sse.eventlog.database import DatabaseEventLog

    log = DatabaseEventLog(ALIAS=alias)
    written(log, [Event(f"needle {number}" if number <= 2000 or number > 2500 else "fine") for number in range(1, 4001)], 100)
    reads: list[tuple[int, int]] = []
    read_after = log.read_after
    monkeypatch.setattr(log, "read_after", lambda topic, *place: reads.append(place) or read_after(topic, *place))  # type: ignore[func-returns-value]
    assert found(log, limit=5000, text="needle", back=back) == [*range(1, 2001), *range(2501, 4001)]
    assert sorted(reads[1:]) == [(0, 2000), (2500, 1500)], "what may have it, in two reads"


def test_what_is_taken_back_far_away_has_nothing_read_twice(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from django_agent_sse.eventlog.database import DatabaseEventLog

    log = DatabaseEventLog(ALIAS=alias)
    written(log, [Event("hit" if number % 500 == 0 else "ERROR: x", event="stdout") for number in range(1, 3001)])
    written(log, [Redraw(1, "").event("stdout")])
    again: list[int] = []
    with_context = Search._with_context

    def noted(search: Search, matches: dict[int, Any], context: int, settled: bool) -> Any:
        again.extend(matches)
        return with_context(search, matches, context, settled)

    monkeypatch.setattr(Search, "_with_context", noted)
    assert (found(log, limit=3, place=0, text="hit"), again) == ([500, 1000, 1500], [])
    assert (found(log, text="hit", place=2400), again) == ([2500], [2500, 3000]), "but near it they are looked at again"


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
def test_spans_with_little_between_them_are_one(back: bool) -> None:
    spans = [(1, 5), (5 + BESIDE + 1, 300), (301, 302), (302 + BESIDE + 2, 600)]
    wanted = [(1, 302), (302 + BESIDE + 2, 600)]
    assert joined(reversed(spans) if back else spans, back) == (wanted[::-1] if back else wanted)


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
