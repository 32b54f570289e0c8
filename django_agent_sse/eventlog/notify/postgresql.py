"""Notifications by PostgreSQL itself: ``NOTIFY`` after a commit, ``LISTEN`` while anything is followed. They carry nothing.

A notification says that something was committed; the poll, which then asks at once, finds out what. So one that is lost, late or
doubled costs a moment. They are sent apart from the project's transactions: with ``NOTIFY`` in them, commits would wait for each
other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connections

from ...runtime.pools import Pool
from .remote import LEAVE_IDLE, RENEW_INTERVAL, PendingTopics, RemoteNotifier

TABLE = "django_agent_sse_logtopic"
"""The log's table: those who have the same one, in the same schema, tell each other."""
CHANNEL = "django_agent_sse_{}"
APPLICATION_NAME = "django-agent-sse notifications"
CONNECTION = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""A server that vanished without a word is noticed within half a minute; what ``DATABASES[…]["OPTIONS"]`` says comes first."""
SELF_TEST_TIMEOUT = 5.0
"""Seconds that a notification may take which another connection of this process sends."""
DEAF_PAUSE = 600.0
"""Seconds until that is tried again: a pooler that does not pass notifications on is there to stay."""

_SESSION = """
SELECT pg_backend_pid(), coalesce(
    (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(%s)),
    current_schema(), 'public'
)
"""

_threads = Pool("sse-notify", 2)
"""What waits for a server: a connect, ``NOTIFY``. One that hangs holds up none of the background loop's other calls."""


class NotificationsNotHeard(Exception):
    """A connection that was told to listen does not hear of notifications."""


class Session:
    """A connection of our own, outside Django's pool, in autocommit: psycopg's, of version 3 or 2, whichever Django uses.

    Attributes:
        fileno: What becomes readable when something has come.
        error: What it was lost to.
    """

    def __init__(self, alias: str) -> None:
        wrapper: Any = connections.create_connection(alias)  # of which nothing stays on this thread
        params = {**CONNECTION, **wrapper.get_connection_params(), "application_name": APPLICATION_NAME}
        self._raw: Any = wrapper.Database.connect(**params)
        self._pids: list[int] = []
        self._busy = threading.Lock()
        self._ended = False
        self.error: Exception | None = None
        try:
            self._raw.autocommit = True
            if hasattr(self._raw, "add_notify_handler"):
                self._raw.add_notify_handler(lambda notify: self._pids.append(notify.pid))
            self.fileno: int = self._raw.fileno()
            with self._raw.cursor() as cursor:
                cursor.execute(_SESSION, [TABLE])
                # The server says who this is: what the driver knows may be a pooler's own invention.
                self._pid, schema = cursor.fetchone()
        except BaseException:
            self._raw.close()
            raise
        self._channel = CHANNEL.format(hashlib.sha256(f"{schema}.{TABLE}".encode()).hexdigest()[:16])

    def _execute(self, sql: str) -> None:
        with self._raw.cursor() as cursor:
            cursor.execute(sql)

    def notify(self) -> None:
        self._execute(f"NOTIFY {self._channel}")

    def listen(self) -> None:
        self._execute(f"LISTEN {self._channel}")

    def unlisten(self) -> None:
        self._execute("UNLISTEN *")

    def ping(self) -> None:
        """See that it still works, and have poolers and servers see that it is used."""
        self._execute("SELECT 1")

    def heard(self) -> bool:
        """Take in what has come, without waiting; whether another connection has notified. Raises where this one is lost."""
        if (pq := getattr(self._raw, "pgconn", None)) is not None and hasattr(pq, "consume_input"):
            pq.consume_input()
            while (notify := pq.notifies()) is not None:
                self._pids.append(notify.be_pid)
        else:
            self._raw.poll()
            self._pids += [notify.pid for notify in self._raw.notifies]
            self._raw.notifies.clear()
        pids, self._pids = self._pids, []
        return any(pid != self._pid for pid in pids)

    def use(self, call: Callable[[Session], object]) -> None:
        """Call with this, on a thread that may wait for the server."""
        try:
            with self._busy:
                call(self)
        finally:
            if self._ended:
                self._raw.close()

    def end(self) -> None:
        """Close it, or have the thread that uses it do so."""
        self._ended = True
        if self._busy.acquire(blocking=False):
            self._raw.close()
            self._busy.release()


class PostgresNotifier(RemoteNotifier):
    """One connection a process, opened when something is followed or published and closed when nothing was for a while.

    Args:
        alias: The name in ``DATABASES`` of what it connects to.
        pending: What to send.
        followed: The topics that are followed in this process, at this moment.
        hurry: Called when another process has committed something.
    """

    name = "database_notifications"

    def __init__(self, alias: str, pending: PendingTopics, followed: Callable[[], set[str]], hurry: Callable[[], object]) -> None:
        super().__init__(pending, followed, f"DATABASES[{alias!r}]")
        self.loaded.set()
        self._alias = alias
        self._hurry = hurry
        self._session: Session | None = None
        self._using = asyncio.Lock()
        self._heard = asyncio.Event()
        self._lost = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None

    async def _send(self, topics: list[str]) -> None:
        await self._use(Session.notify)

    async def _listen(self) -> None:
        session = await self._use(Session.listen)
        try:
            await self._test(session)
        except NotificationsNotHeard as error:
            self._receiving.failed(error)
            await self._use(Session.unlisten)  # of whichever connection of the pooler's it was: most likely the same one
            await asyncio.sleep(DEAF_PAUSE)
            return
        self._hurry()  # what was published while nobody listened
        needed = time.monotonic()
        while needed > time.monotonic() - LEAVE_IDLE:
            self._receiving.recovered()
            self._lost.clear()
            self._see_that_it_is(session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_INTERVAL):
                    await self._lost.wait()
            self._see_that_it_is(session)
            await self._use(Session.ping)
            if self._followed():
                needed = time.monotonic()
        await self._use(Session.unlisten)

    async def _test(self, session: Session) -> None:
        """See that notifications of another connection come in: where a pooler lends connections by transaction they do not.

        Those of its own would, together with the answer to ``NOTIFY``.
        """
        self._heard.clear()
        await _in_thread(partial(_notify_once, self._alias))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SELF_TEST_TIMEOUT):
                await self._heard.wait()
        if self._heard.is_set():  # also where both came in one turn of the loop, after a standstill
            return
        self._see_that_it_is(session)
        raise NotificationsNotHeard(
            "this process has sent itself one, and it did not come; a pooler between it and PostgreSQL, such as pgbouncer with "
            "pool_mode = transaction, passes none on. Name an entry of DATABASES that goes to the server directly, or through "
            "pool_mode = session, as AGENT_SSE['EVENT_LOG']['OPTIONS']['NOTIFY_ALIAS'], or None to do without"
        )

    def _see_that_it_is(self, session: Session) -> None:
        if self._session is not session:
            raise session.error or ConnectionError("the connection was closed")

    # The connection: on a thread while the server is asked, and else watched by the loop

    async def _use(self, call: Callable[[Session], object]) -> Session:
        async with self._using:
            session = self._session
            if session is None:
                session = self._session = await _in_thread(partial(Session, self._alias), unwanted=Session.end)
            else:
                asyncio.get_running_loop().remove_reader(session.fileno)
            try:
                await _in_thread(partial(session.use, call))
            except BaseException as error:
                self._drop(session, error)
                raise
            self._watch(session)
        return session

    def _watch(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(session.fileno, self._take, session)
        if self._idle is not None:
            self._idle.cancel()
        self._idle = loop.call_later(LEAVE_IDLE, self._rest, session)
        self._take(session)  # what came together with an answer makes nothing readable

    def _take(self, session: Session) -> None:
        try:
            heard = session.heard()
        except Exception as error:
            self._drop(session, error)
            return
        if heard:
            self._heard.set()
            self._hurry()

    def _rest(self, session: Session) -> None:
        """Nobody has used it for long. While it listens, it is pinged."""
        if not self._using.locked():
            self._drop(session, None)

    def _drop(self, session: Session, error: BaseException | None) -> None:
        if self._session is session:
            self._session = None
            asyncio.get_running_loop().remove_reader(session.fileno)
            session.error = error if isinstance(error, Exception) else None
            session.end()
            self._lost.set()

    def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._session is not None:
            self._drop(self._session, None)


def _notify_once(alias: str) -> None:
    session = Session(alias)
    try:
        session.notify()
    finally:
        session.end()


async def _in_thread(call: Callable[[], Any], unwanted: Callable[[Any], object] = lambda result: None) -> Any:
    """Call on a thread; what a call returns that nobody waits for any more goes to ``unwanted``."""
    future = _threads.submit(call)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda done: done.cancelled() or done.exception() or unwanted(done.result()))
        raise
