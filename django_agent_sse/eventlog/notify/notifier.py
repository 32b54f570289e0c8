"""Notifications across processes: the poll finds what others published; a channel layer, or the log's database, hastens it.

Both are tasks on the background loop. They are started by the first topic that is followed in a log that crosses processes, or by
the first publish to one where other processes have to be told; and anew after a fork.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from ... import conf
from ...runtime.loop import BackgroundLoop, BackgroundTask, background
from ...runtime.process import on_exit, on_fork
from ..base import EventLog
from ..records import Page
from .across import way_to_others
from .local import LocalNotifier, local_notifier
from .poll import Followed, FollowedTopics, Heads, Poll
from .remote import LOGGER, PendingTopics, RemoteNotifier

logger = logging.getLogger(LOGGER)

FLUSH_TIMEOUT = 1.0
"""Seconds that the end of the process waits for notifications that are not sent yet."""
IMPORT_TIMEOUT = 10.0
"""Seconds before that for importing the layer, which a short script's end would else overtake: work, that waits for nobody."""
STOP_TIMEOUT = 5.0
"""Seconds that ``reset()`` waits for the tasks."""


class Notifier:
    """Notifies other processes, and the loops of this one through ``local``. There is one per process."""

    def __init__(self, local: LocalNotifier, loop: BackgroundLoop = background) -> None:
        self._local = local
        self.loop = loop
        self._log: EventLog | None = None
        self._abandoned: list[object] = []
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._watches: set[FollowedTopics] = set()
        self._tasks: list[BackgroundTask] = []
        self.poll = Poll(self.watches)
        self._remote: RemoteNotifier | None = None
        self._pending = PendingTopics()
        self._sends: bool | None = None

    def troubles(self) -> dict[str, str]:
        """What does not work now, each with a sentence: ``poll``, and the way to others by its name. From any thread."""
        troubles = {"poll": self.poll.trouble}
        if (remote := self._remote) is not None:
            troubles[remote.name] = remote.trouble
        return {name: sentence for name, sentence in troubles.items() if sentence and self._tasks}

    def serve(self, log: EventLog) -> None:
        """Notify others of this log from now on: it is the log of the process, whose database may know a way to them."""
        before, self._log, self._sends = self._log, log, None
        if self._tasks and way_to_others(before) != way_to_others(log):
            self.restart()

    # What feeds and the log call, from any thread

    def watch(self, log: EventLog, on_change: Callable[[Heads], object]) -> FollowedTopics:
        """Return what the running loop follows in a log: see ``FollowedTopics``.

        A log that no other process writes to, or that has a notifier of its own, is asked nothing.
        """
        polled = [self._follow] if log.crosses_processes and log.notifier is None else []
        return FollowedTopics(log, asyncio.get_running_loop(), on_change, *polled)

    def notify(self, topic: str, page: Page | None = None) -> None:
        """Say here and elsewhere that a topic has more, was closed or deleted. Never raises, never waits for anybody."""
        self._local.notify(topic, page)
        self.poll.notified(topic)
        if self._sends is None:
            way = way_to_others(self._log)
            self._sends = way is not None and way.kind.sends
        if self._sends and (self._pending.put(topic) or not self._tasks):
            self._wake()

    def _follow(self, watch: FollowedTopics) -> None:
        with self._lock:
            known = watch in self._watches
            self._watches.add(watch)
        if not known or not self._tasks:
            self._wake()

    # The tasks

    def _wake(self) -> None:
        """See that there are tasks, and that they look at what there is to do."""
        with self._lock:
            if self._tasks and not all(task.done for task in self._tasks):  # else the background loop has ended under them
                self._tasks[0].call(self._look)
                return
            try:
                self._start()
            except RuntimeError as error:  # the interpreter ends, or there are too many threads
                self._tasks = []
                logger.warning("there is no thread for notifications across processes now: %s", error)

    def _start(self) -> None:
        poll = self.poll = Poll(self.watches)
        way = way_to_others(self._log)
        remote = self._remote = None if way is None else way.begin(self._pending, self.followed, self.on_notify, poll.hurry)
        self._tasks = [self.loop.start("poll", poll.run)]
        if remote is not None:
            self._tasks.append(self.loop.start(remote.name, remote.run))

    def _look(self) -> None:
        self.poll.wake.set()
        if self._remote is not None:
            self._remote.wake_sender.set()
            self._remote.wake_receiver.set()

    def watches(self) -> Followed:
        """Return those that follow anything at this moment, with what they follow."""
        # Each is asked once: one that is kept here wakes nobody, so nobody may find it empty a moment later, and sleep.
        with self._lock:
            followed = {watch: topics for watch in self._watches if (topics := watch.topics())}
            self._watches = {*followed}
            return followed

    def followed(self) -> set[str]:
        """Return the topics that any loop follows at this moment."""
        return set().union(*self.watches().values())

    def on_notify(self, topics: set[str]) -> None:
        for topic in topics:
            self.poll.notified(topic)
            self._local.notify(topic)

    # The end

    def flush(self, seconds: float = FLUSH_TIMEOUT) -> bool:
        """Wait until all notifications are sent, for so long at most; whether they are."""
        return not self._tasks or self._pending.wait_empty(seconds)

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the tasks; what is not sent is dropped. Who follows something is polled for again by the next ones."""
        with self._lock:
            tasks, self._tasks = self._tasks, []
            self.poll, self._remote = Poll(self.watches), None
            self._pending, self._sends = PendingTopics(), None
        for task in tasks:
            task.cancel()
        for task in tasks:
            task.wait(seconds)

    def reset(self) -> None:
        """End the tasks, and forget what is followed."""
        self.stop()
        self._begin()

    def restart(self) -> None:
        """Go on with other tasks, as after a change of the settings."""
        self.stop()
        if self.followed():
            self._wake()

    def forked(self) -> None:
        """In the child: there are no tasks, and what they used is the parent's too, so it is neither closed nor collected."""
        self._abandoned.append((self._tasks, self.poll, self._remote, self._watches, self._pending))
        self._begin()

    def end(self) -> None:
        """At the end of the process: send what waits."""
        if self._remote is not None and not self.flush(0):
            self._remote.loaded.wait(IMPORT_TIMEOUT)
        self.flush()
        self.stop(FLUSH_TIMEOUT)


notifier = Notifier(local_notifier)
on_fork(notifier.forked)
on_exit(notifier.end, twice=True)


conf.on_change(notifier.restart, "CHANNEL_LAYERS")
