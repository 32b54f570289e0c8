"""What the database has and no topic tells, for streams that show it: all of a process look together, twice a second."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection

from . import overview, runs
from .models import Build

logger = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two looks. Lines are not looked for: those are in a topic, which rings."""


class Watcher:
    """One query for all builds that are watched, while any is. Belongs to one event loop."""

    def __init__(self) -> None:
        self._watched: Counter[int] = Counter()
        self._seen: dict[int, Build] = {}
        self._elsewhere: list[str] | None = None
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def looking(self, build_id: int = 0) -> Iterator[None]:
        """Look meanwhile: at a build, or (0) only for builds whose process was killed, and for logs that others write."""
        self._watched[build_id] += 1
        if self._looking is None or self._looking.done():
            # An empty context: what the request's own ties to the request's thread ends with the request.
            self._looking = asyncio.create_task(self._keep_looking(), context=contextvars.Context())
        try:
            yield
        finally:
            self._watched[build_id] -= 1
            if not self._watched[build_id]:
                del self._watched[build_id]
                self._seen.pop(build_id, None)

    async def states(self, build_id: int) -> AsyncIterator[Build]:
        """The build as it is, and each time that its status or progress has changed, to its end."""
        told: object = None
        with self.looking(build_id):
            while True:
                news, build = self._news, self._seen.get(build_id)
                if build is not None and (state := (build.status, build.fraction, build.step)) != told:
                    told = state
                    yield build
                    if build.is_over:
                        return
                await news.wait()

    async def elsewhere(self) -> AsyncIterator[list[str]]:
        """See ``overview.elsewhere``: as it is, and each time that it has changed."""
        told: list[str] | None = None
        with self.looking():
            while True:
                news = self._news
                if self._elsewhere is not None and self._elsewhere != told:
                    told = self._elsewhere
                    yield told
                await news.wait()

    async def _keep_looking(self) -> None:
        while self._watched:
            try:
                found = await sync_to_async(_found, thread_sensitive=False)([*self._watched])
            except DatabaseError as error:
                logger.warning("builds cannot be looked at now: %s", error)
                await asyncio.sleep(PAUSE)
                continue
            builds, self._elsewhere = found
            self._seen = {build.pk: build for build in builds}
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(PAUSE)


watcher = Watcher()


def _found(build_ids: list[int]) -> tuple[list[Build], list[str] | None]:
    try:
        runs.recover()
        return [*Build.objects.filter(pk__in=build_ids)], overview.elsewhere() if 0 in build_ids else None
    finally:
        connection.close()  # this thread is no request's: nobody else would
