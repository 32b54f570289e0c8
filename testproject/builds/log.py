"""The log of one build: a topic to follow, and chunks in the key-value store for who comes when the topic is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from django_agent_sse import KV, Event, Topic

logger = logging.getLogger(__name__)

NAMESPACE = "builds"
CHUNK = 256
"""Lines of a chunk: a reader that is behind fetches so many at once, and the process holds few more of each build."""

Source = Literal["stdout", "stderr"]
Line = tuple[Source, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Lines that follow one another.

    Attributes:
        first: The number of the first; numbers begin at 1.
        lines: Where each comes from, and its text.
        missing: How many the store has lost, where it has; ``lines`` is empty then.
    """

    first: int
    lines: Sequence[Line] = ()
    missing: int = 0

    @property
    def last(self) -> int:
        """The number of the last line, or of the last that is missing."""
        return self.first + len(self.lines) + self.missing - 1


class BuildLog:
    """What a build has printed so far: line 17 is the event at offset 17 of its topic.

    A topic is gone with its server, or when others have taken its place, so the lines are kept otherwise too. Full chunks go
    to the store as they fill. In memory stays the chunk that is filling: at most 255 lines of at most 8 KiB, and what the two
    pipes were just read for (64 KiB each).
    """

    def __init__(self, build_id: int, kv: KV) -> None:
        self.build_id = build_id
        self.top = 0
        self.closed = False
        self.topic = topic_of(build_id)
        self._kv = kv
        self._tail: list[Line] = []
        self._stored = 0
        self._storing = asyncio.Lock()
        self._changed = asyncio.Event()

    @classmethod
    def finished(cls, build_id: int, kv: KV, lines: int) -> BuildLog:
        """The log of a build that is over and printed ``lines`` lines."""
        log = cls(build_id, kv)
        log.top = log._stored = lines
        log.closed = True
        return log

    async def extend(self, source: Source, texts: Sequence[str]) -> None:
        """Number the lines, wake the readers, and wait for the store when a chunk is full."""
        if texts:
            self._tail += [(source, text) for text in texts]
            self.top += len(texts)
            await self.topic.apublish_many([Event(text, event=source) for text in texts])
            self._wake()
            await self._store(CHUNK)

    async def flush(self) -> None:
        """Store what is left. Call it once, after the last line: chunks are all of one size but the last."""
        await self._store(1)

    async def close(self) -> None:
        """No line will follow: readers come to their end."""
        self.closed = True
        self._wake()
        await self.topic.aclose()

    async def follow(self, after: int) -> AsyncIterator[Batch]:
        """The lines after number ``after``, and those to come, until the log is closed."""
        while True:
            changed = self._changed
            if after < self.top:
                batch = await self._read_after(after)
                yield batch
                after = batch.last
            elif self.closed:
                return
            else:
                await changed.wait()

    async def _read_after(self, after: int) -> Batch:
        if after >= self._stored:
            return Batch(first=after + 1, lines=self._tail[after - self._stored :])
        index, skip = divmod(after, CHUNK)
        found = await self._kv.get(NAMESPACE, chunk_key(self.build_id, index))
        if not found.exists:
            return Batch(first=after + 1, missing=min((index + 1) * CHUNK, self._stored) - after)
        return Batch(first=after + 1, lines=found.data[skip:])

    async def _store(self, at_least: int) -> None:
        async with self._storing:  # two pipes fill one chunk
            while len(self._tail) >= at_least:
                chunk = self._tail[:CHUNK]
                key = chunk_key(self.build_id, self._stored // CHUNK)
                try:
                    await self._kv.set(NAMESPACE, key, chunk)
                except Exception:
                    # The process must be read on, and memory is bounded: readers are told what is missing.
                    logger.exception("the store did not take %d lines of build %d", len(chunk), self.build_id)
                del self._tail[: len(chunk)]
                self._stored += len(chunk)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def topic_of(build_id: int) -> Topic:
    """The topic of a build's lines, and of nothing else."""
    return Topic(f"builds.{build_id}")


def chunk_key(build_id: int, index: int) -> str:
    """The key of a build's chunk: chunk 0 holds the lines 1 to 256."""
    return f"{build_id}:logs:{index}"


def cache_keys(build_id: int, lines: int) -> list[str]:
    """The keys in the cache of all chunks of a build that printed ``lines`` lines."""
    return [KV.cache_key(NAMESPACE, chunk_key(build_id, index)) for index in range(-(-lines // CHUNK))]
