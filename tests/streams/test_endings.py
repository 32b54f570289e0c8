"""Every row of the table of endings: callbacks, the handler's fate, the last event, the word, and who comes back to what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.signals import stream_closed
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import registry
from django_agent_sse.wire import Event
from tests.inprocess import Client, Site, compressed, serve

from .life import ABORTED, REGULAR, Life


@pytest.fixture(params=["plain", "compressed"], autouse=True)
def _coding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with compressed(monkeypatch) if request.param == "compressed" else contextlib.nullcontext():
        yield


@pytest.fixture
def life(caplog: pytest.LogCaptureFixture) -> Iterator[Life]:
    caplog.set_level(logging.INFO, "django_agent_sse.stream")
    life = Life(caplog)
    stream_closed.connect(life.note_signal)
    yield life
    stream_closed.disconnect(life.note_signal)


async def resumes(site: Site, client: Client, life: Life) -> None:
    """A client that comes back with what it has runs the handler again, which sees the last id."""
    again = site.connect(last_event_id=client.decoder.last_event_id)
    assert (await again.event()).data == "hello"
    assert again.status == 200
    assert life.ids[1:] == ["e.1"]


async def status_when_back(site: Site, client: Client) -> int | None:
    return (await site.connect(last_event_id=client.decoder.last_event_id).over()).status


def is_end(event: Event, reason: str, id: str | None) -> bool:
    return (event.event, event.id, json.loads(event.data)) == ("sse.end", id, {"reason": reason})


async def test_completed_by_returning(life: Life) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        async with life.diary.of(stream):
            await stream.write("hello", id="e.1")

    async with serve(handler) as site:
        client = site.connect()
        hello, end = await client.rest()
        assert hello.data == "hello"
        assert is_end(end, "completed", "sse.end~e.1")
        await life.must_be(Ending.COMPLETED, REGULAR)
        assert await status_when_back(site, client) == 204


async def test_completed_by_close_within_the_grace(life: Life) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        async with life.diary.of(stream):
            await stream.write("hello")
            stream.close()
            await asyncio.Event().wait()

    async with serve(handler, close_grace=0.05) as site:
        client = site.connect()
        assert is_end((await client.rest())[-1], "completed", "sse.end~")
        await life.must_be(Ending.COMPLETED, ["cancelled", *REGULAR])
        assert await status_when_back(site, client) == 204


async def test_topic_closed(life: Life) -> None:
    async with serve(life.stay, close_grace=0.05) as site:
        client = site.connect()
        await client.event()
        (await site.supervisor()).end(Ending.TOPIC_CLOSED)
        (end,) = await client.rest()
        assert is_end(end, "topic_closed", "sse.end~e.1")
        await life.must_be(Ending.TOPIC_CLOSED, ["cancelled", *REGULAR])
        assert await status_when_back(site, client) == 204


async def failing(life: Life, stream: Stream) -> None:
    async with life.diary.of(stream):
        await stream.write("hello", id="e.1")
        raise ValueError("the secret of the database")


async def test_handler_error_is_masked_and_may_be_tried_again(life: Life) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        life.ids.append(c.last_event_id)
        await failing(life, stream)

    async with serve(handler) as site:
        client = site.connect()
        _, error = await client.rest()
        assert (error.event, error.id) == ("sse.error", None)
        assert json.loads(error.data)["reason"] == "handler_error"
        assert error.retry is not None
        assert 1500 <= error.retry <= 4500
        assert b"secret" not in client.raw
        assert b"ValueError" not in client.raw
        await life.must_be(Ending.HANDLER_ERROR, REGULAR)
        assert isinstance(life.diary.stream.error, ValueError)
        await resumes(site, client, life)


async def test_handler_error_shows_its_text_under_debug(life: Life) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await failing(life, stream)

    async with serve(handler, settings={"DEBUG": True}) as site:
        _, error = await site.connect().rest()
        assert json.loads(error.data)["message"] == "ValueError: the secret of the database"


async def test_handler_error_that_is_final(life: Life) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await failing(life, stream)

    async with serve(handler, final_on_error=True) as site:
        client = site.connect()
        _, error = await client.rest()
        assert (error.event, error.id) == ("sse.error", "sse.end~e.1")
        await life.must_be(Ending.HANDLER_ERROR, REGULAR)
        assert await status_when_back(site, client) == 204


async def test_client_disconnect_cancels(life: Life) -> None:
    async with serve(life.stay) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        assert client.raw.count(b"data:") == 1
        await life.must_be(Ending.CLIENT_DISCONNECT, ABORTED)
        await resumes(site, client, life)


async def test_client_disconnect_lets_the_handler_continue(life: Life) -> None:
    dropped = []

    async def handler(c: Context, stream: Stream) -> None:
        async with life.diary.of(stream):
            await stream.write("hello", id="e.1")
            await stream.wait_closed()
            dropped.append(await stream.write("into the void"))
            dropped.append(await stream.comment("nor this"))
            life.diary.append("worked on")

    async with serve(handler, on_disconnect="continue") as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        await life.must_be(Ending.CLIENT_DISCONNECT, ["on_abort", "worked on", *REGULAR])
        assert dropped == [False, False]


async def test_slow_client(life: Life) -> None:
    async with serve(life.stay, send_timeout=0.1) as site:
        client = site.connect()
        await client.event()
        client.hold()
        life.diary.stream.write("not taken")
        await client.stuck()
        await client.over()
        assert b"not taken" not in client.raw
        await life.must_be(Ending.SLOW_CLIENT, ABORTED, events=2)
        client.flow()
        await resumes(site, client, life)


async def test_max_duration(life: Life) -> None:
    async with serve(life.stay, max_duration=0.1) as site:
        client = site.connect()
        assert [event.data for event in await client.rest()] == ["hello"]
        await life.must_be(Ending.MAX_DURATION, ABORTED)
        await resumes(site, client, life)


async def test_shutdown(life: Life) -> None:
    async with serve(life.stay) as site:
        client = site.connect()
        await client.event()
        life.diary.stream.write("queued before the end")
        registry.loop_state().end_all(Ending.SHUTDOWN)
        assert [event.data for event in await client.rest()] == ["queued before the end"]
        await life.must_be(Ending.SHUTDOWN, ABORTED, events=2)
        await resumes(site, client, life)


async def test_shutdown_does_not_wait_for_a_client_that_takes_nothing(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_agent_sse.streams.transport.STUCK_SECONDS", 0.05)
    async with serve(life.stay) as site:
        client = site.connect()
        await client.event()
        client.hold()
        life.diary.stream.write("not taken")
        await client.stuck()
        registry.loop_state().end_all(Ending.SHUTDOWN)
        await client.over()
        await life.must_be(Ending.SHUTDOWN, ABORTED, events=2)


async def test_shutdown_cancels_a_handler_that_continues_without_its_client(life: Life) -> None:
    async with serve(life.stay, on_disconnect="continue") as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        assert life.diary == ["on_abort"]
        registry.loop_state().end_all(Ending.SHUTDOWN)
        await life.must_be(Ending.CLIENT_DISCONNECT, ABORTED)


async def test_revoked(life: Life) -> None:
    allowed = True

    async def guard(c: Context) -> Any:
        return allowed or c.json({"error": "no longer"}, status=401)

    async with serve(life.stay, guards=[guard]) as site:
        client = site.connect()
        await client.event()
        allowed = False
        (await site.supervisor()).end(Ending.REVOKED)
        (end,) = await client.rest()
        assert is_end(end, "revoked", "sse.end~e.1")
        await life.must_be(Ending.REVOKED, ABORTED)
        assert await status_when_back(site, client) == 401


async def test_kicked_for_good(life: Life) -> None:
    async with serve(life.stay) as site:
        client = site.connect()
        await client.event()
        (await site.supervisor()).end(Ending.KICKED)
        (end,) = await client.rest()
        assert is_end(end, "kicked", "sse.end~e.1")
        assert end.retry is None
        await life.must_be(Ending.KICKED, ABORTED)
        assert await status_when_back(site, client) == 204


async def test_kicked_for_a_while(life: Life) -> None:
    async with serve(life.stay) as site:
        client = site.connect()
        await client.event()
        (await site.supervisor()).end(Ending.KICKED, retry=60_000)
        (end,) = await client.rest()
        assert is_end(end, "kicked", None)
        assert end.retry == 60_000
        await life.must_be(Ending.KICKED, ABORTED)
        await resumes(site, client, life)


@pytest.mark.parametrize("ending", list(Ending))
async def test_without_control_events_no_ending_says_anything(life: Life, ending: Ending) -> None:
    async with serve(life.stay, control_events=False, close_grace=0.01) as site:
        client = site.connect()
        await client.event()
        (await site.supervisor()).end(ending)
        await client.over()
        assert client.raw == b"retry: 3000\ndata: hello\nid: e.1\n\n"


async def test_the_first_ending_stays(life: Life) -> None:
    async with serve(life.stay) as site:
        client = site.connect()
        await client.event()
        supervisor = await site.supervisor()
        assert supervisor.end(Ending.KICKED)
        assert not any(supervisor.end(ending) for ending in Ending)
        await client.rest()
        await life.must_be(Ending.KICKED, ABORTED)
