"""SIGTERM and SIGINT, in processes of their own: the streams end, then what would have happened happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_agent_sse.streams import shutdown
from tests import warm
from tests.timing import bound

ROOT = Path(__file__).resolve().parents[2]
WITHIN = 120.0
AT_ONCE = bound(2.0, 60.0)

PREAMBLE = """
import asyncio, os, signal, sys, threading, django
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.site.settings"
django.setup()
from django_agent_sse.streams import shutdown
from django_agent_sse.streams.registry import registry
from tests.inprocess import serve

def say(*words):
    print(*words, flush=True)

async def stays(c, stream):
    stream.on_end(lambda: say("on_end", stream.ending))
    try:
        await stream.write("hello")
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        say("finally")

async def main(handler=stays):
    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        say("ready")
        await client.rest()
        say("client over")
"""


class Process:
    """A Python process with one open stream."""

    def __init__(self, script: str) -> None:
        self.process = warm.Popen(
            [sys.executable, "-m", "tests.program", PREAMBLE + textwrap.dedent(script)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.into, self.out = self.process.stdin, self.process.stdout
        self.until_ready()

    def until_ready(self) -> None:
        seen: list[str] = []
        for line in self.out:
            if line == "ready\n":
                return
            seen.append(line)
        raise AssertionError(f"the process ended: {''.join(seen)}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[list[str], int, float]:
        """Signal it; return what it said, its exit status, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.rest(), self.process.wait(), time.monotonic() - began

    def rest(self) -> list[str]:
        """What it says to its end, which comes in time or by force; through the buffer that ``until_ready`` read from."""
        force = threading.Timer(WITHIN, self.process.kill)
        force.start()
        said = self.out.read().splitlines()
        force.cancel()
        return said


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for one in started:
        one.process.kill()
        one.process.wait()
        one.into.close()
        one.out.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_servers_own_handler_is_called_after_ours_and_finally_runs(processes: list[Process], number: signal.Signals) -> None:
    processes.append(
        Process(f"""
        signal.signal({int(number)}, lambda number, frame: say("the server's own", number, registry.closing))
        asyncio.run(main())
        """)
    )
    said, status, took = processes[0].end(number)
    assert said[:2] == [f"the server's own {int(number)} True", "finally"]
    assert sorted(said[2:]) == ["client over", "on_end shutdown"]
    assert status == 0
    assert took < AT_ONCE


def test_the_default_action_waits_for_the_streams_and_then_kills(processes: list[Process]) -> None:
    processes.append(
        Process("""
        async def both():
            await main()
            await asyncio.Event().wait()
        asyncio.run(both())
        """)
    )
    said, status, took = processes[0].end()
    assert said[:1] == ["finally"]
    assert "on_end shutdown" in said
    assert status == -signal.SIGTERM
    assert took < AT_ONCE


def test_the_default_action_does_not_wait_for_ever(processes: list[Process]) -> None:
    processes.append(
        Process("""
        async def stubborn(c, stream):
            await stream.write("hello")
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    say("no")
        shutdown.WAIT_SECONDS = 0.3
        asyncio.run(main(stubborn))
        """)
    )
    said, status, took = processes[0].end()
    assert said[0] == "no"
    assert status == -signal.SIGTERM
    assert 0.2 < took < AT_ONCE


def test_an_ignored_signal_ends_neither_the_process_nor_its_streams(processes: list[Process]) -> None:
    processes.append(
        Process("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        async def asks(c, stream):
            await stream.write("hello")
            await asyncio.to_thread(sys.stdin.readline)
            say(stream.ending, registry.closing)
        asyncio.run(main(asks))
        """)
    )
    processes[0].process.send_signal(signal.SIGINT)
    processes[0].into.write("go on\n")
    processes[0].into.flush()
    assert processes[0].rest() == ["None False", "client over"]
    assert processes[0].process.wait() == 0


def test_sigint_under_asyncio_run_is_a_keyboard_interrupt_after_the_streams(processes: list[Process]) -> None:
    processes.append(
        Process("""
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("KeyboardInterrupt")
        """)
    )
    said, status, _ = processes[0].end(signal.SIGINT)
    assert said[-1] == "KeyboardInterrupt"
    assert "finally" in said
    assert status == 0


def test_a_handler_that_a_server_puts_back_is_chained_again_at_the_next_stream(processes: list[Process]) -> None:
    processes.append(
        Process("""
        def own(number, frame):
            say("own")
        async def twice():
            async def short(c, stream):
                await stream.write("x")
            signal.signal(signal.SIGTERM, own)
            async with serve(short) as site:
                await site.connect().rest()
            signal.signal(signal.SIGTERM, own)
            await main()
        asyncio.run(twice())
        """)
    )
    said, status, _ = processes[0].end()
    assert said[0] == "own"
    assert said.count("own") == 1
    assert "finally" in said
    assert status == 0


def test_a_stream_on_the_loop_of_another_thread_is_ended_too(processes: list[Process]) -> None:
    processes.append(
        Process("""
        async def first():
            async def short(c, stream):
                await stream.write("x")
            async with serve(short) as site:
                await site.connect().rest()
        signal.signal(signal.SIGTERM, lambda number, frame: say("own"))
        asyncio.run(first())
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
        say("joined")
        """)
    )
    said, status, _ = processes[0].end()
    assert said.count("own") == 1
    assert "finally" in said
    assert said[-1] == "joined"
    assert status == 0


# In this process


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[int, object]:
    """Signal handlers of this process as a table of the test's own."""
    table: dict[int, object] = dict.fromkeys(shutdown.SIGNALS, signal.SIG_DFL)
    monkeypatch.setattr(shutdown.signal, "getsignal", table.__getitem__)
    monkeypatch.setattr(shutdown.signal, "signal", table.__setitem__)
    monkeypatch.setattr(shutdown, "_installed", {})
    return table


def test_watching_again_changes_nothing_while_ours_is_in_force(installed: dict[int, object]) -> None:
    shutdown.watch_signals()
    before = dict(installed)
    shutdown.watch_signals()
    assert installed == before
    assert before == shutdown._installed, "both are ours"


def test_somebody_elses_handler_between_two_of_ours_makes_no_circle(
    installed: dict[int, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr(shutdown.registry, "end_all", lambda ending: called.append(str(ending)))
    installed[signal.SIGTERM] = lambda number, frame: called.append("the first")
    shutdown.watch_signals()
    ours = installed[signal.SIGTERM]

    def theirs(number: int, frame: object) -> None:
        called.append("the second")
        ours(number, frame)  # type: ignore[operator]

    installed[signal.SIGTERM] = theirs
    shutdown.watch_signals()
    installed[signal.SIGTERM](signal.SIGTERM, None)  # type: ignore[operator]
    assert called == ["shutdown", "the second", "shutdown", "the first"]


def test_only_the_main_thread_installs_them(installed: dict[int, object]) -> None:
    thread = threading.Thread(target=shutdown.watch_signals)
    thread.start()
    thread.join()
    assert set(installed.values()) == {signal.SIG_DFL}


FORK = """
before = registry
async def parent():
    async with serve(stays) as site:
        client = site.connect()
        await client.event()
        assert len(registry.loops()) == 1
        pid = os.fork()
        if pid == 0:
            os._exit(len(registry.loops()) + registry.closing)
        say("ready")
        say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        client.leave()
        await client.over()
asyncio.run(parent())
"""


def test_a_forked_child_has_no_streams(processes: list[Process]) -> None:
    processes.append(Process("import warnings; warnings.simplefilter('ignore')\n" + FORK))
    assert "child 0" in processes[0].rest()
