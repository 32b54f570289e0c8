"""The background loop: one thread, made by the first task and ended with the last; and what a fork and the end do to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from django_agent_sse.runtime.loop import BackgroundLoop, in_pool
from tests.eventlog.processes import run
from tests.inprocess import eventually

PATIENCE = 60.0


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    made = BackgroundLoop()
    yield made
    made.stop(PATIENCE)
    assert made.thread is None


async def forever() -> None:
    await asyncio.Event().wait()


async def test_tasks_share_one_thread_which_ends_with_the_last_one(loop: BackgroundLoop) -> None:
    assert loop.thread is None
    ran: list[threading.Thread] = []

    async def note() -> None:
        ran.append(threading.current_thread())
        await forever()

    one, other = loop.start("one", note), loop.start("other", note)
    await eventually("both run", lambda: len(ran) == 2)
    thread = loop.thread
    assert thread is not None
    assert ran == [thread, thread]
    one.cancel()
    assert await asyncio.to_thread(one.wait, PATIENCE)
    assert loop.thread is thread, "the other one goes on"
    other.cancel()
    assert await asyncio.to_thread(other.wait, PATIENCE)
    assert loop.thread is None
    assert not thread.is_alive()
    loop.start("a third", note)
    await eventually("it runs, on another thread", lambda: len(ran) == 3)
    assert ran[2] is loop.thread


async def test_a_task_that_is_cancelled_cleans_up_before_it_is_done(loop: BackgroundLoop) -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            steps.append("begun")
            await forever()
        finally:
            await asyncio.sleep(0.05)
            steps.append("cleaned")

    task = loop.start("work", work)
    await eventually("it runs", lambda: steps)
    task.cancel()
    assert await asyncio.to_thread(task.wait, PATIENCE)
    assert steps == ["begun", "cleaned"]


async def test_one_that_fails_is_logged_and_the_others_go_on(loop: BackgroundLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("deliberate")

    other, task = loop.start("other", forever), loop.start("the broken one", broken)
    assert await asyncio.to_thread(task.wait, PATIENCE)
    assert "'the broken one' has failed" in caplog.text
    assert "deliberate" in caplog.text
    assert not other.done


async def test_a_blocking_call_holds_no_other_task_up(loop: BackgroundLoop) -> None:
    gate, ticks = threading.Event(), list[int]()

    async def blocks() -> None:
        await in_pool(lambda: gate.wait(PATIENCE))

    async def ticking() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    blocked = loop.start("blocks", blocks)
    loop.start("ticks", ticking)
    await eventually("the other one goes on", lambda: len(ticks) > 20)
    assert not blocked.done
    gate.set()
    assert await asyncio.to_thread(blocked.wait, PATIENCE)


async def test_where_no_thread_can_be_had_whoever_starts_a_task_is_told(
    loop: BackgroundLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            loop.start("one", forever)
    assert loop.thread is None
    assert not loop.start("one", forever).done


async def test_a_forked_child_has_no_thread_and_makes_its_own() -> None:
    code = """
    import logging, warnings
    warnings.simplefilter("ignore")
    logging.disable()
    from django_agent_sse.runtime.loop import background
    from django_agent_sse.runtime.process import on_fork

    began = threading.Event()
    async def work():
        began.set()
        await asyncio.Event().wait()

    task = background.start("work", work)
    assert began.wait(60)
    mine = background.thread
    def broken():
        raise ZeroDivisionError
    on_fork(broken)  # and the next one has its turn all the same
    order = []
    on_fork(lambda: order.append("after"))
    child = os.fork()
    if not child:
        assert background.thread is None and order == ["after"], order
        assert task.done, "it is the parent's"
        began.clear()
        background.start("work", work)
        assert began.wait(60) and background.thread is not mine
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert background.thread is mine and mine.is_alive() and not task.done and not order
    print("fine")
    """
    assert await run(code) == "fine\n"


async def test_the_end_of_a_process_calls_what_was_registered_the_last_first_and_ends_the_loop_after_all_else() -> None:
    code = """
    from django_agent_sse.runtime.loop import background
    from django_agent_sse.runtime.process import on_exit
    def say(word):
        print(word, background.thread is not None, flush=True)
    async def work():
        await asyncio.Event().wait()
    background.start("work", work)
    on_exit(lambda: say("first"))
    over = threading.Event()
    on_exit(lambda: (say("last"), over.set()), twice=True)
    threading.Thread(target=lambda: (over.wait(30), say("another thread"))).start()
    """
    expected = ["last True", "another thread True", "last True", "first True"]
    assert (await run(code)).splitlines() == expected, "what other threads need is there until they are through"
