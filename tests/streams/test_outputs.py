"""The output of files, pipes and processes: lines of any length, bars as they are drawn, and an end with the stream."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from django_agent_sse import Context, Event, Stream
from django_agent_sse.exceptions import ArgumentInvalid
from django_agent_sse.runs.sources import items
from django_agent_sse.streams import sources
from django_agent_sse.streams.registry import open_streams
from django_agent_sse.streams.sources import MAX_LINE_BYTES, chunks_of, lines_of
from django_agent_sse.wire import drawing
from django_agent_sse.wire.redraws import redraw_of
from tests.inprocess import Client, Site, eventually, serve

Start = Callable[..., Awaitable[Any]]


async def asynchronous(*command: str, **how: Any) -> asyncio.subprocess.Process:
    return await create_subprocess_exec(*command, stdout=PIPE, **how)


async def plain(*command: str, **how: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=PIPE, **how)


async def text(*command: str, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=PIPE, text=True, **how)


every_process = pytest.mark.parametrize("start", [asynchronous, plain, text], ids=lambda start: start.__name__)


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-u", "-c", code


async def lines(source: Any) -> list[str | Event]:
    return [line async for line in lines_of(source)]


def is_gone(pid: int) -> bool:
    """Whether a process is over, though nobody may have waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# Lines


@every_process
async def test_lines_of_any_length_come_whole_and_beyond_the_limit_with_a_mark(start: Start) -> None:
    code = f"print('short'); print('x' * 70_000); print('y' * {MAX_LINE_BYTES + 10}); print('last', end='')"
    process = await start(*python(code))
    short, long, cut, rest, last = await lines(process)
    assert (short, long, last) == ("short", "x" * 70_000, "last")
    assert (len(cut.encode()), cut[-1], set(cut[:-1]), set(rest)) == (MAX_LINE_BYTES, "…", {"y"}, {"y"})
    assert len(cut[:-1]) + len(rest) == MAX_LINE_BYTES + 10
    (process.wait() if isinstance(process, subprocess.Popen) else await process.wait())


@every_process
async def test_a_bar_of_carriage_returns_arrives_as_it_is_drawn_and_is_one_line(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "INTERVAL", 0.01)
    code = f"""
import pathlib, sys, time
for step in range(3):
    sys.stdout.write(f"\\r{{step}}0%" * 20)
    sys.stdout.flush()
    while not pathlib.Path({str(tmp_path)!r}, str(step)).exists():
        time.sleep(0.01)
sys.stdout.write("\\rdone\\n")
"""
    process = await start(*python(code))
    drafts, lines = [], []
    async for item in lines_of(process, "stderr"):
        if isinstance(item, Event):
            said = redraw_of(item.event, item.data)
            assert said is not None
            assert (said[0], said[1].lines) == ("stderr", 0)
            drafts.append(said[1].text)
            (tmp_path / drafts[-1][:1]).touch()
        else:
            lines.append(item)
    assert (drafts, lines) == (["00%", "10%", "20%", ""], ["done"])
    (process.wait() if isinstance(process, subprocess.Popen) else await process.wait())


async def test_a_bar_in_a_text_file_is_one_line_for_sync_code_too(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"start\r\n" + b"".join(b"\r%d%%" % step for step in range(600)) + b"\nend")
    for how in ({"mode": "r"}, {"mode": "rb"}, {"mode": "rb", "buffering": 0}):
        (tmp_path / "log").touch()
        found = [item for item in items((tmp_path / "log").open(**how), "pipe") if not isinstance(item, Event)]  # type: ignore[call-overload]
        assert found == ["start", "599%", "end"]
    assert [item for item in await lines((tmp_path / "log").open()) if not isinstance(item, Event)] == ["start", "599%", "end"]


async def test_what_is_no_utf8_is_shown_and_nothing_stops() -> None:
    assert await lines(io.BytesIO(b"a\xffb\n\xe2\x82")) == ["a\ufffdb", "\ufffd"]
    assert await lines(io.StringIO("lone \ud800\n")) == ["lone ?"]


class Lines:
    """A file of another kind, whose lines come without their ends."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def readline(self) -> str:
        raise AssertionError("it is iterated")

    def close(self) -> None:
        self.closed = True

    def __iter__(self) -> Any:
        return iter(self.lines)


class AsyncLines(Lines):
    async def __aiter__(self) -> AsyncIterator[str]:  # type: ignore[override]
        for line in self.lines:
            yield line

    __iter__ = None  # type: ignore[assignment]


async def test_files_of_other_kinds_keep_their_lines() -> None:
    assert await lines(file := Lines("a", "b\n", "", "c")) == ["a", "b", "", "c"]
    assert file.closed
    assert await lines(AsyncLines("a", "b\n", "", "c")) == ["a", "b", "", "c"]


async def test_a_raw_file_is_read_as_it_comes(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    raw = (tmp_path / "log").open("rb", buffering=0)
    assert await lines(raw) == ["one", "two"]
    assert raw.closed


async def test_chunks_are_the_bytes_as_they_are() -> None:
    assert (
        b"".join([chunk async for chunk in chunks_of(io.BytesIO(b"data: a\r\n\r\ndata: b\n\n"))]) == b"data: a\r\n\r\ndata: b\n\n"
    )


async def test_a_process_without_a_pipe_says_how_to_start_it() -> None:
    process = await create_subprocess_exec("true")
    with pytest.raises(ArgumentInvalid, match="stdout=PIPE"):
        await lines(process)
    await process.wait()


# The end


def let_its_time_pass(site: Site, client: Client) -> None:
    """Look at its clock as an hour later. A time that did pass might do so before a busy machine has started the process."""
    for stream in open_streams():
        cast(Any, stream)._transport.tick(asyncio.get_running_loop().time() + HOUR)


async def has_begun(client: Client) -> None:
    """Wait until the first line is out; that there is a body says nothing, which may begin before the process does."""
    await eventually("the first line is out", lambda: b"begun" in b"".join(client.chunks), within=START_SECONDS)


HOUR = 3600.0
START_SECONDS = 60.0
ENDINGS: dict[str, Callable[[Site, Client], Any]] = {
    "client_disconnect": lambda site, client: client.leave(),
    "handler_error": lambda site, client: None,
    "max_duration": let_its_time_pass,
    "completed": lambda site, client: None,
}
ENDLESS = "import time\nprint('begun')\nwhile True: time.sleep(0.05); print('still')"


@every_process
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_process_is_ended_with_the_stream_whatever_the_ending(ending: str, start: Start) -> None:
    started: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        started.append(await start(*python(ENDLESS)))
        if ending in ("client_disconnect", "max_duration"):
            await stream.pipe(started[0])
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(stream.pipe(started[0]))
            await has_begun(site.clients[0])
            if ending == "handler_error":
                raise ValueError("deliberate")
            stream.close()

    about = {"max_duration": HOUR} if ending == "max_duration" else {"close_grace": 0.1}
    async with serve(handler, **about) as site:
        client = site.connect()
        await has_begun(client)
        assert (await client.event()).data == "begun"
        ENDINGS[ending](site, client)
        await client.over()
        await eventually("it is over", lambda: is_gone(started[0].pid))
    await _reap(started[0])


async def test_the_pipe_of_a_process_ends_it_too() -> None:
    started: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        started.append(await asynchronous(*python("import time\nprint('begun')\ntime.sleep(60)")))
        await stream.pipe(started[0].stdout)

    async with serve(handler) as site:
        client = site.connect()
        await has_begun(client)
        client.leave()
        await client.over()
        await eventually("it is over", lambda: is_gone(started[0].pid))
        await started[0].wait()


@pytest.mark.parametrize("start", [asynchronous, plain], ids=lambda start: start.__name__)
async def test_a_process_that_leads_a_group_goes_with_its_children(start: Start) -> None:
    process = await start("sh", "-c", "sleep 60 & echo $!; wait", start_new_session=True)
    reading = lines_of(process)
    child = int(await anext(reading))
    await reading.aclose()
    await eventually("both are over", lambda: is_gone(process.pid) and is_gone(child))
    await _reap(process)


@pytest.mark.parametrize("start", [asynchronous, plain], ids=lambda start: start.__name__)
async def test_who_is_deaf_to_sigterm_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "END_TIMEOUT", 0.1)
    process = await start(*python("import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('begun')\ntime.sleep(60)"))
    reading = lines_of(process)
    await anext(reading)
    await reading.aclose()
    await _reap(process)
    assert process.returncode == -9


async def test_a_process_that_was_read_to_its_end_is_left_alone(tmp_path: Path) -> None:
    code = f"import os, pathlib, time\nos.close(1)\ntime.sleep(0.2)\npathlib.Path({str(tmp_path / 'worked')!r}).touch()"
    process = await asynchronous(*python(code))
    assert await lines(process) == []
    assert await process.wait() == 0
    assert (tmp_path / "worked").exists()


async def _reap(process: Any) -> None:
    if isinstance(process, subprocess.Popen):
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    else:
        await process.wait()


def test_private_names_of_asyncio_that_are_used_here() -> None:
    """A ``StreamReader`` does not give its transport away, and a pipe's protocol knows its process as ``proc``."""

    async def look() -> None:
        process = await asynchronous("true")
        assert process.stdout is not None
        protocol = process.stdout._transport.get_protocol()  # type: ignore[attr-defined]
        assert protocol.proc.get_pid() == process.pid
        await process.wait()

    asyncio.run(look())
    assert os.name == "posix"
