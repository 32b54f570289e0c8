"""Threads for sync code, each with one user at a time: made when there is work, lent out, and bounded in number.

The first call of a ``ConnectionHold`` takes a thread from the pool, and with it that thread's database connections; they are its
own until it rests. Beyond the pool's number calls wait in line, the first to come first.

This is not `pools.Pool`: there a call has no thread before it begins and nothing after it ends; here both belong to somebody
across calls, and most of what stands below is about taking them away again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from itertools import count, islice
from queue import Empty, SimpleQueue
from typing import Any

from .. import conf
from .connections import OwnConnections, Prepare
from .pools import IDLE_SECONDS, Call, P, R
from .process import PerProcess

logger = logging.getLogger("django_agent_sse.threads")

RESTING_SECONDS = 0.05
"""For so long a user that rests keeps its thread and its connections, unless others want them."""
AT_ONCE = 4
"""So many threads are made as soon as there is work for them; more when the line does not move, or moves slowly."""
GROW_SECONDS = 0.1
"""A line that has not moved for so long does not: who waits in it gets a thread, as long as there may be more."""
SLOW_SECONDS = 0.25
"""A line whose first has waited for so long moves slowly: there is one more thread each time, as often."""
LONG_WAIT = 5.0
"""Who waits longer in line than this is written to the log, once in ``SAY_AGAIN`` seconds."""
SAY_AGAIN = 60.0
LOOK_SECONDS = 1.0


class ConnectionHold(Executor):
    """The executor of one request or one stream, with a thread, and its database connections, to itself.

    It is false, so that asgiref, which shuts down what is true, does not start a joining thread for every request that ends; and
    its ``shutdown()`` does nothing: ``end()`` does.

    Args:
        pool: Where threads come from.
        prepare: Called with each of Django's wrappers for connections before it is used.
        keeps: Keep the thread from the first call until ``release()``, not only while there is work.
    """

    # One for each open stream, most of them idle: no dict, and no deque until there is a call.
    __slots__ = ("_pool", "calls", "cut_off", "ended", "keeps", "kept", "pinned", "prepare", "worker")

    def __init__(self, pool: WorkerPool, prepare: Prepare | None = None, *, keeps: bool = False) -> None:
        self._pool = pool
        self.prepare = prepare
        self.keeps = keeps
        self.kept = 0
        self.cut_off = self.ended = self.pinned = False
        self.calls: deque[Call] | None = None
        self.worker: WorkerThread | None = None

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn`` on the thread that this has, or on the next one that it gets."""
        call = Call(partial(fn, *args, **kwargs))
        self._pool.add(self, call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing; see ``end``."""

    def keep(self) -> None:
        """Keep the thread and its connections, once it has one, until ``let_go()``."""
        self.kept += 1

    def let_go(self) -> None:
        self.kept -= 1
        self._wake()

    def release(self) -> None:
        """Keep nothing from now on but while there is work."""
        self.keeps = False
        self._wake()

    def cut(self) -> None:
        """Let go now of what was left open: a transaction is rolled back. What is done later begins anew."""
        self.cut_off = True
        self._wake()

    def end(self) -> None:
        """Let go of all, and keep nothing between two calls any more."""
        self.ended, self.keeps = True, False
        self._wake()

    def _wake(self) -> None:
        worker = self.worker  # read once: its thread may take it away at any moment
        if worker is not None:
            worker.wake()

    def leave_pool(self) -> bool:
        """Take the thread that this has out of the pool, which may then make another; false where it has none."""
        return self._pool.let_leave(self)


class WorkerThread:
    """One thread with its connections, lent to one ``ConnectionHold`` at a time.

    It is a daemon: a database that hangs keeps no process from ending.

    Attributes:
        holder: Whose it is.
        held: Whether its holder keeps it though nothing runs: for a transaction, for rows, or because it asked to.
    """

    def __init__(self, name: str, target: Callable[[WorkerThread], None], holder: ConnectionHold, *, cleans_pooled: bool) -> None:
        # Not a condition: the garbage collector may call `wake` while this very thread holds a lock. Putting is reentrant here.
        self._news: SimpleQueue[None] = SimpleQueue()
        self.holder: ConnectionHold | None = holder
        self.held = False
        self.connections = OwnConnections(self.wake, cleans_pooled=cleans_pooled)
        self.thread = threading.Thread(target=target, args=(self,), name=name, daemon=True)

    def wake(self) -> None:
        """See that the thread looks at what there is to do. From anywhere, also from the garbage collector."""
        self._news.put(None)

    def wait(self, seconds: float | None) -> None:
        with contextlib.suppress(Empty):
            self._news.get(timeout=seconds)


class WorkerPool(PerProcess):
    """The threads of one kind.

    Args:
        name: What the threads are called.
        setting: Which of ``AGENT_SSE`` says how many there may be.
        cleans_pooled: See ``OwnConnections``.
        at_once: So many threads are made as soon as there is work for them; all of them where it is ``None``.
    """

    def __init__(self, name: str, setting: str, *, cleans_pooled: bool = True, at_once: int | None = AT_ONCE) -> None:
        self._name = name
        self._setting = setting
        self._cleans_pooled = cleans_pooled
        self._at_once = at_once
        self._numbers = count()
        super().__init__()

    def reset(self) -> None:
        """Start over without threads, as after a fork."""
        self._lock = threading.Lock()
        self._workers: set[WorkerThread] = set()
        self._idle: dict[WorkerThread, None] = {}
        self._resting: dict[WorkerThread, None] = {}
        self._line: dict[ConnectionHold, float] = {}
        self._look_at = self._said_at = self._moved_at = self._grown_at = 0.0

    # Called by holds, from any thread

    def add(self, hold: ConnectionHold, call: Call) -> None:
        """Have ``call`` run on the thread of ``hold``, or on the next one that is free."""
        most: int = conf.setting(self._setting)
        with self._lock:
            if hold.calls is None:
                hold.calls = deque()
            hold.calls.append(call)
            worker = hold.worker
            if worker is not None:
                # Under the lock: from here on nobody can take the thread that rested.
                self._resting.pop(worker, None)
            elif hold not in self._line:
                worker = self._find(hold, most)
                if worker is None:
                    self._line[hold] = time.monotonic()
        if worker is not None:
            worker.wake()
        else:
            call.future.add_done_callback(partial(self._perhaps_leave, hold))
            self._look_later()

    def _perhaps_leave(self, hold: ConnectionHold, future: Future[Any]) -> None:
        """Somebody has cancelled a call: who has no other one leaves the line."""
        if not future.cancelled():
            return
        with self._lock:
            if hold in self._line and all(call.future.cancelled() for call in hold.calls or ()):
                del self._line[hold]
                hold.calls = None

    def let_leave(self, hold: ConnectionHold) -> bool:
        with self._lock:
            worker = hold.worker
            if worker is not None:
                self._workers.discard(worker)
                self._resting.pop(worker, None)
        return worker is not None

    # Which thread

    def _find(self, hold: ConnectionHold, most: int) -> WorkerThread | None:
        # The one that became idle last, so that those that nobody needs reach their end. Else a new one as long as there are few:
        # who rests for a moment should keep what it has. Else one that rests. More are made only for a line that does not move.
        if self._idle:
            worker, _ = self._idle.popitem()
        elif len(self._workers) < (most if self._at_once is None else min(self._at_once, most)):
            return self._start(hold)
        elif self._resting:
            worker = next(iter(self._resting))
            del self._resting[worker]
            if worker.holder is not None:
                worker.holder.worker = worker.holder.calls = None  # it has none: it rests
        else:
            return None
        worker.holder, hold.worker = hold, worker
        return worker

    def _start(self, hold: ConnectionHold) -> WorkerThread | None:
        worker = WorkerThread(f"{self._name}-{next(self._numbers)}", self._run, hold, cleans_pooled=self._cleans_pooled)
        try:
            worker.thread.start()
        except RuntimeError:  # the system has no more
            if self._workers:
                return None
            raise
        self._workers.add(worker)
        hold.worker = worker
        return worker

    def _look_later(self) -> None:
        """See that somebody looks at the line, if nobody will yet. A loop that closes meanwhile loses one look."""
        now = time.monotonic()
        if now < self._look_at:
            return
        pause = GROW_SECONDS if len(self._workers) < conf.setting(self._setting) else LOOK_SECONDS
        self._look_at = now + pause
        with contextlib.suppress(RuntimeError):  # no loop runs here: who gets free looks too
            asyncio.get_running_loop().call_later(pause, self._look, context=contextvars.Context())  # not that of some request

    def _look(self) -> None:
        """Make threads for who has waited, up to the bound."""
        now = time.monotonic()
        self._look_at = 0.0
        with self._lock:
            for hold in list(islice(self._line, self._more(now))):
                if self._start(hold) is not None:
                    del self._line[hold]
            since = next(iter(self._line.values()), now)
            held, size = sum(worker.held for worker in self._workers), len(self._workers)
        if now - since >= LONG_WAIT and now - self._said_at >= SAY_AGAIN:
            self._said_at = now
            logger.warning(
                "sync code waits for %.0f s for one of %d threads (AGENT_SSE[%r]): %d are held by open transactions, by queries "
                "whose rows are being read, or by stream.connection(); the others are busy",
                now - since,
                size,
                self._setting,
                held,
            )
        if self._line:
            self._look_later()

    def _more(self, now: float) -> int:
        """How many threads to make now. More of them do not make a line shorter that waits for the processor."""
        since = next(iter(self._line.values()), now)
        room: int = max(conf.setting(self._setting) - len(self._workers), 0)
        if now - max(since, self._moved_at) >= GROW_SECONDS * 0.9:  # timers of a loop may come a little early
            return room
        if now - max(since, self._grown_at) >= SLOW_SECONDS:
            self._grown_at = now
            return min(room, 1)
        return 0

    # On the threads

    def _run(self, worker: WorkerThread) -> None:
        worker.connections.enter()
        try:
            while (hold := self._next_holder(worker)) is not None:
                self._serve(worker, hold)
                del hold
        finally:
            worker.connections.close()
            with self._lock:  # where it did not end by itself, there may be another in its place
                self._workers.discard(worker)
                if worker.holder is not None:
                    self._hand_over(worker, worker.holder)

    def _serve(self, worker: WorkerThread, hold: ConnectionHold) -> None:
        worker.connections.begin(hold.prepare)
        begun = False
        try:
            while (call := self._next_call(worker, hold, begun)) is not None:
                begun = True
                call.run()
                del call  # what it holds is not kept until there is more
                if not (hold.kept or hold.keeps):
                    worker.connections.give_pooled_back()
        finally:
            worker.connections.clean()

    def _next_holder(self, worker: WorkerThread) -> ConnectionHold | None:
        """Wait for somebody who needs the thread; ``None`` where nobody came for ``IDLE_SECONDS``: the thread ends."""
        # The line is looked at once: whoever comes to it later finds this thread among the idle ones.
        until = time.monotonic() + IDLE_SECONDS
        with self._lock:
            if worker.holder is None and worker in self._workers:
                if self._line:
                    hold = next(iter(self._line))
                    del self._line[hold]
                    worker.holder, hold.worker = hold, worker
                    self._moved_at = time.monotonic()
                else:
                    self._idle[worker] = None
        while True:
            with self._lock:
                if worker.holder is not None:
                    return worker.holder
                if worker not in self._workers or time.monotonic() >= until:
                    self._workers.discard(worker)
                    self._idle.pop(worker, None)
                    return None
            worker.wait(until - time.monotonic())

    def _next_call(self, worker: WorkerThread, hold: ConnectionHold, begun: bool) -> Call | None:
        """Wait for the next call of ``hold``; ``None`` where it rests and the thread is another's, or nobody's."""
        rests_until: float | None = None
        while True:
            # Asked outside the lock, since it looks at each connection. Before the first call nothing of this holder can be open.
            busy = begun and worker.connections.busy
            with self._lock:
                if worker.holder is not hold:
                    return None
                hold.cut_off = hold.cut_off and busy
                held = not (hold.cut_off or hold.ended) and bool(busy or hold.kept or hold.keeps)
                worker.held = held
                # It rests and others wait: the thread is theirs at once. And what is open though nobody keeps it, as after a cut,
                # is let go before anything else is done, or the next call would be part of it.
                if begun and not held and (busy or self._line):
                    self._hand_over(worker, hold)
                    return None
                if hold.calls:
                    return hold.calls.popleft()
                now = time.monotonic()
                rests_until = None if held else rests_until or now + RESTING_SECONDS
                if rests_until is not None:
                    if now >= rests_until or not begun or hold.ended or worker not in self._workers:
                        self._hand_over(worker, hold)
                        return None
                    self._resting[worker] = None
            worker.wait(None if rests_until is None else rests_until - now)

    def _hand_over(self, worker: WorkerThread, hold: ConnectionHold) -> None:
        """The hold has no thread any more; what it still has to do waits in line."""
        # Calls that came in meanwhile go to the end of the line: who has just had a thread must not pass those who wait.
        self._resting.pop(worker, None)
        hold.worker = worker.holder = None
        hold.cut_off = False
        if hold.calls:
            self._line[hold] = time.monotonic()
        else:
            hold.calls = None

    def counts(self) -> tuple[int, int, int]:
        """Return how many threads there are, how many of them are lent, and how many holds wait in line for one."""
        with self._lock:
            return len(self._workers), sum(worker.holder is not None for worker in self._workers), len(self._line)

    def stop(self, seconds: float = 5.0) -> None:
        """End the threads and close their connections, for tests that need a clean process."""
        workers = self._workers
        self.reset()
        for worker in workers:
            if worker.holder is not None:
                worker.holder.end()
            worker.wake()
        for worker in workers:
            worker.thread.join(seconds)
