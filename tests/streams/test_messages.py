"""What is told of an end: reconnection times, masked errors, ``on_error``, the project's error tracking, the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core.signals import got_request_exception

from django_agent_sse import Context, Stream
from django_agent_sse.runtime import backoff
from django_agent_sse.runtime.backoff import jittered
from django_agent_sse.streams import reporting
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.reporting import FIRST_RETRY, LAST_RETRY, ErrorStreak
from tests.inprocess import PATH, eventually, serve
from tests.records import records_of


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.random, "uniform", lambda low, high: (low + high) / 2)


@pytest.fixture
def tracked() -> Iterator[list[Any]]:
    """Requests that error tracking was told of."""
    requests: list[Any] = []

    def receiver(*, request: Any, **_: Any) -> None:
        requests.append(request)

    got_request_exception.connect(receiver)
    yield requests
    got_request_exception.disconnect(receiver)


async def fails(c: Context, stream: Stream) -> None:
    await stream.write("hello")
    raise ValueError("a secret")


# Reconnection times


def test_a_reconnection_time_is_drawn_around_what_is_meant() -> None:
    drawn = {jittered(1000) for _ in range(200)}
    assert min(drawn) >= 500
    assert max(drawn) <= 1500
    assert len(drawn) > 20


@pytest.mark.usefixtures("no_jitter")
def test_it_doubles_for_each_error_in_a_row_up_to_a_minute() -> None:
    streak = ErrorStreak()
    assert [streak.next_retry(3000) for _ in range(6)] == [3000, 6000, 12000, 24000, 48000, 60000]
    assert [streak.next_retry(3000) for _ in range(100)] == [LAST_RETRY] * 100
    assert [ErrorStreak().next_retry(base) for base in (None, 0)] == [FIRST_RETRY, FIRST_RETRY]


@pytest.mark.usefixtures("no_jitter")
async def test_the_streak_is_the_routes_and_a_good_stream_ends_it() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("hello")
        if "fail" in c.query:
            raise ValueError

    async with serve(handler) as site:

        async def retry(query: str) -> int | None:
            return (await site.connect(query=query).rest())[-1].retry

        assert [await retry("fail"), await retry("fail"), await retry("fail")] == [3000, 6000, 12000]
        assert await retry("") is None
        assert await retry("fail") == 3000


# Who is told


@pytest.mark.parametrize("slim", [False, True])
async def test_an_error_is_logged_with_its_traceback_and_sent_to_error_tracking(
    tracked: list[Any], caplog: pytest.LogCaptureFixture, slim: bool
) -> None:
    async with serve(fails, slim=slim) as site:
        _, error = await site.connect().rest()
        assert "secret" not in error.data
    (record,) = [one for one in records_of(caplog) if one.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert record.route == "stream/<int:number>/"  # type: ignore[attr-defined]
    (request,) = tracked
    assert (request is None) is slim
    assert slim or request.path == PATH


async def test_the_log_line_holds_neither_payload_nor_query_string(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("the payload", event="eventname", id="eventid")

    async with serve(handler) as site:
        await site.connect(query="token=querystring").rest()
        await eventually("the line is written", lambda: "stream closed" in caplog.text)
    (record,) = [one for one in caplog.records if one.getMessage().startswith("stream closed")]
    everything = f"{record.getMessage()} {vars(record)}"
    for secret in ("the payload", "eventname", "eventid", "querystring"):
        assert secret not in everything
    assert re.match(r"stream closed: stream/<int:number>/ completed after \d+\.\d{3} s, ", record.getMessage())


async def test_a_handler_that_fails_after_its_end_is_logged_and_tells_nobody_else(
    tracked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        stream.close()
        raise ValueError("too late")

    async with serve(handler) as site:
        assert [event.event for event in await site.connect().rest()] == ["sse.end"]
    assert "failed after its end" in caplog.text
    assert tracked == []


async def test_writing_after_the_end_is_no_failure_to_log(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        stream.close()
        await stream.write("too late")

    async with serve(handler) as site:
        await site.connect().rest()
    assert [record for record in records_of(caplog) if record.levelno >= logging.WARNING] == []


async def test_a_finally_that_writes_to_a_client_that_left_is_no_failure_to_log(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        try:
            await stream.write("hello")
            await stream.wait_closed()
        finally:
            await stream.write("bye")

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
    assert [record for record in records_of(caplog) if record.levelno >= logging.WARNING] == []


# on_error


async def test_k08_on_error_may_write_a_last_event_of_its_own() -> None:
    async def on_error(c: Context, stream: Stream, error: BaseException) -> None:
        await stream.write({"failed": type(error).__name__, "number": c.params["number"]}, event="build-error")

    async with serve(fails, on_error=on_error) as site:
        _, own, ours = await site.connect().rest()
        assert (own.event, json.loads(own.data)) == ("build-error", {"failed": "ValueError", "number": 7})
        assert ours.event == "sse.error"


async def test_k08_the_error_is_the_one_that_is_handled_where_it_is_told() -> None:
    """``on_error`` may ask ``sys.exc_info()``, as error trackers do in a receiver of ``got_request_exception``.

    Before Django 6.1 a signal's receivers run where it is not known.
    """
    handled: list[type[BaseException] | None] = []

    def receiver(**_: Any) -> None:
        handled.append(sys.exc_info()[0])

    async def on_error(c: Context, stream: Stream, error: BaseException) -> None:
        handled.append(sys.exc_info()[0])

    got_request_exception.connect(receiver)
    try:
        async with serve(fails, on_error=on_error) as site:
            await site.connect().rest()
    finally:
        got_request_exception.disconnect(receiver)
    assert handled == [ValueError if django.VERSION >= (6, 1) else None, ValueError]


async def test_k08_on_error_may_be_a_plain_function_and_is_all_there_is_without_control_events() -> None:
    def on_error(c: Context, stream: Stream, error: BaseException) -> None:
        stream.write("sorry", event="failed")

    async with serve(fails, on_error=on_error, control_events=False) as site:
        events = await site.connect().broken_off()
        assert [(event.event, event.data) for event in events] == [(None, "hello"), ("failed", "sorry")]


async def test_k08_on_error_that_fails_itself_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def on_error(c: Context, stream: Stream, error: BaseException) -> None:
        raise RuntimeError("twice broken")

    async with serve(fails, on_error=on_error) as site:
        assert (await site.connect().rest())[-1].event == "sse.error"
    assert "on_error of stream/<int:number>/ failed" in caplog.text


async def test_k08_on_error_that_hangs_is_cut(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(reporting, "ON_ERROR_SECONDS", 0.05)

    async def on_error(c: Context, stream: Stream, error: BaseException) -> None:
        await asyncio.Event().wait()

    async with serve(fails, on_error=on_error) as site:
        assert (await site.connect().rest())[-1].event == "sse.error"
    assert "on_error of stream/<int:number>/ failed" in caplog.text


async def test_k08_a_client_that_leaves_during_on_error_ends_the_stream_all_the_same() -> None:
    ended = []

    async def on_error(c: Context, stream: Stream, error: BaseException) -> None:
        stream.on_end(lambda: ended.append(stream))
        await stream.write("in on_error")
        await asyncio.Event().wait()

    async with serve(fails, on_error=on_error) as site:
        client = site.connect()
        await client.take(2)
        client.leave()
        await client.over()
        await eventually("on_end has run", lambda: ended)
        assert ended[0].ending is Ending.CLIENT_DISCONNECT
        assert isinstance(ended[0].error, ValueError)
