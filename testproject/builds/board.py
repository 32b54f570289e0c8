"""Which builds have changed. A reader owns a number, and no queue."""

from __future__ import annotations

import asyncio

KEPT = 1000
"""Changed builds that are remembered. No reader needs one that 1,000 others came after: pages list the newest 50."""


class Board:
    """Counts the changes of all builds.

    Attributes:
        version: How many there were.
    """

    def __init__(self) -> None:
        self.version = 0
        self._changed: dict[int, int] = {}  # the latest last
        self._news = asyncio.Event()

    def changed(self, build_id: int) -> None:
        """A build began, ended, went on or was deleted: wake the readers. Call it on the server's loop."""
        self.version += 1
        self._changed.pop(build_id, None)
        self._changed[build_id] = self.version
        if len(self._changed) > KEPT:
            del self._changed[next(iter(self._changed))]
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, version: int) -> list[int]:
        """The builds that changed after ``version``, the latest last; waits until there is one."""
        while self.version == version:
            await self._news.wait()
        return [build_id for build_id, changed in self._changed.items() if changed > version]


board = Board()
