"""Threads that streams keep for their life, counted: those of sync iterators, and of routes that are ``pinned``."""

from __future__ import annotations

import threading

from .. import conf
from ..exceptions import TooManyThreads
from ..runtime.process import on_fork
from ..runtime.worker_threads import WorkerPool


class Lifelong:
    """Counts the threads that streams of this process keep."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """None is taken, as after a fork."""
        self._lock = threading.Lock()
        self.taken = 0

    @property
    def exhausted(self) -> bool:
        """Whether none may be taken."""
        most: int = conf.setting("PINNED_THREADS")
        return self.taken >= most

    def take(self) -> None:
        """Count one more.

        Raises:
            TooManyThreads: ``AGENT_SSE["PINNED_THREADS"]`` are taken.
        """
        with self._lock:
            if self.exhausted:
                raise TooManyThreads(
                    f"{self.taken} streams of this process keep a thread of their own, as sync generators, blocking iterators in "
                    "pipe() and pinned routes do, and AGENT_SSE['PINNED_THREADS'] lets no more; write the handler as an async "
                    "generator, which needs none, or raise that number"
                )
            self.taken += 1

    def give_back(self) -> None:
        """Count one less."""
        with self._lock:
            self.taken -= 1


lifelong = Lifelong()
kept_pool = WorkerPool("sse-kept", "PINNED_THREADS", at_once=None)
"""Its threads are counted before they are asked for, so that none waits in line."""
on_fork(lifelong.reset)
