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
from concurrent.futures import Future
from functools import partial
from itertools import count, islice
from typing import Any

from .connection_holds import Call, ConnectionHold, WorkerThread
from .pools import IDLE_SECONDS
from .process import on_fork

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


class WorkerPool:
    """The threads of one kind.

    Args:
        name: What the threads are called.
        most: Asked for the most threads.
        setting: Which setting says so, for the log.
        cleans_pooled: See ``OwnConnections``.
        at_once: So many threads are made as soon as there is work for them; all of them where it is ``None``.
    """

    def __init__(
        self, name: str, most: Callable[[], int], setting: str, *, cleans_pooled: bool, at_once: int | None = AT_ONCE
    ) -> None:
        self.name = name
        self.cleans_pooled = cleans_pooled
        self._most = most
        self._at_once = at_once
        self._setting = setting
        self._numbers = count()
        self.forget()
        on_fork(self.forget)

    def forget(self) -> None:
        """Start over without threads, as after a fork."""
        self._lock = threading.Lock()
        self._workers: set[WorkerThread] = set()
        self._idle: list[WorkerThread] = []
        self._resting: dict[WorkerThread, None] = {}
        self._held: set[WorkerThread] = set()
        self._line: dict[ConnectionHold, float] = {}
        self._look_at = self._said_at = self._moved_at = self._grown_at = 0.0

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    @property
    def waiting(self) -> int:
        """How many holds wait for a thread."""
        return len(self._line)

    # Called by holds, from any thread

    def add(self, hold: ConnectionHold, call: Call) -> None:
        """Have ``call`` run on the thread of ``hold``, or on the next one that is free."""
        most = self._most()
        with self._lock:
            if hold.calls is None:
                hold.calls = deque()
            hold.calls.append(call)
            worker = hold.worker
            if worker is not None:
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
        if future.cancelled():
            with self._lock:
                if hold not in self._line or hold.calls is None:
                    return
                while hold.calls and hold.calls[0].future.cancelled():
                    hold.calls.popleft()
                if not hold.calls:
                    del self._line[hold]
                    hold.calls = None

    def let_leave(self, hold: ConnectionHold) -> bool:
        """See ``ConnectionHold.leave_pool``."""
        with self._lock:
            worker = hold.worker
            if worker is not None:
                worker.own = True
                self._workers.discard(worker)
                self._resting.pop(worker, None)
                self._held.discard(worker)
        return worker is not None

    # Which thread

    def _find(self, hold: ConnectionHold, most: int) -> WorkerThread | None:
        if self._idle:
            worker = self._idle.pop()
        elif len(self._workers) < (most if self._at_once is None else min(self._at_once, most)):
            return self._start(hold)
        elif self._resting:
            worker = next(iter(self._resting))
            del self._resting[worker]
            if worker.holder is not None:
                worker.holder.worker = worker.holder.calls = None
        else:
            return None
        worker.holder, hold.worker = hold, worker
        return worker

    def _start(self, hold: ConnectionHold) -> WorkerThread | None:
        worker = WorkerThread(f"{self.name}-{next(self._numbers)}", self._run, hold, cleans_pooled=self.cleans_pooled)
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
        pause = GROW_SECONDS if len(self._workers) < self._most() else LOOK_SECONDS
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
            held, size = len(self._held), len(self._workers)
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
        room = max(self._most() - len(self._workers), 0)
        if now - max(since, self._moved_at) >= GROW_SECONDS * 0.9:
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
        connections = worker.connections
        connections.begin(hold.prepare)
        begun = False
        try:
            while (call := self._next_call(worker, hold, begun)) is not None:
                begun = True
                call.run()
                del call  # what it holds is not kept until there is more
                if not (hold.kept or hold.keeps):
                    connections.give_pooled_back()
        finally:
            connections.clean()

    def _next_holder(self, worker: WorkerThread) -> ConnectionHold | None:
        """Wait for somebody who needs the thread; ``None`` where nobody came for ``IDLE_SECONDS``: the thread ends."""
        until = time.monotonic() + IDLE_SECONDS
        with self._lock:
            if worker.holder is None and worker in self._workers:
                if self._line:
                    hold = next(iter(self._line))
                    del self._line[hold]
                    worker.holder, hold.worker = hold, worker
                    self._moved_at = time.monotonic()
                else:
                    self._idle.append(worker)
        while True:
            with self._lock:
                if worker.holder is not None:
                    return worker.holder
                if worker not in self._workers or time.monotonic() >= until:
                    self._workers.discard(worker)
                    if worker in self._idle:
                        self._idle.remove(worker)
                    return None
            worker.wait(until - time.monotonic())

    def _next_call(self, worker: WorkerThread, hold: ConnectionHold, begun: bool) -> Call | None:
        """Wait for the next call of ``hold``; ``None`` where it rests and the thread is another's, or nobody's."""
        rests_until: float | None = None
        while True:
            busy = begun and worker.connections.busy
            with self._lock:
                if worker.holder is not hold:
                    return None
                hold.cut_off = hold.cut_off and busy
                held = self._is_held(worker, hold, busy)
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

    def _is_held(self, worker: WorkerThread, hold: ConnectionHold, busy: bool) -> bool:
        stopped = worker not in self._workers and not worker.own
        held = not (hold.cut_off or hold.ended or stopped) and bool(busy or hold.kept or hold.keeps)
        (self._held.add if held and not worker.own else self._held.discard)(worker)
        return held

    def _hand_over(self, worker: WorkerThread, hold: ConnectionHold) -> None:
        """The hold has no thread any more; what it still has to do waits in line."""
        self._resting.pop(worker, None)
        hold.worker = worker.holder = None
        hold.cut_off = False
        if hold.calls:
            self._line[hold] = time.monotonic()
        else:
            hold.calls = None

    def stop(self, seconds: float = 5.0) -> None:
        """End the threads and close their connections, for tests that need a clean process."""
        workers = self._workers
        self.forget()
        for worker in workers:
            worker.wake()
        for worker in workers:
            worker.thread.join(seconds)
