"""The notifications of the followed topics: on one connection to each server, which is a task on the background loop.

It only compares and passes on: it never waits for a client, so that the server's buffer for this connection stays empty. What a
notification cannot tell, since it may be lost, is asked for: where each topic is, every 15 to 30 seconds, for many in one round
trip; and where nothing at all comes in, whether the connection still carries anything, by a message to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import redis

from ...exceptions import EventLogUnavailable
from ...runtime.backoff import FailureLog
from ...runtime.loop import BackgroundTask, background, in_pool
from ..records import Page
from .codec import head, notification, plain
from .keys import Keys
from .pubsub_socket import ServerSocket
from .server import Server

CHECK_INTERVAL = 30.0
"""Seconds after which a topic's end is asked for, less by up to a half."""
TICK = 1.0
"""Seconds between two such questions, each for all topics whose time has come."""
PROBE_IDLE = 15.0
"""Seconds without a message after which the process sends one to itself."""
PROBE_TIMEOUT = 5.0
"""Seconds for that message to come back. When two did not, the connection is made anew."""
MAX_TOPICS = 512
"""Topics of one command."""
UNUSED_IDLE = 30.0
"""Seconds without a followed topic after which the connection is closed."""
FIRST_RETRY, LAST_RETRY = 0.05, 5.0
FOLLOW_TIMEOUT = 2.0
"""Seconds that a follower waits for its subscription before it reads without: when it comes, the topic is looked at again."""

LOGGER = "django_agent_sse.notify"
logger = logging.getLogger(LOGGER)

_End = tuple[str, int, str]


class StalledConnection(OSError):
    """The connection stands, and carries nothing."""


class PubSubConnection:
    """What comes in from one server. Any thread may follow and unfollow.

    ``on_notify`` is called on the background loop with a topic, and with the events that came along, if they did.
    """

    def __init__(self, server: Server, keys: Keys, on_notify: Callable[[str, Page | None], object]) -> None:
        self._server = server
        self._keys = keys
        self._on_notify = on_notify
        self._lock = threading.Lock()
        self._followed: dict[str, int] = {}
        self._waiting: dict[str, Future[None]] = {}
        self._read_without: set[str] = set()
        self._changed: set[str] = set()
        self._task: BackgroundTask | None = None
        self._failures = FailureLog(
            f"notifications from the server of {server.named} do not come in",
            "Streams stay open, and go on when they do.",
            logger=LOGGER,
            first=FIRST_RETRY,
            longest=LAST_RETRY,
        )
        self.connections = self.stalls = 0
        # Used on the background loop only:
        self._news = asyncio.Event()
        self._socket: ServerSocket | None = None
        self._probe = keys.probe(secrets.token_hex(8))
        self._topics: dict[str, str] = {}
        self._acknowledged: set[str] = set()
        self._ends: dict[str, _End] = {}
        self._due: list[tuple[float, str]] = []
        self._last_heard = self._next_tick = 0.0
        self._unanswered = 0

    @property
    def up(self) -> bool:
        """Whether notifications come in now, as far as that can be known."""
        return self._socket is not None

    @property
    def trouble(self) -> str | None:
        """The kind of the error for which they do not, where they should: where anything is followed."""
        return self._failures.kind if self._followed else None

    def follow(self, topic: str) -> Future[None] | None:
        """Have a topic's notifications.

        Returns:
            What is done when nothing that is published from now on can be missed; ``None`` where there is nothing to wait for.
        """
        with self._lock:
            count = self._followed[topic] = self._followed.get(topic, 0) + 1
            if count > 1:
                return self._waiting.get(topic)
            self._changed.add(topic)
            waiting = None
            if self._failures.kind is None:  # else it is not worth waiting for
                waiting = self._waiting[topic] = Future()
            if self._task is None or self._task.done:
                self._news = asyncio.Event()  # that of the task before belongs to its loop, which may be another one
                self._task = background.start(f"notifications of {self._server.named}", self._run)
            self._task.call(self._news.set)
        return waiting

    def reads_without(self, topic: str) -> None:
        """Somebody who follows a topic waits no longer: it is looked at as soon as its notifications come in."""
        with self._lock:
            self._read_without.add(topic)

    def unfollow(self, topic: str) -> None:
        """Give back what ``follow`` gave."""
        with self._lock:
            count = self._followed.get(topic, 0)
            if count > 1:
                self._followed[topic] = count - 1
                return
            self._followed.pop(topic, None)
            self._waiting.pop(topic, None)
            self._read_without.discard(topic)
            self._changed.add(topic)

    # On the background loop

    async def _run(self) -> None:
        try:
            while not self._is_over():
                try:
                    await self._connect()
                    await self._serve()
                except Exception as error:  # without this task nobody would hear anything any more
                    if not isinstance(error, redis.exceptions.RedisError | OSError):
                        logger.exception("reading the notifications of %s failed; it goes on", self._server.named)
                    self._disconnect()
                    self._news.clear()
                    if self._followed:
                        pause = self._failures.failed(error)
                        # Nobody waits for a server that is away: who follows reads now, and is told again when it is back.
                        with self._lock:
                            waiting, self._waiting = self._waiting, {}
                        for future in waiting.values():
                            future.set_result(None)
                        await self._wait(pause)
        finally:
            self._disconnect()

    def _is_over(self) -> bool:
        """Whether nobody follows anything any more; then the task ends."""
        with self._lock:
            if self._followed:
                return False
            self._task = None
            return True

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def _connect(self) -> None:
        connection = self._server.pool.make_connection()
        await in_pool(connection.connect)
        self._socket = ServerSocket(connection, self._take, self._news.set)
        self.connections += 1
        self._socket.send("SUBSCRIBE", self._probe)
        self._acknowledged.clear()
        with self._lock:
            self._changed |= self._followed.keys()
        self._last_heard, self._unanswered = time.monotonic(), 0

    def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()

    async def _serve(self) -> None:
        socket, idle_since = self._socket, None
        assert socket is not None
        while True:
            self._news.clear()
            socket.check()
            self._subscribe(socket)
            now = time.monotonic()
            if now >= self._next_tick:
                self._next_tick = now + TICK
                await self._check(now)
                await self._probe_connection(now)
            idle_since = None if self._followed else idle_since or now
            if idle_since is not None and now - idle_since > UNUSED_IDLE:
                self._disconnect()
                return
            await self._wait(max(0.0, self._next_tick - time.monotonic()))

    # What is followed

    def _subscribe(self, socket: ServerSocket) -> None:
        with self._lock:
            changed, self._changed = self._changed, set()
            wanted = [topic for topic in changed if topic in self._followed]
            unwanted = [topic for topic in changed if topic not in self._followed]
        for topic in wanted:
            self._topics[self._keys.channel(topic)] = topic
        new = [topic for topic in wanted if topic not in self._acknowledged]
        old = [topic for topic in unwanted if topic in self._acknowledged]
        for verb, topics in (("SUBSCRIBE", new), ("UNSUBSCRIBE", old)):
            for start in range(0, len(topics), MAX_TOPICS):
                socket.send(verb, *map(self._keys.channel, topics[start : start + MAX_TOPICS]))
        for topic in unwanted:
            self._topics.pop(self._keys.channel(topic), None)
            self._ends.pop(topic, None)
            self._acknowledged.discard(topic)

    def _take(self, message: Any) -> None:
        kind, channel = bytes(message[0]), plain(message[1])
        self._last_heard, self._unanswered = time.monotonic(), 0
        topic = self._topics.get(channel)
        if channel == self._probe and kind == b"subscribe":
            self._failures.recovered()
        elif topic is None:
            return
        elif kind == b"message":
            page = notification(message[2])
            if page is not None:
                self._ends[topic] = (page.epoch, page.top, page.nonce)
            self._on_notify(topic, page if page is not None and page.records else None)
        elif kind == b"subscribe":
            self._acknowledge(topic)

    def _acknowledge(self, topic: str) -> None:
        """From now on its notifications come in. Who followed it meanwhile may have missed some: its end is asked for at once."""
        self._acknowledged.add(topic)
        with self._lock:
            waiting = self._waiting.pop(topic, None)
            at_once = waiting is None or topic in self._read_without
            self._read_without.discard(topic)
        if waiting is not None:
            waiting.set_result(None)
        again = 0.0 if at_once else time.monotonic() + CHECK_INTERVAL * random.uniform(0.5, 1)
        heapq.heappush(self._due, (again, topic))
        if again < self._next_tick:
            self._next_tick = again
            self._news.set()

    # What a notification cannot tell

    async def _check(self, now: float) -> None:
        """Ask where the topics are whose time has come; notify those that are elsewhere than their last notification said."""
        due: set[str] = set()
        while self._due and self._due[0][0] <= now and len(due) < MAX_TOPICS:
            _, topic = heapq.heappop(self._due)
            if topic in self._acknowledged:
                due.add(topic)
        if not due:
            return
        topics = sorted(due)
        known = [self._ends.get(topic) for topic in topics]
        answers: list[Any] | None = None  # while the server cannot be asked
        with contextlib.suppress(EventLogUnavailable):
            answers = await in_pool(partial(self._server.ends, [self._keys.topic(topic)[0] for topic in topics]))
        for place, topic in enumerate(topics):
            pause = TICK if answers is None else CHECK_INTERVAL * random.uniform(0.5, 1)
            heapq.heappush(self._due, (now + pause, topic))
            # One that has changed since the question was notified of: the answer may be older than that.
            if answers is not None and topic in self._acknowledged and self._ends.get(topic) == known[place]:
                self._compare(topic, answers[place])
        if self._due[0][0] <= now:
            self._next_tick = now

    def _compare(self, topic: str, values: list[Any]) -> None:
        end: _End = ("", 0, "")
        if values[0] is not None:
            where, nonce, _ = head(values)
            end = (where.epoch, where.top, nonce + (where.closed or ""))
        if self._ends.get(topic) != end:
            self._ends[topic] = end
            self._on_notify(topic, None)

    async def _probe_connection(self, now: float) -> None:
        """A connection can stand and carry nothing: that of a primary that is none any more, or through a broken middle."""
        if now - self._last_heard < PROBE_IDLE + self._unanswered * PROBE_TIMEOUT:
            return
        if self._unanswered >= 2:
            self.stalls += 1
            raise StalledConnection("the connection for notifications stands, but carries nothing")
        self._unanswered += 1
        try:
            await in_pool(partial(self._server.pipe, ("publish", self._probe, "")))
        except EventLogUnavailable:
            self._unanswered = max(0, self._unanswered - 1)  # there is nothing to hear of either


class RedisNotifier:
    """See ``LogNotifier``. ``place`` says which of the servers keeps a topic."""

    def __init__(
        self,
        servers: Sequence[Server],
        place: Callable[[str], int],
        keys: Keys,
        on_notify: Callable[[str, Page | None], object],
    ) -> None:
        self.connections = [PubSubConnection(server, keys, on_notify) for server in servers]
        self._place = place

    async def follow(self, topic: str) -> None:
        connection = self.connections[self._place(topic)]
        waiting = connection.follow(topic)
        if waiting is not None:
            done, _ = await asyncio.wait({asyncio.wrap_future(waiting)}, timeout=FOLLOW_TIMEOUT)
            if not done:
                connection.reads_without(topic)

    def unfollow(self, topic: str) -> None:
        self.connections[self._place(topic)].unfollow(topic)

    def notifies(self, topic: str) -> bool:
        """Return whether what is published to a topic comes in here by itself, as far as that can be known."""
        connection = self.connections[self._place(topic)]
        return connection.up and connection.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why some notifications do not come in, where they should."""
        return next((connection.trouble for connection in self.connections if connection.trouble), None)
