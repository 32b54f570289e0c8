"""One connection to one server, on which all doorbells of the process come in, and the thread that reads it.

The thread only compares and passes on: it never waits for a client, so that the server's buffer for this connection stays
empty. What a doorbell cannot tell, since it may be lost, is asked for: where each topic is, every 15 to 30 seconds, for many in
one round trip; and where nothing at all comes in, whether the connection still carries anything, by a message to itself.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

import redis

from ...exceptions import EventLogUnavailable
from ...runtime.backoff import Retrying
from ..records import Page
from .codec import head, plain, rung
from .keys import Keys
from .server import Lost, Server
from .waiting import readable

CHECK = 30.0
"""Seconds after which a topic's end is asked for, less by up to a half."""
TICK = 1.0
"""Seconds between two such questions, each for all topics whose time has come."""
QUIET = 15.0
"""Seconds without a message after which the process rings for itself."""
ANSWER = 5.0
"""Seconds for that message to come back. When two did not, the connection is made anew."""
MANY = 512
"""Topics of one command."""
IDLE = 30.0
"""Seconds without a followed topic after which the connection is closed."""

logger = logging.getLogger("django_agent_sse.bell")

_End = tuple[str, int, str]


class Starved(OSError):
    """The connection stands, and carries nothing."""


class Line:
    """What rings on one server. Any thread may follow and unfollow.

    Args:
        server: Which one.
        keys: The names.
        heard: Called in the line's thread with a topic, and the events that its bell took along, if it did.
    """

    def __init__(self, server: Server, keys: Keys, heard: Callable[[str, Page | None], object]) -> None:
        self._server = server
        self._keys = keys
        self._heard = heard
        self._lock = threading.Lock()
        self._followed: dict[str, int] = {}
        self._waiting: dict[str, Future[None]] = {}
        self._changed: set[str] = set()
        self._thread: threading.Thread | None = None
        self._bells: tuple[socket.socket, socket.socket] | None = None
        self._retrying = Retrying(server.named)
        self.connections = self.starvations = 0
        # The thread's own:
        self._connection: Any = None
        self._probe = keys.probe(secrets.token_hex(8))
        self._topics: dict[str, str] = {}
        self._acknowledged: set[str] = set()
        self._ends: dict[str, _End] = {}
        self._due: list[tuple[float, str]] = []
        self._last_heard = self._next_tick = 0.0
        self._unanswered = 0

    @property
    def up(self) -> bool:
        """Whether doorbells come in now, as far as that can be known."""
        return self._connection is not None

    @property
    def trouble(self) -> str | None:
        """The kind of the error for which they do not, where they should: where anything is followed."""
        return self._retrying.why if self._followed else None

    def follow(self, topic: str) -> Future[None] | None:
        """Have a topic's doorbell; done when nothing that is published from now on can be missed, ``None`` where that is so."""
        with self._lock:
            count = self._followed[topic] = self._followed.get(topic, 0) + 1
            if count > 1:
                return self._waiting.get(topic)
            self._changed.add(topic)
            waiting = None
            if self._retrying.why is None:  # else it is not worth waiting for
                waiting = self._waiting[topic] = Future()
            if self._thread is None:
                self._bells = socket.socketpair()
                self._bells[0].setblocking(False)
                self._thread = threading.Thread(target=self._run, name="django_agent_sse.redis.line", daemon=True)
                self._thread.start()
        self._wake()
        return waiting

    def unfollow(self, topic: str) -> None:
        """Give back what ``follow`` gave."""
        with self._lock:
            count = self._followed.get(topic, 0)
            if count > 1:
                self._followed[topic] = count - 1
                return
            self._followed.pop(topic, None)
            self._waiting.pop(topic, None)
            self._changed.add(topic)

    def _wake(self) -> None:
        bells = self._bells
        if bells is not None:
            with contextlib.suppress(OSError):  # it is full, and so will be read, or closed, and the thread with it has ended
                bells[1].send(b"!")

    # The thread

    def _run(self) -> None:
        while not self._over():
            try:
                self._connect()
                self._serve()
            except Exception as error:  # without this thread nobody would hear anything any more
                if not isinstance(error, redis.exceptions.RedisError | OSError):
                    logger.exception("reading the doorbells of %s failed; it goes on", self._server.named)
                self._hang_up()
                pause = self._retrying.failed(error)
                self._answer_all()
                readable([self._sleeping()], pause)

    def _sleeping(self) -> socket.socket:
        assert self._bells is not None
        return self._bells[0]

    def _over(self) -> bool:
        """Whether nobody follows anything any more; then the thread ends."""
        with self._lock:
            if self._followed:
                return False
            for bell in self._bells or ():
                bell.close()
            self._thread = self._bells = None
            return True

    def _connect(self) -> None:
        self._connection = connection = self._server.connection()
        connection.connect()
        self.connections += 1
        connection.send_command("SUBSCRIBE", self._probe)
        self._acknowledged.clear()
        with self._lock:
            self._changed |= self._followed.keys()
        self._last_heard, self._unanswered = time.monotonic(), 0

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _answer_all(self) -> None:
        """Let nobody wait for a server that is away: who follows reads then, and is told again when the server is back."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            _answer(future)

    def _serve(self) -> None:
        connection, idle_since = self._connection, None
        while True:
            self._subscribe(connection)
            while connection.can_read(timeout=0):
                self._take(connection.read_response())
            now = time.monotonic()
            if now >= self._next_tick:
                self._next_tick = now + TICK
                self._check(now)
                self._listen_to_itself(now)
            idle_since = None if self._followed else idle_since or now
            if idle_since is not None and now - idle_since > IDLE:
                self._hang_up()
                return
            self._sleep(connection, max(0.0, self._next_tick - time.monotonic()))

    def _sleep(self, connection: Any, seconds: float) -> None:
        bell = self._sleeping()
        if bell in readable([connection._sock, bell], seconds):  # a test pins this attribute of redis-py's
            bell.recv(4096)

    # What is followed

    def _subscribe(self, connection: Any) -> None:
        with self._lock:
            changed, self._changed = self._changed, set()
            wanted = [topic for topic in changed if topic in self._followed]
            unwanted = [topic for topic in changed if topic not in self._followed]
        for topic in wanted:
            self._topics[self._keys.doorbell(topic)] = topic
        new = [topic for topic in wanted if topic not in self._acknowledged]
        old = [topic for topic in unwanted if topic in self._acknowledged]
        for verb, topics in (("SUBSCRIBE", new), ("UNSUBSCRIBE", old)):
            for start in range(0, len(topics), MANY):
                connection.send_command(verb, *map(self._keys.doorbell, topics[start : start + MANY]))
        for topic in unwanted:
            self._topics.pop(self._keys.doorbell(topic), None)
            self._ends.pop(topic, None)
            self._acknowledged.discard(topic)

    def _take(self, message: Any) -> None:
        kind, channel = bytes(message[0]), plain(message[1])
        self._last_heard, self._unanswered = time.monotonic(), 0
        topic = self._topics.get(channel)
        if channel == self._probe and kind == b"subscribe":
            self._retrying.over()
        elif topic is None:
            return
        elif kind == b"message":
            told = rung(message[2])
            if told.epoch:
                self._ends[topic] = (told.epoch, told.top, told.nonce)
            self._heard(topic, told.page)
        elif kind == b"subscribe":
            self._acknowledge(topic)

    def _acknowledge(self, topic: str) -> None:
        """From now on its doorbells come in. Who followed it meanwhile may have missed some: its end is asked for at once."""
        self._acknowledged.add(topic)
        with self._lock:
            waiting = self._waiting.pop(topic, None)
        if waiting is not None:
            _answer(waiting)
        again = 0.0 if waiting is None else time.monotonic() + CHECK * random.uniform(0.5, 1)
        self._next_tick = min(self._next_tick, again)
        heapq.heappush(self._due, (again, topic))

    # What a doorbell cannot tell

    def _check(self, now: float) -> None:
        """Ask where the topics are whose time has come; ring for those that are elsewhere than their last doorbell said."""
        due: set[str] = set()
        while self._due and self._due[0][0] <= now and len(due) < MANY:
            _, topic = heapq.heappop(self._due)
            if topic in self._acknowledged:
                due.add(topic)
        if not due:
            return
        topics = sorted(due)
        try:
            found = self._server.ends([self._keys.topic(topic)[0] for topic in topics])
        except (EventLogUnavailable, Lost):
            found = None
        for place, topic in enumerate(topics):
            pause = TICK if found is None else CHECK * random.uniform(0.5, 1)
            heapq.heappush(self._due, (now + pause, topic))
            if found is not None:
                self._compare(topic, found[place])
        if self._due[0][0] <= now:
            self._next_tick = now

    def _compare(self, topic: str, values: list[Any]) -> None:
        end: _End = ("", 0, "")
        if values[0] is not None:
            where, nonce, _ = head([*values, b""])
            end = (where.epoch, where.top, nonce + (where.closed or ""))
        if self._ends.get(topic) != end:
            self._ends[topic] = end
            self._heard(topic, None)

    def _listen_to_itself(self, now: float) -> None:
        """A connection can stand and carry nothing: that of a primary that is none any more, or through a broken middle."""
        if now - self._last_heard < QUIET + self._unanswered * ANSWER:
            return
        if self._unanswered >= 2:
            self.starvations += 1
            raise Starved("the connection for doorbells stands, but carries nothing")
        try:
            self._server.ask(lambda client: client.publish(self._probe, ""))
        except (EventLogUnavailable, Lost):
            return  # there is nothing to hear of either
        self._unanswered += 1


def _answer(waiting: Future[None]) -> None:
    with contextlib.suppress(InvalidStateError):  # who waited was cancelled
        waiting.set_result(None)
