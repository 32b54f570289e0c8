"""The monitor's topics: commands are signed, reports are looked at field by field, and nothing that stands there hurts."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.signing import Signer
from django.http import QueryDict
from django.test import Client, override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from django_agent_sse.contrib.monitor import reporter as reporting
from django_agent_sse.contrib.monitor.admin import live_streams
from django_agent_sse.contrib.monitor.admin.close_form import ClosingForm, Target
from django_agent_sse.contrib.monitor.admin.live_view import query_of
from django_agent_sse.contrib.monitor.cluster import ClusterView, cluster_view
from django_agent_sse.contrib.monitor.commands import (
    COMMAND_LIFE_SECONDS,
    COMMANDS,
    Close,
    Command,
    CommandRefused,
    Drain,
    WatchRows,
    command_of,
    event_of,
    execute,
)
from django_agent_sse.contrib.monitor.history import PROCESSES, History
from django_agent_sse.contrib.monitor.inspector import StreamInspector, StreamQuery, StreamRow
from django_agent_sse.contrib.monitor.report_json import decode, encode
from django_agent_sse.contrib.monitor.reporter import HISTORY, REPORTS, ROWS, Reporter
from django_agent_sse.contrib.monitor.service import monitor
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventUnreadable
from django_agent_sse.models import LogRow
from django_agent_sse.streams.counters import RouteCounts
from django_agent_sse.streams.snapshot import Process, Snapshot, this_process
from django_agent_sse.topics import orders
from django_agent_sse.wire import Event

from .test_reporter import begin, obeyed, until

__all__ = ["begin", "obeyed"]  # fixtures

MEMORY = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}
OLD, NEW = "an old key of fifty letters, more or less", "a new key of fifty letters, more or less"


@pytest.fixture
def log(settings: Any) -> Iterator[MemoryEventLog]:
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY}
    found = event_log()
    assert isinstance(found, MemoryEventLog)
    found.clear_all()
    yield found
    found.clear_all()


def signed(told: Any, salt: str = f"django_agent_sse.{COMMANDS}", **about: Any) -> Event:
    return Event(Signer(salt=salt, **about).sign_object(told), event="close")


# Commands


@pytest.mark.parametrize(
    "command", [Close(user="7"), Drain(process="p", on=False), WatchRows(query=StreamQuery(stream="p.1"), until=1.0)]
)
def test_a_command_travels_and_what_anybody_changes_in_it_is_noticed(command: Command) -> None:
    event = event_of(command)
    assert command_of(event) == command
    for place in range(0, len(event.data), 7):
        other = "A" if event.data[place] != "A" else "B"
        with pytest.raises(CommandRefused, match="not signed"):
            command_of(Event(event.data[:place] + other + event.data[place + 1 :]))


def test_whatever_staff_types_is_a_command_and_no_alarm() -> None:
    """What is refused for its size says in the log that somebody writes to it who should not, and it says so once only."""
    wide = "\U0001f600" * 5000
    typed = Target.of({"user": wide, "route": wide, "stream": wide, "process": wide})
    person = {"reason": ClosingForm.base_fields["reason"].clean(wide[:200]), "by": wide[:150]}
    questions = [StreamQuery(user=typed.user), StreamQuery(stream=typed.stream, process="p" * 60)]
    query = QueryDict(mutable=True)
    query.update(dict.fromkeys(("route", "user", "process", "text"), wide))
    told = [WatchRows(query=question, until=1.0) for question in [*questions, query_of(query)]]
    for command in [*told, *(Close(retry=1, **{name: getattr(typed, name)}, **person) for name in ("user", "route", "stream"))]:
        assert command_of(event_of(command)) == command


FORGED: dict[str, Event] = {
    "as it was before it was signed": Event(json.dumps({"id": "a", "user": "7"}), event="close"),
    "nothing": Event(""),
    "a colon": Event(":"),
    "signed for something else": signed(["close", time.time(), {"user": "7"}], salt="somebody's form"),
    "signed with another key": signed(["close", time.time(), {"user": "7"}], key="guessed"),
    "large": Event("x:" * 100_000),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_command_is_none(forged: str) -> None:
    with pytest.raises(CommandRefused, match="not signed|more than any command"):
        command_of(FORGED[forged])


@pytest.mark.parametrize(
    "told", [["close", None, {}], ["close"], {}, None, ["close", "x", {}], ["open", 0, {}], ["watch", 0, {}]]
)
def test_what_another_version_has_signed_is_refused_by_name(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "LIFE_SECONDS", math.inf)
    with pytest.raises(CommandRefused, match="another version"):
        command_of(signed(told))


@pytest.mark.parametrize("age", [COMMAND_LIFE_SECONDS + 1, -COMMAND_LIFE_SECONDS - 1])
def test_an_old_command_that_is_copied_and_one_of_the_future_are_refused(age: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(orders.time, "time", lambda: now - age)
    event = event_of(Close(user="7"))
    monkeypatch.setattr(orders.time, "time", lambda: now)
    with pytest.raises(CommandRefused, match="copied, or the clocks"):
        command_of(event)


def test_an_old_key_holds_while_it_is_among_the_fallbacks() -> None:
    with override_settings(SECRET_KEY=OLD):
        event = event_of(command := Close(user="7"))
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[OLD]):
        assert command_of(event) == command
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[]), pytest.raises(CommandRefused, match="SECRET_KEY_FALLBACKS"):
        command_of(event)


def test_forged_ones_are_left_alone_told_once_and_counted_and_a_copy_is_not_obeyed_twice(
    log: MemoryEventLog,
    obeyed: list[str],
    begin: Callable[[], Reporter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reporting, "REPORT_INTERVAL", 0.05)
    with caplog.at_level(logging.WARNING, "django_agent_sse.monitor"):
        begin()
        until("it has looked, and reports", lambda: log.state(REPORTS).top)
        real = event_of(Close(id="real", user="7"))
        log.append(COMMANDS, [*FORGED.values(), real, Event("again"), real])

        def counted() -> dict[str, str]:
            last = log.read_after(REPORTS, log.state(REPORTS).top - 1).records[-1]
            return {**decode(last.event.data)[0].problems}

        until("it is counted", lambda: counted().get("commands") == str(len(FORGED) + 1))
    assert obeyed == ["real"]
    (record,) = (one for one in caplog.records if one.name == "django_agent_sse.monitor")
    assert "is not executed: it is not signed" in record.getMessage()


def test_who_asked_and_why_cannot_write_lines_of_their_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "django_agent_sse.monitor"):
        try:
            execute(
                Drain(process=this_process().id, by="boss\nERROR all is lost\x1b[2J", reason="r\u202e" + "x" * 10_000),
                StreamInspector(),
            )
        finally:
            execute(Drain(process=this_process().id, on=False), StreamInspector())
    told = next(one.getMessage() for one in caplog.records if one.name == "django_agent_sse.monitor")
    assert "boss\\x0aERROR all is lost\\x1b[2J" in told
    assert "r\\u202ex" in told
    assert told.isprintable()
    assert len(told) < 500


# Reports


def report(**more: Any) -> dict[str, Any]:
    """A report that is taken."""
    process = {"id": "abc", "host": "web", "pid": 1, "since": 0.0}
    return {"process": process, "at": time.time(), "routes": {"r/": {"open": 1, "durations": [0] * 9}}, **more}


ROW = ["abc.1", "r/", ["t"], "7", 1.0, 2.0, 3, 4, None, 0, 0.5, "", "", "abc", "live", 65_536, 2.5, 27.5]
ANSWER = [{"user": "7"}, [ROW], 1, {"t": 1}, [["chats.1", "r-1"]], [["limit_user", "7", "", 3]], [["user", "7", "", 3, 4]]]
WRONG: dict[str, Any] = {
    "no object": [],
    "no process": report(process=1),
    "a process without a host": report(process={"id": "abc", "pid": 1, "since": 0}),
    "an id that is a list": report(process={"id": [], "host": "", "pid": 1, "since": 0}),
    "a number with thousands of digits": report(process={"id": "a", "host": "", "pid": 10**4000, "since": 0}),
    "a long host": report(process={"id": "a", "host": "h" * 1000, "pid": 1, "since": 0}),
    "a surrogate": report(process={"id": "\ud800", "host": "", "pid": 1, "since": 0}),
    "a time that is no number": report(at="now"),
    "a time that is true": report(at=True),
    "a time beyond the calendar": report(at=1e17),
    "a time of tomorrow": report(at=time.time() + 86_400),
    "a negative count": report(routes={"r/": {"open": -1}}),
    "a count that is text": report(routes={"r/": {"open": "1"}}),
    "a count of another version": report(routes={"r/": {"colour": 1}}),
    "endings that are a list": report(routes={"r/": {"endings": [1]}}),
    "a huge ending": report(routes={"r/": {"endings": {"kicked": 10**100}}}),
    "too many problems": report(problems={str(number): "x" for number in range(100)}),
    "a problem that is a number": report(problems={"channel_layer": 1}),
    "draining that is text": report(draining="yes"),
    "answers that are none": report(answers=7),
    "a row of another process": report(answers=[[{}, [["xyz.1", *ROW[1:13], "xyz", *ROW[14:]]], 1, {}, [], [], []]]),
    "a row without a part": report(answers=[[{}, [ROW[:-1]], 1, {}, [], [], []]]),
    "a row in no state": report(answers=[[{}, [[*ROW[:14], "green", *ROW[15:]]], 1, {}, [], [], []]]),
    "a row of the year 30000": report(answers=[[{}, [[*ROW[:4], 1e12, *ROW[5:]]], 1, {}, [], [], []]]),
    "topics that are text": report(answers=[[{}, [[*ROW[:2], "tt", *ROW[3:]]], 1, {}, [], [], []]]),
    "more rows than there may be": report(answers=[[{}, [ROW] * 101, 1, {}, [], [], []]]),
    "a question that nobody can ask": report(answers=[[{"colour": "red"}, [], 0, {}, [], [], []]]),
    "a question with a list": report(answers=[[{"user": []}, [], 0, {}, [], [], []]]),
    "a question about nothing": report(answers=[[{"sort": None}, [], 0, {}, [], [], []]]),
    "readers that are no numbers": report(answers=[[{}, [], 0, {"t": "many"}, [], [], []]]),
    "runs that are text": report(answers=[[{}, [], 0, {}, "r", [], []]]),
    "a run without a topic": report(answers=[[{}, [], 0, {}, [["r-1"]], [], []]]),
    "more runs than there may be": report(answers=[[{}, [], 0, {}, [["t", "r"]] * 101, [], []]]),
    "somebody refused a half time": report(answers=[[{}, [], 0, {}, [], [["guard", "7", "", 0.5]], []]]),
    "arrivals that are no numbers": report(arrivals=["soon"]),
    "causes without an end": report(routes={"r/": {"causes": {str(number): 1 for number in range(100)}}}),
    "an answer in three parts": report(answers=[[{}, [], 0]]),
}


def taken(text: str) -> ClusterView:
    """A cluster_view that has been given this one report."""
    one = ClusterView()
    one._take_report(text, REPORTS)
    return one


def test_a_report_with_all_there_is_is_taken() -> None:
    one = taken(json.dumps(report(answers=[ANSWER], problems={"channel_layer": "x"}, draining=True)))
    (answer,) = one._answers.values()
    assert answer.rows == [StreamRow(*ROW)._replace(topics=("t",))]
    assert (answer.matched, answer.readers) == (1, {"t": 1})
    assert answer.limits == [("user", "7", "", 3, 4)]
    assert (answer.runs, answer.refused) == ([("chats.1", "r-1")], [("limit_user", "7", "", 3)])


def test_what_a_process_tells_of_itself_is_taken() -> None:
    mine = StreamInspector().snapshot()
    assert encode(decode(encode(mine))[0]) == encode(mine), "zeros stay behind, and nothing else"
    whole = Snapshot(
        process=mine.process, at=1.0, routes={"r": RouteCounts(endings={"kicked": 1}, durations=[1] * 9, seconds=1.5)}
    )
    assert decode(encode(whole))[0] == whole


@pytest.mark.parametrize("wrong", WRONG)
def test_a_report_with_one_wrong_field_is_refused_with_a_short_reason(wrong: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        taken(json.dumps(WRONG[wrong]))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"at": NaN}', "[" * 100_000, '{"a":' * 50_000, "1" * 10_000, "\ud7ff", "null"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def test_processes_that_nobody_has_heard_of_are_taken_up_to_a_number() -> None:
    past = History()
    for number in range(PROCESSES):
        past.take(Snapshot(process=Process(id=str(number), host="", pid=1, since=0), at=1.0, routes={}))
    with pytest.raises(ValueError, match="2,000 processes"):
        past.take(Snapshot(process=Process(id="one more", host="", pid=1, since=0), at=1.0, routes={}))
    past.take(Snapshot(process=Process(id="7", host="", pid=1, since=0), at=2.0, routes={}))
    assert len(past.latest()) == PROCESSES


# A topic full of anything

KEYS = [
    "process",
    "id",
    "host",
    "pid",
    "since",
    "at",
    "routes",
    "r/",
    "problems",
    "channel_layer",
    "draining",
    "last",
    "answers",
    "open",
    "refused",
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(10**15, 10**400),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["abc", "live", "\ud800", "x" * 5000, "\x1b[2J", "</script>"]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
NEARLY = st.builds(
    lambda more, place, other: report(**more, answers=[[{}, [[*ROW[:place], other, *ROW[place + 1 :]]], 1, {}, [], [], []]]),
    st.dictionaries(st.sampled_from(["process", "at", "routes", "problems", "draining", "last"]), JSON, max_size=2),
    st.integers(0, len(ROW) - 1),
    LEAVES,
)
"""Reports that are right but for a field or two."""
RAW = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
    st.sampled_from(["[" * 20_000, '{"process":' * 20_000, "9" * 20_000, "x" * 20_000]),
)
DOCUMENTS = st.one_of(st.builds(json.dumps, JSON), st.builds(json.dumps, NEARLY), RAW)


# The first example is always the simplest: the other twenty are 1,000 documents. More at once are too many for Hypothesis.
@pytest.mark.django_db
@pytest.mark.urls("tests.admin.test_topics_page")
@settings(max_examples=21, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None)
@given(st.lists(DOCUMENTS, min_size=50, max_size=50))
def test_the_page_lives_whatever_stands_in_the_monitors_topics(documents: list[str]) -> None:
    asked = ClusterView.answers
    with override_settings(AGENT_SSE={"EVENT_LOG": MEMORY}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryEventLog, "crosses_processes", True)
        patch.setattr(type(monitor), "reports", lambda self: True)  # as outside of a test
        patch.setattr(live_streams, "FIRST_TIMEOUT", 0.0)  # nobody answers
        patch.setattr(ClusterView, "answers", lambda self, query, timeout=0.0, *within: asked(self, query, 0.0, *within))
        cluster_view.reset()
        log = event_log()
        for topic in (REPORTS, HISTORY, ROWS, COMMANDS):
            log.append(topic, [Event(text) for text in documents])
        log.append(REPORTS, Event(json.dumps(report(problems={"channel_layer": "rings"}))))
        client = Client()
        client.force_login(User.objects.get_or_create(username="boss", is_staff=True, is_superuser=True)[0])
        views = ("?view=routes", "?view=problems&range=hour", "?view=runs", "export/?format=csv&table=history")
        for page in ("?user=7&sort=-bytes", *views):
            assert client.get(f"/admin/agent_sse_monitor/livestreams/{page}").status_code == 200
        assert client.get("/admin/django_agent_sse/logtopic/").status_code == 200
        assert client.get("/admin/agent_sse_monitor/livestreams/close/", {"process": "abc"}).status_code == 200
        assert cluster_view.snapshot().error == ""
        assert "web:1" in {seen.snapshot.process.name for seen in cluster_view.snapshot().processes}
        for arguments in ([], ["--internal"], ["--internal", "--json"]):
            call_command("sse_topics", *arguments, stdout=StringIO())
        for text in documents:  # behind them stands what the pages have asked
            with pytest.raises(CommandRefused):
                command_of(Event(text))
        log.clear_all()
    cluster_view.reset()
    reset()


def test_reports_are_read_from_a_log_that_is_back_without_its_latest_events() -> None:
    """As Redis restarts from its snapshot: the same epoch, and a lower top."""
    with override_settings(AGENT_SSE={"EVENT_LOG": MEMORY}):
        log = event_log()
        assert isinstance(log, MemoryEventLog)
        log.clear_all()
        log.append_unrung(REPORTS, Event(json.dumps(report())))
        one = ClusterView()
        one._read_topic(log, REPORTS)
        epoch, cursor = one._cursors[REPORTS]
        assert cursor == 1
        one._cursors[REPORTS] = epoch, 60  # it had read what is lost
        new = report(process={"id": "new", "host": "web", "pid": 2, "since": 0.0})
        log.append_unrung(REPORTS, Event(json.dumps(new)))
        one._read_topic(log, REPORTS)
        assert {snapshot.process.id for snapshot in one._history.latest()} == {"abc", "new"}
        assert one._cursors[REPORTS] == (epoch, 2)
        assert one.skipped == 0
        log.clear_all()
    reset()


@pytest.mark.django_db(transaction=True)
def test_rows_that_somebody_wrote_into_the_database_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    backend = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}
    with override_settings(AGENT_SSE={"EVENT_LOG": backend}):
        log = event_log()
        assert isinstance(log, DatabaseEventLog)
        log.clear_all()
        good = json.dumps(report())
        for text in (good, "bad", good):
            log.append_unrung(REPORTS, Event(text))
        LogRow.objects.filter(last=2).update(payload="{not ours")
        assert [record.event.data for record in log.read_after(REPORTS).records] == [good]
        with pytest.raises(EventUnreadable) as found:
            log.read_after(REPORTS, 1)
        assert found.value.offset == 2
        one = ClusterView()
        with caplog.at_level(logging.WARNING, "django_agent_sse.monitor"):
            one._read_topic(log, REPORTS)
            one._read_topic(log, REPORTS)
        assert (one.skipped, one._cursors[REPORTS][1]) == (1, 3)
        assert [snapshot.process.id for snapshot in one._history.latest()] == ["abc"]
        assert len([one for one in caplog.records if one.name == "django_agent_sse.monitor"]) == 1
        LogRow.objects.filter(last=1).update(payload="nor this")
        again = ClusterView()
        again._read_topic(log, REPORTS)
        assert (again.skipped, again._cursors[REPORTS][1]) == (2, 3), "also where it begins with one"
        log.clear_all()
    reset()


@pytest.mark.django_db(transaction=True)
def test_a_command_behind_a_row_that_cannot_be_read_is_obeyed(obeyed: list[str], begin: Callable[[], Reporter]) -> None:
    backend = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}
    with override_settings(AGENT_SSE={"EVENT_LOG": backend}):
        log = event_log()
        log.clear_all()
        log.append_unrung(COMMANDS, Event("bad"))
        LogRow.objects.update(payload="{not ours")
        one = begin()
        until("it has looked, and reports", lambda: log.state(REPORTS).top)
        log.append(COMMANDS, event_of(Close(id="real", user="7")))
        one._on_notify(None)
        until("it obeys", lambda: obeyed == ["real"])
        one.stop(20)
        log.clear_all()
    reset()


def test_answers_are_of_the_process_that_told_them() -> None:
    snapshot, ((question, answer),) = decode(json.dumps(report(answers=[ANSWER])))
    assert (question, answer.at) == (StreamQuery(user="7"), snapshot.at)
