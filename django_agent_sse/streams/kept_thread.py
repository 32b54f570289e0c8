"""A thread that blocking code keeps for its life, with database connections of its own, counted like those of sync iterators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async

from ..runtime.connections import Prepare
from ..runtime.worker_threads import ConnectionHold
from .threads import in_callers_thread, kept_pool, lifelong


class KeptThread:
    """One thread, counted from now on.

    Args:
        prepare: What is done with each connection that is taken there.

    Raises:
        TooManyThreads: ``AGENT_SSE["PINNED_THREADS"]`` are kept.
    """

    def __init__(self, prepare: Prepare | None) -> None:
        self._hold: Any = None
        if not in_callers_thread():
            lifelong.take()
            self._hold = ConnectionHold(kept_pool, prepare, keeps=True)

    def call(self, function: Callable[[], Any]) -> Awaitable[Any]:
        """Call there, in the context of whoever awaits it; under a test client on the caller's thread."""
        if self._hold is None:
            return sync_to_async(function)()
        return sync_to_async(function, thread_sensitive=False, executor=self._hold)()

    def end(self) -> None:
        """End the thread when its work is over, and with it its connections."""
        if self._hold is not None:
            self._hold.leave_pool()
            self._hold.end()
            self._hold = None
            lifelong.give_back()
