"""Code of a run that refuses its request: the client is answered as by any view, and no run is left. And HEAD."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import PermissionDenied
from django.http import Http404

from django_agent_sse import Context, Router, Stream
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.keeper import keeper
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.task import _tasks
from tests.inprocess import eventually
from tests.serving import ask, connect, served


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


def routes() -> tuple[Router, list[str]]:
    router, notes = Router(), []

    @router.run("async/<slug:chat>/")
    async def direct(c: Context, run: AsyncRun, chat: str) -> None:
        run.on_end(lambda: notes.append(f"{run.ending}"))
        await run.write((await c.json_body())["text"])

    @router.run("thread/<slug:chat>/", commit_after=30)  # a thread may have to wait for a processor
    def thread(c: Context, run: Run, chat: str) -> None:
        run.on_end(lambda: notes.append(f"{run.ending}"))
        run.write(async_to_sync(c.json_body)()["text"])

    @router.run("generator/<slug:chat>/")
    async def generator(c: Context, chat: str) -> AsyncIterator[str]:
        yield (await c.json_body())["text"]
        notes.append("finished")

    @router.sse("stream/<slug:chat>/", resumable=True, methods=["POST"])
    async def stream(c: Context, stream: Stream, chat: str) -> None:
        await stream.write((await c.json_body())["text"])
        notes.append("finished")

    return router, notes


@pytest.mark.parametrize("prefer", [{}, {"prefer": "respond-async"}], ids=["stream", "202"])
@pytest.mark.parametrize("kind", ["async", "thread", "generator", "stream"])
async def test_a_body_that_is_no_json_is_400_and_leaves_the_key_and_the_idempotency_key_as_they_were(
    kind: str, prefer: dict[str, str], log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    router, notes = routes()
    url, about = f"/{kind}/1/", {**prefer, "idempotency-key": "two"}
    with served(router):
        bad = await ask(url, method="POST", body=b"{", headers=about)
        assert (bad.status, "not JSON" in bad.json()["error"]["message"]) == (400, True)
        assert "location" not in bad.headers
        assert (await ask(url)).status == 204
        assert log.topics() == []
        assert (await ask(url, method="POST", body=b'{"text": "one"}')).data == ["one"]
        assert (await ask(url, method="POST", body=b"{", headers=about)).status == 400
        assert (await ask(url)).data == ["one"], "the last run of the key is still the last"
        assert len(log.topics()) == 1
        good = await ask(url, method="POST", body=b'{"text": "two"}', headers=about)
        assert good.status == (202 if prefer else 200), "the idempotency key belongs to no other request"
        await eventually("it is over", lambda: not keeper.busy and not _tasks)
        assert (await ask(url)).data == ["two"]
    assert [note for note in notes if note != "failed"] == ["finished"] * 2
    assert notes.count("failed") in ((0,) if kind in ("generator", "stream") else (2,)), "on_end is called whatever the ending"
    own = [record for record in caplog.records if record.name.partition(".")[0] in ("django", "django_agent_sse")]
    assert [record.getMessage() for record in own if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(("error", "status"), [(Http404("no such chat"), 404), (PermissionDenied("not yours"), 403)])
async def test_what_django_answers_is_answered(error: Exception, status: int, log: EventLog) -> None:
    router = Router()

    @router.run("chat/<slug:chat>/")
    async def talk(c: Context, run: AsyncRun, chat: str) -> None:
        await asyncio.sleep(0.01)
        raise error

    with served(router):
        assert (await ask("/chat/1/", method="POST")).status == status
    assert log.topics() == []


@pytest.mark.parametrize("late", ["after the answer", "after a write"])
async def test_where_it_comes_too_late_the_run_has_failed_and_no_error_of_the_project_is_logged(
    late: str, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    router, go = Router(), asyncio.Event()

    @router.run("chat/<slug:chat>/", commit_after=0.01 if late == "after the answer" else 30)
    async def talk(c: Context, run: AsyncRun, chat: str) -> None:
        if late == "after a write":
            await run.write("begun")
        await go.wait()
        await c.json_body()

    with served(router):
        client = connect("/chat/1/", method="POST", body=b"{")
        await eventually("the answer has begun", lambda: client.status is not None)
        assert client.status == 200
        go.set()
        await client.over()
        await eventually("it is over", lambda: not keeper.busy and not _tasks)
        (topic,) = log.topics()
        assert log.state(topic).closed == "failed"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING and "refused" in record.getMessage()]
    assert record.levelno == logging.WARNING


async def test_a_client_that_leaves_before_the_answer_begins_stops_the_run_where_its_leaving_does(log: EventLog) -> None:
    router, begun, notes = Router(), asyncio.Event(), []

    @router.run("chat/<slug:chat>/", on_disconnect="cancel", commit_after=30)
    async def talk(c: Context, run: AsyncRun, chat: str) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            notes.append(str(run.ending))

    with served(router):
        client = connect("/chat/1/", method="POST")
        await begun.wait()
        await client.disconnect()
        await eventually("it is stopped", lambda: notes)
    assert notes == ["stopped"]


# HEAD


async def test_head_names_the_run_that_get_reads_and_starts_nothing(log: EventLog) -> None:
    router, go, begun = Router(), asyncio.Event(), []

    @router.run("chat/<slug:chat>/")
    async def talk(c: Context, run: AsyncRun, chat: str) -> None:
        begun.append(run.id)
        await run.write("begun")
        await go.wait()

    @router.sse("report/", resumable=True)
    async def report(c: Context, stream: Any) -> None:
        begun.append("report")

    with served(router):
        assert (await ask("/chat/1/", method="HEAD")).status == 204
        assert (await ask("/report/", method="HEAD")).status == 200
        assert (begun, log.topics()) == ([], [])
        url = (await ask("/chat/1/", method="POST", headers={"prefer": "respond-async"})).headers["location"]
        for path in ("/chat/1/", url):
            head = await ask(path, method="HEAD")
            assert (head.status, head.headers["location"], head.body) == (200, url, b""), path
            assert (head.headers["x-run-id"], head.headers["content-type"]) == (begun[0], "text/event-stream")
        assert (await ask(f"/chat/1/run_{'x' * 16}/", method="HEAD")).status == 404
        go.set()
        await eventually("it is over", lambda: not keeper.busy and not _tasks)
        assert (await ask("/chat/1/", method="HEAD")).headers["location"] == url
