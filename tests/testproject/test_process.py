"""A child process and its pipes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from builds.process import BUFFER, ChildProcess

PATIENCE = 10
ENDLESS = "import os\nwhile True: os.write(1, b'x' * 65536)"
LEAVES = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid); sys.stdout.flush()"


@pytest.fixture
async def started() -> AsyncIterator[list[ChildProcess]]:
    """Processes to be ended after the test."""
    processes: list[ChildProcess] = []
    yield processes
    for process in processes:
        process.close()
        await asyncio.wait_for(process.wait(), PATIENCE)


async def run(started: list[ChildProcess], program: str) -> ChildProcess:
    process = await ChildProcess.start([sys.executable, "-c", program], cwd=Path("/"), env=dict(os.environ))
    started.append(process)
    return process


async def test_both_outputs_and_the_exit_code(started: list[ChildProcess]) -> None:
    process = await run(started, "import sys; print('a'); print('b', file=sys.stderr); sys.exit(7)")
    assert (await process.stdout.read(), await process.stderr.read()) == (b"a\n", b"b\n")
    assert await process.wait() == 7


async def test_a_signal_is_a_negative_exit_code(started: list[ChildProcess]) -> None:
    process = await run(started, "import signal; signal.pause()")
    os.killpg(process.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL


async def test_the_input_is_empty(started: list[ChildProcess]) -> None:
    process = await run(started, "import sys; print(repr(sys.stdin.read()))")
    assert await asyncio.wait_for(process.stdout.read(), PATIENCE) == b"''\n"


async def test_output_that_nobody_reads_stays_with_the_process(started: list[ChildProcess]) -> None:
    process = await run(started, ENDLESS)
    await process.stdout.readexactly(1)
    async with asyncio.timeout(PATIENCE):
        while len(process.stdout._buffer) <= 2 * BUFFER:  # noqa: ASYNC110  (a reader has no event for being full)
            await asyncio.sleep(0.01)
    held = len(process.stdout._buffer)
    await asyncio.sleep(0.1)
    assert len(process.stdout._buffer) == held < 8 * BUFFER


async def test_the_end_does_not_wait_for_what_was_left_behind(started: list[ChildProcess]) -> None:
    process = await run(started, LEAVES)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    left = int(await process.stdout.readline())
    assert not process.stdout.at_eof()
    os.killpg(process.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.stdout.read(), PATIENCE) == b""
    assert left != process.pid


async def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        await ChildProcess.start(["/nonexistent/program"], cwd=Path("/"), env={})
