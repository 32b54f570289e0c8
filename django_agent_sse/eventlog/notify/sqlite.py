"""What SQLite says by itself: ``PRAGMA data_version`` is another number once somebody else has committed. Nothing is sent.

It says of no topic, and not that it was the log that changed: the poll, which then asks at once, finds out.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from django.db import connections

from ...runtime.pools import Pool
from .remote import RENEW_INTERVAL, PendingTopics, RemoteNotifier

INTERVAL = 0.033
"""Seconds between two looks: half of them is what a follower waits on average, and each takes some microseconds and a wake-up."""
FOLLOWED_INTERVAL = 1.0
"""Seconds after which is seen whether anything is still followed."""
_BUSY = {5, 6}
"""SQLite's codes where somebody else has the lock: there will be news when it is free."""

# A look takes some microseconds. On a thread that sleeps in between it costs two thirds of what the loop's timers cost, and a
# disk that hangs holds nothing else up.
_threads = Pool("sse-data-version", 2)


class SqliteWatcher(RemoteNotifier):
    """Looks at the version of the data while anything is followed, through a read-only connection of its own.

    Args:
        alias: The name in ``DATABASES`` of the database.
        pending: Nothing is ever put there.
        followed: The topics that are followed in this process, at this moment.
        hurry: Called when somebody has committed something.
    """

    name = "database_notifications"
    sends = False

    def __init__(self, alias: str, pending: PendingTopics, followed: Callable[[], set[str]], hurry: Callable[[], object]) -> None:
        super().__init__(pending, followed, f"DATABASES[{alias!r}]")
        self._alias = alias
        self._hurry = hurry

    async def _send(self, topics: list[str]) -> None:
        raise AssertionError("whoever watches is told by the database")

    async def _listen(self) -> None:
        """Look for a while: then the file is opened anew, since another one may have taken its place."""
        loop, stop = asyncio.get_running_loop(), threading.Event()
        looking = _threads.submit(partial(self._look, stop, partial(loop.call_soon_threadsafe, self._hurry)))
        try:
            await asyncio.wrap_future(looking)
        finally:
            stop.set()
        self._receiving.recovered()

    def _look(self, stop: threading.Event, hurry: Callable[[], object]) -> None:
        seen = -1
        until = time.monotonic() + RENEW_INTERVAL
        if (opened := _opened(self._alias)) is None:
            stop.wait(FOLLOWED_INTERVAL)
            return
        with closing(opened) as connection:
            cursor = connection.cursor()
            while self._followed() and time.monotonic() < until:
                for _ in range(int(FOLLOWED_INTERVAL / INTERVAL)):
                    if stop.is_set():
                        return
                    version = _version(cursor, seen)
                    if version != seen:
                        seen = version
                        hurry()
                    time.sleep(INTERVAL)


def _opened(alias: str) -> Any:
    """Return a connection; ``None`` where nobody has made the file yet."""
    wrapper: Any = connections.create_connection(alias)  # of which nothing stays on this thread
    database = str(wrapper.get_connection_params()["database"])
    if not database.startswith("file:"):
        path = Path(database).absolute()
        if path.parent.is_dir() and not path.exists():
            return None
        database = path.as_uri()
    if "mode=" not in database:
        database += ("&" if "?" in database else "?") + "mode=ro"
    return wrapper.Database.connect(database, uri=True, timeout=0, isolation_level=None)


def _version(cursor: Any, seen: int) -> int:
    try:
        version: int = cursor.execute("PRAGMA data_version").fetchone()[0]
    except Exception as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY:
            raise
        return seen
    return version
