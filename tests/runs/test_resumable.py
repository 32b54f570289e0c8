"""``resumable=True``: handlers of streams, unchanged, whose events are kept and whose work goes on without a reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.http import HttpResponse

from django_agent_sse import Context, Ending, Event, Router, SSEView, Stream, Topic
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import FollowError, InvalidEvent, RouteError, StreamClosed
from django_agent_sse.streams.registry import open_streams
from tests.inprocess import eventually
from tests.serving import ask, connect, served

STREAM = {"accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


async def test_a_browser_that_reloads_goes_on_with_the_same_work() -> None:
    router, go, started = Router(), asyncio.Event(), []

    @router.sse("count/<int:number>/", resumable=True)
    async def count(c: Context, stream: Stream, number: int) -> None:
        started.append(number)
        await stream.write(number, event="first")
        await go.wait()
        await stream.write(number + 1)

    with served(router):
        first = connect("/count/3/", headers=STREAM)
        one = await first.event()
        first.leave()
        await first.over()
        reloaded, resumed, other = (
            connect("/count/3/", headers=STREAM),
            connect("/count/3/", headers=STREAM, last_event_id=one.id),
            connect("/count/3/?a=b"),
        )
        assert [(await reader.event()).data for reader in (reloaded, other)] == ["3", "3"]
        await resumed.begun()
        go.set()
        assert [(event.data, event.event) for event in (await reloaded.rest())[:1]] == [("4", None)]
        (last, end) = await resumed.rest()
        assert (last.data, end.event) == ("4", "sse.end")
        assert started == [3, 3], "another query is another work"
        assert (await ask("/count/3/", headers=STREAM, last_event_id=end.id)).status == 204
        assert (await ask("/count/3/", headers={"accept": "*/*"}, last_event_id=last.id)).data == ["4"]
        await ask("/count/3/")
        assert started == [3, 3, 3], "who begins anew begins anew"


async def test_many_who_come_at_once_read_one_run() -> None:
    router, go, started = Router(), asyncio.Event(), []

    @router.sse("count/", resumable=True)
    async def count(c: Context) -> AsyncIterator[int]:
        started.append(1)
        await go.wait()
        yield 1

    with served(router):
        others = {*open_streams()}
        asking = [asyncio.create_task(ask("/count/")) for _ in range(20)]
        await eventually("all are there before it ends", lambda: len({*open_streams()} - others) == 20)
        go.set()
        answers = await asyncio.gather(*asking)
    assert [answer.data for answer in answers] == [["1"]] * 20
    assert started == [1]


async def test_a_resume_never_starts_work_and_where_nothing_is_kept_it_is_204() -> None:
    router, started = Router(), []

    @router.sse("count/", resumable=True)
    async def count(c: Context, stream: Stream) -> None:
        started.append(1)

    with served(router):
        assert (await ask("/count/", last_event_id="abcdefgh.7")).status == 204
        assert (await ask("/count/", last_event_id="\x01")).status == 204
    assert started == []


async def test_every_verb_of_a_stream_does_what_it_says(log: EventLog) -> None:
    router, notes = Router(), []

    @router.sse("verbs/", resumable=True)
    async def verbs(c: Context, stream: Stream) -> None:
        async def later() -> str:
            return "awaited"

        await stream.open()
        stream.write("unawaited")
        await stream.write({"n": 1}, event="named", retry=500)
        await stream.write(Event("whole", event="named", id="7"))
        await stream.write_sse(None)
        await stream.write(later())
        await stream.writeln("line\n")
        await stream.comment("nobody sees it")
        assert await stream.pipe(["a", "b"], event="item") == 2
        assert await stream.pipe_sse("data: framed\nid: 9\n\n") == 1
        await stream.sleep(0)
        async with stream.connection():
            pass
        for wrong in ({"id": "1"}, {"event": "sse.end"}):
            with pytest.raises(InvalidEvent):
                stream.write("x", **wrong)
        with pytest.raises(FollowError, match="resumable"):
            await stream.follow("t")
        notes.extend([stream.closed, stream.aborted, stream.ending, stream.last_event_id])
        stream.on_abort(lambda: notes.append("never"))
        stream.on_end(lambda: notes.append(stream.ending))
        stream.close()
        with pytest.raises(StreamClosed):
            stream.write("late")
        await stream.wait_closed()

    with served(router):
        answer = await ask("/verbs/")
    assert answer.data == ["unawaited", '{"n":1}', "whole", "null", "awaited", "line", "a", "b", "framed"]
    assert [event.name for event in answer.events][1:3] == ["named"] * 2
    assert b"retry: 500" in answer.body
    await eventually("it ends", lambda: notes[-1:] == [Ending.COMPLETED])
    assert notes == [False, False, None, None, Ending.COMPLETED]


async def test_a_stop_cancels_the_handler_and_calls_on_abort_first() -> None:
    router, notes = Router(), []

    @router.sse("wait/", resumable=True)
    async def wait(c: Context, stream: Stream) -> None:
        stream.on_abort(lambda: notes.append("on_abort"))
        stream.on_end(lambda: notes.append(f"on_end {stream.ending}"))
        await stream.write("begun")
        try:
            await stream.wait_closed()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            notes.append("finally")

    with served(router):
        reader = connect("/wait/")
        await reader.event()
        url = reader.headers["location"]
        assert (await ask(url, method="DELETE")).status in (200, 202)
        assert await reader.rest() == []
        assert (await ask(url, method="DELETE")).json()["ending"] == "stopped"
    await eventually("it ends", lambda: notes == ["on_abort", "finally", "on_end kicked"])


async def test_a_post_starts_anew_and_a_factory_refuses() -> None:
    router, started = Router(), []

    @router.sse("ask/<int:number>/", resumable=True, methods=["POST"])
    async def question(c: Context) -> Any:
        body = await c.json_body()
        if not body:
            return HttpResponse("ask something", status=422)

        async def handler(stream: Stream) -> None:
            started.append(body)
            await stream.write(body)

        return handler

    with served(router):
        for text in (b'"a"', b'"b"'):
            assert (await ask("/ask/1/", method="POST", body=text)).data == [text.decode()[1:-1]]
        assert (await ask("/ask/1/", method="POST", body=b'""')).status == 422
        assert (await ask("/ask/1/")).data == ["b"], "the last one is resumed, and none begun"
    assert started == ["a", "b"]


async def test_a_handler_that_fails_breaks_the_answer_off(log: EventLog) -> None:
    router = Router()

    @router.sse("fail/", resumable=True)
    async def fail(c: Context, stream: Stream) -> None:
        await stream.write("one")
        raise ValueError

    with served(router):
        answer = await ask("/fail/", broken_off=True)
    assert answer.data == ["one"]
    assert (await Topic((await log.atopics())[0]).astate()).closed == "failed"


def test_a_view_cannot_be_resumable() -> None:
    class View(SSEView):
        async def handle(self, c: Context, stream: Stream) -> None: ...

    with pytest.raises(RouteError, match="function"):
        Router().sse("view/", View, resumable=True)
