"""What the database has and no topic says: how far each build is, and which logs others write."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection

from . import overview, runs
from .models import Build

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.5
"""Seconds. Lines are not polled: they are in a topic, whose followers are notified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one poll has found.

    Attributes:
        builds: Those that wait or run, by id.
        elsewhere: See ``overview.elsewhere``.
    """

    builds: dict[int, Build]
    elsewhere: list[str]


class StatusPoller:
    """One poll for all streams of this process, while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._polled_at = 0.0
        self._status = Status(builds={}, elsewhere=[])

    async def statuses(self) -> AsyncIterator[Status]:
        """The status now, and again after each interval."""
        while True:
            yield await sync_to_async(self._latest, thread_sensitive=False)()
            await asyncio.sleep(POLL_INTERVAL)

    def _latest(self) -> Status:
        with self._lock:
            if time.monotonic() - self._polled_at >= POLL_INTERVAL / 2:
                try:
                    self._status = _poll()
                except DatabaseError as error:
                    logger.warning("the builds cannot be read now: %s", error)
                finally:
                    connection.close()  # this thread belongs to no request: nobody else would close it
                self._polled_at = time.monotonic()
            return self._status


def _poll() -> Status:
    runs.recover()
    going = Build.objects.filter(status__in=[Build.Status.QUEUED, Build.Status.RUNNING])
    return Status(builds={build.pk: build for build in going}, elsewhere=overview.elsewhere())


poller = StatusPoller()
