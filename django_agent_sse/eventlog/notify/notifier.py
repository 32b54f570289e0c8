"""The bell across processes: one thread, with an event loop of its own, that looks for what others published and rings for them.

It is made by the first topic that is followed in a log that crosses processes, or by the first publish to one where a channel
layer reaches other processes; and anew after a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  its end is registered before ours, and so comes after it
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from django.core.signals import setting_changed

from ..base import EventLog
from ..failure_log import BELL
from .channel_layer import LayerBell, Outbox, layer_configured
from .local import LocalBell, bell
from .poll import Heads, Poll, Watch

logger = logging.getLogger(BELL)

FLUSH = 1.0
"""Seconds that the end of the process waits for bells that are not sent yet, and again for the thread."""
LOAD = 10.0
"""Seconds before that for importing the layer, which a short script's end would else overtake: work, that waits for nobody."""
JOIN = 5.0
"""Seconds that ``reset()`` waits for the thread."""


class Ringer:
    """One per process.

    Args:
        bell: The local one.
    """

    def __init__(self, bell: LocalBell) -> None:
        self._bell = bell
        self._abandoned: list[object] = []
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._worker: _Worker | None = None
        self._outbox = Outbox()
        self._rings_elsewhere: bool | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while there is one."""
        worker = self._worker
        return worker.thread if worker is not None else None

    def troubles(self) -> dict[str, str]:
        """What does not work now: ``bell``, ``poll``, each with a sentence. From any thread."""
        worker = self._worker
        return worker.troubles() if worker is not None else {}

    # What the hub and the log call, from any thread

    def watch(self, log: EventLog, tell: Callable[[Heads], object]) -> Watch:
        """What the running loop follows in a log: see ``Watch``. A log that no other process writes
        to, or that has a doorbell of its own, is asked nothing."""
        if log.crosses_processes and log.doorbell is None:
            return Watch(log, asyncio.get_running_loop(), tell, self._follow, self._unfollow)
        return Watch(log, asyncio.get_running_loop(), tell, _nothing, _nothing)

    def changed(self, topic: str) -> None:
        """Ring, here and elsewhere: a topic has more, was closed or deleted. Never raises, never waits for anybody."""
        self._bell.ring(topic)
        worker = self._worker
        if worker is not None:
            worker.poll.told(topic)
        if self._rings_elsewhere is None:
            self._rings_elsewhere = layer_configured()
        if self._rings_elsewhere and (self._outbox.put(topic) or worker is None):
            self._work()

    def _follow(self, watch: Watch) -> None:
        with self._lock:
            known = watch in self._watches
            self._watches.add(watch)
        if not known or self._worker is None:
            self._work()

    def _unfollow(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)

    # The thread

    def _work(self) -> None:
        """See that there is a thread, and that it looks at what there is to do."""
        with self._lock:
            if self._worker is not None and self._worker.thread.is_alive():
                self._worker.wake()
                return
            worker = _Worker(self)
            self._worker = worker if worker.start() else None

    def watches(self) -> list[Watch]:
        """Those that follow anything at this moment."""
        with self._lock:
            self._watches = {watch for watch in self._watches if not watch.loop.is_closed()}
            return [*self._watches]

    def followed(self) -> set[str]:
        """The topics that any loop follows at this moment."""
        return set().union(*(watch.topics() for watch in self.watches()))

    def heard(self, topics: set[str]) -> None:
        """Another process has rung."""
        for topic in topics:
            if (worker := self._worker) is not None:
                worker.poll.told(topic)
            self._bell.ring(topic)

    # The end

    def flush(self, seconds: float = FLUSH) -> bool:
        """Wait until the bells that were rung are sent, for so long at most; whether they are."""
        return self._worker is None or self._outbox.wait_empty(seconds)

    def stop(self, seconds: float = JOIN) -> None:
        """End the thread; bells that are not sent are dropped. Who follows something is polled for again by the next one."""
        with self._lock:
            worker, self._worker = self._worker, None
            self._outbox, self._rings_elsewhere = Outbox(), None
        if worker is not None:
            worker.stop(seconds)

    def reset(self) -> None:
        """End the thread, and forget what is followed."""
        self.stop()
        self._begin()

    def restart(self) -> None:
        """Go on with another thread, as after a change of the settings."""
        self.stop()
        if self.followed():
            self._work()

    def forked(self) -> None:
        """In the child: the thread is not there, and what it used is the parent's too, so it is neither closed nor collected."""
        self._abandoned.append((self._worker, self._watches, self._outbox))
        self._begin()

    def end(self) -> None:
        """At the end of the process."""
        if (worker := self._worker) is not None and not self.flush(0):
            worker.wait_loaded(LOAD)
        self.flush()
        self.stop(FLUSH)


class _Worker:
    """The thread, and what is done in it."""

    def __init__(self, ringer: Ringer) -> None:
        self.thread = threading.Thread(target=self._run, name="django_agent_sse.ringer", daemon=True)
        self.poll = Poll(ringer.watches)
        self._layer = LayerBell(ringer._outbox, ringer.followed, ringer.heard) if layer_configured() else None
        self._loop = asyncio.SelectorEventLoop()  # whatever policy the project's loops have
        self._stop = asyncio.Event()

    def start(self) -> bool:
        try:
            self.thread.start()
        except RuntimeError as error:  # the interpreter ends, or there are too many threads
            self._loop.close()
            logger.warning("there is no thread for bells across processes now: %s", error)
            return False
        return True

    def troubles(self) -> dict[str, str]:
        found = {"bell": self._layer.trouble if self._layer is not None else "", "poll": self.poll.trouble}
        return {name: told for name, told in found.items() if told}

    def wait_loaded(self, seconds: float) -> None:
        """Wait until the layer's modules are imported, for so long at most."""
        if self._layer is not None and self.thread.is_alive():
            self._layer.loaded.wait(seconds)

    def wake(self) -> None:
        self._call(self._look)

    def stop(self, seconds: float) -> None:
        self._call(self._stop.set)
        if self.thread is not threading.current_thread():
            self.thread.join(seconds)

    def _call(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: the thread has ended
            self._loop.call_soon_threadsafe(call)

    def _look(self) -> None:
        self.poll.wake.set()
        if self._layer is not None:
            self._layer.wake_sender.set()
            self._layer.wake_receiver.set()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        parts = [self.poll.run()]
        if self._layer is not None:
            parts += [self._layer.send(), self._layer.receive()]
        tasks = [asyncio.create_task(_unless_broken(part)) for part in parts]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=JOIN)


async def _unless_broken(part: Coroutine[Any, Any, None]) -> None:
    try:
        await part
    except Exception:
        logger.exception("a part of the bell across processes has failed; topics are still looked at every 15 seconds")


def _nothing(watch: Watch) -> None:
    """Need no poll."""


ringer = Ringer(bell)
os.register_at_fork(after_in_child=ringer.forked)
atexit.register(ringer.end)
# Also before the executors end: one of them looks the layer's host up. There is no public way to come before them.
_before_executors_end: Callable[[Callable[[], object]], object] | None = getattr(threading, "_register_atexit", None)
if _before_executors_end is not None:
    _before_executors_end(ringer.end)


def _restart(*, setting: str, **_: object) -> None:
    if setting == "CHANNEL_LAYERS":
        ringer.restart()


setting_changed.connect(_restart, dispatch_uid="django_agent_sse.eventlog.notify.notifier")
