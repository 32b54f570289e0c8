"""Pools of threads: bounded, made when there is work, ended when there was none, and new in a child."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings

import pytest

from django_agent_sse.runtime import pools
from django_agent_sse.runtime.pools import Pool

PATIENCE = 60.0


def names(pool: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == pool]


def until_gone(name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while names(name):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_threads_are_made_as_they_are_needed_up_to_the_bound() -> None:
    pool, gate = Pool("tests-bounded", 3), threading.Event()
    assert names("tests-bounded") == []
    pool.submit(lambda: None).result(PATIENCE)
    assert len(names("tests-bounded")) == 1
    waiting = [pool.submit(gate.wait, PATIENCE) for _ in range(10)]
    assert len(names("tests-bounded")) <= 3
    gate.set()
    assert [future.result(PATIENCE) for future in waiting] == [True] * 10
    assert len(names("tests-bounded")) == 3
    pool.shutdown()
    assert names("tests-bounded") == []
    assert pool.submit(lambda: 1).result(PATIENCE) == 1, "later work makes another"
    pool.shutdown()


def test_a_bound_may_be_asked_for_each_time() -> None:
    most = [1]
    pool, gate = Pool("tests-asked", lambda: most[0]), threading.Event()
    waiting = [pool.submit(gate.wait, PATIENCE) for _ in range(3)]
    assert len(names("tests-asked")) == 1
    most[0] = 2
    waiting.append(pool.submit(gate.wait, PATIENCE))
    assert len(names("tests-asked")) == 2
    gate.set()
    assert all(future.result(PATIENCE) for future in waiting)
    pool.shutdown()


def test_a_thread_ends_after_the_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.05)
    pool = Pool("tests-idle", 2)
    for number in range(2):
        assert pool.submit(lambda number=number: number).result(PATIENCE) == number
        until_gone("tests-idle")


async def test_it_is_an_executor_and_an_error_is_the_callers() -> None:
    pool, loop = Pool("tests-executor", 1), asyncio.get_running_loop()
    assert await loop.run_in_executor(pool, threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(pool, lambda: 1 / 0)
    for kind in (SystemExit, KeyboardInterrupt):
        with pytest.raises(kind):
            pool.submit(_raise, kind()).result(PATIENCE)
    assert pool.submit(lambda: "alive").result(PATIENCE) == "alive"
    await asyncio.to_thread(pool.shutdown)


def _raise(error: BaseException) -> None:
    raise error


def test_where_no_thread_can_be_had_the_others_do_it_and_without_any_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, gate = Pool("tests-refused", 2), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.submit(lambda: None)
    first = pool.submit(gate.wait, PATIENCE)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        second = pool.submit(lambda: "in its turn")
    gate.set()
    assert first.result(PATIENCE)
    assert second.result(PATIENCE) == "in its turn"
    pool.shutdown()


def test_calls_that_have_not_begun_can_be_cancelled_at_the_end() -> None:
    pool, gate, began = Pool("tests-cancelled", 1), threading.Event(), threading.Event()
    first = pool.submit(lambda: (began.set(), gate.wait(PATIENCE)))
    assert began.wait(PATIENCE)
    second = pool.submit(lambda: None)
    pool.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    gate.set()
    assert first.result(PATIENCE)
    until_gone("tests-cancelled")


def test_a_child_has_no_threads_and_no_work_of_its_parents() -> None:
    pool, gate, began = Pool("tests-forked", 1), threading.Event(), threading.Event()
    first = pool.submit(lambda: (began.set(), gate.wait(PATIENCE)))
    assert began.wait(PATIENCE)
    second = pool.submit(lambda: "the parent's")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are other threads is what is tried
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if pool.submit(lambda: "the child's").result(PATIENCE) == "the child's" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    gate.set()
    assert first.result(PATIENCE)
    assert second.result(PATIENCE) == "the parent's"
    pool.shutdown()
