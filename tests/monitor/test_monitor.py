"""The monitor's parts by themselves: lazily begun, fork-safe, patient with other versions, never in a stream's way."""

from __future__ import annotations

import io
import json
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import override_settings

from django_agent_sse.contrib.monitor import inspector
from django_agent_sse.contrib.monitor import service as monitoring
from django_agent_sse.contrib.monitor.admin.live_view import _summary
from django_agent_sse.contrib.monitor.commands import Close, CommandRefused, Drain, WatchRows, command_of, event_of, execute
from django_agent_sse.contrib.monitor.history import BUCKET, POINTS, History
from django_agent_sse.contrib.monitor.inspector import Answer, LimitRow, RefusedRow, RunRow, StreamInspector, StreamQuery
from django_agent_sse.contrib.monitor.report_json import decode, encode
from django_agent_sse.contrib.monitor.service import monitor
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import ConfigurationError
from django_agent_sse.streams.addresses import client_address
from django_agent_sse.streams.client import client_of, monitor_options
from django_agent_sse.streams.counters import Refusal, RouteCounts, counters
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import State, StreamInfo, StreamStats, registry
from django_agent_sse.streams.snapshot import Process, Snapshot, this_process
from django_agent_sse.wire import Event

SHORT = "Firefox/148.0"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0"


@pytest.fixture(autouse=True)
def from_zero() -> Iterator[None]:
    counters.reset()
    yield
    counters.reset()
    registry.drain(0)
    monitor.stop()


def snapshot(at: float, *, id: str = "a", last: bool = False, **counts: Any) -> Snapshot:
    process = Process(id=id, host="web", pid=1, since=0.0)
    return Snapshot(process=process, at=at, routes={"r/": RouteCounts(**counts)}, last=last)


# Where it runs


def test_there_is_no_thread_before_a_stream_nor_where_nobody_else_reads_the_log() -> None:
    assert not monitor.running
    monitor.begin()
    assert not monitor.running, "this process alone is shown, without any reports"


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "under_test", lambda: False)
    monkeypatch.setattr(MemoryEventLog, "crosses_processes", True)
    assert monitor.reports()
    with override_settings(AGENT_SSE={"EVENT_LOG": _memory(), "MONITOR": {"REPORTS": False}}):
        assert not monitor.reports()


def test_settings_that_cannot_be_used_are_not_in_a_streams_way() -> None:
    with override_settings(AGENT_SSE={"MONITOR": {"ADRESS": "off"}}):
        monitor.begin()
        assert not monitor.running


def test_a_stream_that_is_over_while_its_row_is_made_has_one() -> None:
    """Rows are made on another thread than the stream's."""

    class Ends:
        number, topics, ids = 1, (), ["e.1", None]

        @property
        def last_id(self) -> str | None:
            return self.ids.pop(0)

    info, stats = StreamInfo("r/", "", "", "", None), StreamStats(State.LIVE, 1, 2, 0.0, 0.0, 0, 0, None)
    assert inspector._row(1.0, Ends(), info, stats).last_id == "e.1"  # type: ignore[arg-type]


def test_a_child_is_another_process_that_has_counted_nothing() -> None:
    counters.opened("r/")
    mine, (reading, writing) = this_process().id, os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are other threads is what is tried
        child = os.fork()
    if child == 0:
        told = [this_process().id, len(counters.copy()), not monitor.running, len(registry.loops())]
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        theirs, counted, threadless, loops = json.loads(told.read())
    os.waitpid(child, 0)
    assert theirs != mine
    assert (counted, threadless, loops) == (0, True, 0)


# Options, and what is collected of a client


def _memory() -> dict[str, Any]:
    return {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ADRESS": "off"}, "did you mean 'ADDRESS'"),
        ({"ADDRESS": "no"}, "'truncated' or 'full' or 'off'"),
        ({"REPORTS": 1}, "True or False"),
        ({"PROXIES": 1}, r"AGENT_SSE\['MONITOR'\]\['PROXIES'\] is AGENT_SSE\['PROXIES'\] now.* move it there"),
        ("off", "it is a dict"),
    ],
)
def test_what_the_options_cannot_be_is_said(given: Any, told: str) -> None:
    with override_settings(AGENT_SSE={"MONITOR": given}), pytest.raises(ConfigurationError, match=told):
        monitor_options()


def request(peer: str, **headers: str) -> ASGIRequest:
    """A request from ``peer``; ``x_real_ip=`` is the header ``X-Real-IP``."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": sent, "client": (peer, 40_000)}
    return ASGIRequest(scope, io.BytesIO())


@pytest.mark.parametrize(
    ("options", "peer", "seen"),
    [
        ({}, "203.0.113.77", ("203.0.113.0/24", SHORT)),
        ({}, "2001:db8:1:2::9", ("2001:db8:1::/48", SHORT)),
        ({}, "::ffff:203.0.113.77", ("203.0.113.0/24", SHORT)),
        ({"ADDRESS": "full", "USER_AGENT": "full"}, "203.0.113.77", ("203.0.113.77", FIREFOX)),
        ({"ADDRESS": "full"}, "2001:db8:1:2::9", ("2001:db8:1:2::9", SHORT)),
        ({"ADDRESS": "off", "USER_AGENT": "off"}, "203.0.113.77", ("", "")),
        ({"ADDRESS": "full"}, "<script>", ("", SHORT)),
    ],
)
def test_a_client_is_shown_as_far_as_the_project_wants(options: Any, peer: str, seen: tuple[str, str]) -> None:
    with override_settings(AGENT_SSE={"MONITOR": options}):
        assert client_of(request(peer, user_agent=FIREFOX), monitor_options()) == seen


@pytest.mark.parametrize(
    ("proxies", "seen"), [(None, "10.0.0.1"), (0, "10.0.0.1"), (1, "198.51.100.9"), (2, "6.6.6.6"), ("X-Real-IP", "198.51.100.8")]
)
def test_the_address_that_is_shown_is_the_one_that_limits_are_counted_by(proxies: int | str | None, seen: str) -> None:
    asked = request("10.0.0.1", x_forwarded_for="6.6.6.6, 198.51.100.9", x_real_ip="198.51.100.8")
    with override_settings(AGENT_SSE={"MONITOR": {"ADDRESS": "full"}, "PROXIES": proxies}):
        assert client_of(asked, monitor_options()) == (seen, "")
    if proxies is not None:
        assert client_address(asked.scope, proxies) == seen


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("token=secret-7 x", ""),
        ("<b>", ""),
        ("curl/8.5.0", "curl/8.5.0"),
        ("curl/8.14.1 secret (also a secret)", "curl/8.14.1"),
        ("python-httpx/0.28.1", "python-httpx/0.28.1"),
        ("Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/156.0.0.0 Safari/537.36", "Chrome/156.0.0.0 Safari/537.36"),
        ("a/1 " * 200, ("a/1 " * 20)),
    ],
)
def test_of_a_user_agent_only_its_products_are_shown_and_cut_short(sent: str, seen: str) -> None:
    with override_settings(AGENT_SSE={"MONITOR": {"ADDRESS": "off"}}):
        assert client_of(request("127.0.0.1", user_agent=sent), monitor_options()) == ("", seen)


# What travels


def test_commands_and_reports_travel_and_what_is_of_another_version_is_passed_over() -> None:
    for command in (
        WatchRows(query=StreamQuery(text="x", readers="b.", stream="p.1"), until=5.0),
        Close(user="7", retry=5, reason="r", by="me"),
        Drain(process="p", on=False),
    ):
        assert command_of(event_of(command)) == command
    for event in (
        Event("{}", event="close2"),
        Event("no json", event="close"),
        Event('{"colour": 1}', event="close"),
        Event("x"),
    ):
        with pytest.raises(CommandRefused, match="not signed"):
            command_of(event)
    told = snapshot(1.5, open=3, endings={"kicked": 2})
    runs, refused = [RunRow("chats.1", "r-1")], [RefusedRow("limit_user", "7", "", 3)]
    answers = [
        (StreamQuery(readers="b."), Answer([], 7, {"b.1": 2}, [], [], [], 1.5)),
        (StreamQuery(text="x", anonymous=True), Answer([], 0, {}, runs, refused, [LimitRow("route", "", "r/", 3, 4)], 1.5)),
    ]
    found, read = decode(encode(told, answers))
    assert (found.at, found.total("open"), found.total("endings")) == (1.5, 3, 2)
    assert read == answers
    for text in ("{}", "[]", '{"process": 1}', '{"process": {"id": "a"}, "routes": {}}'):
        with pytest.raises(ValueError, match="report|JSON|decode|object"):
            decode(text)


def test_a_command_for_nobody_here_does_nothing_and_one_that_names_nothing_closes_nothing() -> None:
    looker = StreamInspector()
    assert execute(Close(), looker) == 0
    assert execute(Close(stream="other.7"), looker) == 0
    assert execute(Close(process="other"), looker) == 0
    assert execute(Drain(process="other"), looker) == 0
    assert not registry.draining
    execute(Drain(process=this_process().id), looker)
    assert registry.draining
    execute(Drain(process=this_process().id, on=False), looker)
    assert not registry.draining


# What is drawn


def test_history_has_gauges_as_they_were_and_counters_by_the_second() -> None:
    history, now = History(), 1_000 * BUCKET + 1
    for back, events in ((3, 0), (2, 10), (1, 60), (0, 60)):
        history.take(snapshot(now - back * BUCKET, open=back + 1, events=events))
    series = history.series(now + BUCKET)  # what is drawn ends one point before now, which not all have told of
    assert series["open"][-4:] == [4, 3, 2, 1]
    assert series["events"][-3:] == [2, 10, 0]
    assert series["processes"][-5:] == [0, 1, 1, 1, 1]
    assert len(series["open"]) == POINTS
    history.take(snapshot(now + 1, open=0, last=True))
    assert history.series(now + 2 * BUCKET)["processes"][-1] == 0
    history.forget(now + (POINTS + 5) * BUCKET)
    assert history.latest() == []


def test_what_a_route_counts_is_counted_once_and_errors_are_of_both_kinds() -> None:
    counters.opened("r/")
    counters.closed("r/", Ending.HANDLER_ERROR, events=2, bytes=9, seconds=7.0)
    counters.refused("r/", Refusal.ERROR)
    counts = StreamInspector().snapshot().routes["r/"]
    assert (counts.errors, counts.events, counts.bytes, counts.opened) == (2, 2, 9, 1)
    assert counts.durations == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert time.time() - StreamInspector().snapshot().at < 5


@pytest.mark.parametrize(
    ("numbers", "summary"),
    [
        ((1, 1, 1, 0), "1 stream"),
        ((0, 0, 0, 0), "0 streams"),
        ((1, 1, 2, 1), "1 of 2 streams; 1 process has not answered yet"),
        (
            (100, 150, 150, 2),
            "150 streams; the first 100 are shown: search or filter for others; 2 processes have not answered yet",
        ),
    ],
)
def test_the_page_counts_streams_in_words(numbers: tuple[int, int, int, int], summary: str) -> None:
    assert _summary(*numbers) == summary
