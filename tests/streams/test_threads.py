"""Nothing pinned, nothing shared: which threads the sync code of streams runs on, and asgiref's names behind that."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.utils.decorators import sync_only_middleware

from django_agent_sse import Context, Stream
from django_agent_sse.runtime import worker_threads
from django_agent_sse.streams import threads
from tests.inprocess import eventually, serve

ROOT = Path(__file__).resolve().parents[2]


def thread_name() -> str:
    return threading.current_thread().name


@pytest.fixture(autouse=True)
def _fresh_threads() -> Iterator[None]:
    threads.reset()
    yield
    threads.reset()


# asgiref, pinned


class Direct(Executor):
    """Runs in the caller's thread, and notes whether it was shut down."""

    def __init__(self, truth: bool) -> None:
        self.truth = truth
        self.down = False

    def __bool__(self) -> bool:
        return self.truth

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.down = True


async def test_asgiref_keeps_the_executor_of_a_context_in_a_weak_mapping() -> None:
    assert isinstance(SyncToAsync.context_to_thread_executor, weakref.WeakKeyDictionary)
    async with ThreadSensitiveContext() as scope:
        assert SyncToAsync.thread_sensitive_context.get() is scope
        assert scope not in SyncToAsync.context_to_thread_executor
        name = await sync_to_async(thread_name)()
        own = SyncToAsync.context_to_thread_executor[scope]
        assert isinstance(own, ThreadPoolExecutor)
        assert await sync_to_async(thread_name)() == name
    assert scope not in SyncToAsync.context_to_thread_executor


@pytest.mark.parametrize("truth", [False, True])
async def test_asgiref_takes_what_stands_in_the_mapping_and_shuts_down_only_what_is_true(truth: bool) -> None:
    executor = Direct(truth)
    async with ThreadSensitiveContext() as scope:
        SyncToAsync.context_to_thread_executor[scope] = executor
        assert await sync_to_async(thread_name)() == thread_name()
    assert executor.down is truth


async def test_asgiref_notes_an_executor_that_was_handed_in() -> None:
    executor = Direct(True)
    scope = ThreadSensitiveContext(executor=executor)
    assert scope._executor is executor
    assert ThreadSensitiveContext()._executor is None
    async with scope:
        assert SyncToAsync.context_to_thread_executor[scope] is executor
    assert not executor.down


def test_asgiref_names_the_callers_thread() -> None:
    async def look() -> tuple[bool, str]:
        assert AsyncToSync.executors.current is not None
        assert asyncio.get_running_loop() in AsyncToSync.loop_thread_executors
        return threads.in_callers_thread(), await sync_to_async(thread_name)()

    assert async_to_sync(look)() == (True, thread_name())
    assert not threads.in_callers_thread()


async def test_asgiref_lets_a_context_go_without_the_callers_executor() -> None:
    def run() -> None:
        AsyncToSync.executors.current = Direct(True)

    context = contextvars.copy_context()
    context.run(run)
    assert context.run(threads.in_callers_thread)
    assert not threads.in_callers_thread()


# Streams


async def named(c: Context, stream: Stream) -> None:
    await stream.write(await sync_to_async(thread_name)())
    await stream.write(await sync_to_async(thread_name)())
    await stream.wait_closed()


async def test_the_requests_own_threads_end_and_streams_have_a_few_while_they_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROW_SECONDS", "SLOW_SECONDS"):
        monkeypatch.setattr(worker_threads, name, 60.0)  # a line that moves slowly gets more
    before = set(threading.enumerate())
    async with serve(named) as site:
        clients = [site.connect() for _ in range(20)]
        names = {event.data for client in clients for event in await client.take(2)}
        assert {name.rpartition("-")[0] for name in names} == {"sse-stream"}
        assert len(names) <= worker_threads.AT_ONCE

        def others() -> list[str]:
            return [one.name for one in set(threading.enumerate()) - before if not one.name.startswith("sse-stream")]

        await eventually("only the streams' threads are left", lambda: not others())
        for client in clients:
            client.leave()
        for client in clients:
            await client.over()
        await eventually("they are gone again", lambda: not others())


@sync_only_middleware
def sync_middleware(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.stamp = thread_name()
        return get_response(request)

    return middleware


async def test_sync_code_works_before_and_after_the_commit_under_a_sync_middleware() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        before = await sync_to_async(thread_name)()
        await stream.write(before)
        await asyncio.sleep(0.02)
        await stream.write(await sync_to_async(thread_name)())
        task = asyncio.create_task(sync_to_async(thread_name)())
        await stream.write(await task)
        await stream.wait_closed()

    async with serve(handler, settings={"MIDDLEWARE": [f"{__name__}.sync_middleware"]}) as site:
        names = {event.data for event in await site.connect().take(3)}
        assert {name.rpartition("-")[0] for name in names} == {"sse-stream"}


async def test_a_context_variable_of_the_request_is_seen_and_one_of_the_handlers_stays_its_own() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def guard(c: Context) -> bool:
        variable.set("guard's")
        return True

    async def handler(c: Context, stream: Stream) -> None:
        seen.append(variable.get())
        stream.on_end(lambda: seen.append(variable.get()))
        variable.set("handler's")
        await stream.write("x")

    async with serve(handler, guards=[guard]) as site:
        await site.connect().rest()
        await eventually("on_end has run", lambda: len(seen) == 2)
    assert seen[0] == "guard's"
    assert variable.get() == "unset"


# The request's end


async def test_what_middleware_left_on_the_requests_thread_is_closed_when_the_stream_begins() -> None:
    """The thread of Django's own executor ends as soon as the middleware that ran on it is through."""
    seen: list[threading.Thread] = []

    def look(get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            seen.append(threading.current_thread())
            return get_response(request)

        return middleware

    look.sync_capable, look.async_capable = True, False  # type: ignore[attr-defined]
    globals()["looking"] = look
    async with serve(named, settings={"MIDDLEWARE": [f"{__name__}.looking"]}) as site:
        await site.connect().take(2)
        (thread,) = seen
        await eventually("it has ended", lambda: not thread.is_alive())


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.site.settings"
import django
django.setup()
from django_agent_sse.runtime.worker_threads import ConnectionHold
from django_agent_sse.streams.threads import lifelong
from django_agent_sse.streams.threads import stream_pool
from django_agent_sse.streams.registry import registry
hold = ConnectionHold(stream_pool)
hold.submit(lambda: None).result()
lifelong.take()
locked = [threads._lock for threads in (lifelong, registry._loops, stream_pool)]
for lock in locked:
    lock.acquire()
pid = os.fork()
if pid == 0:
    assert stream_pool.counts()[0] == 0
    assert ConnectionHold(stream_pool).submit(os.getpid).result(60) == os.getpid()
    assert lifelong.taken == 0
    lifelong.take()
    lifelong.give_back()
    registry.loops()
    os._exit(7)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_forked_child_makes_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 7, done.stderr
