"""The log of a build, over the real key-value store."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest
from builds.log import CHUNK, NAMESPACE, Batch, BuildLog, chunk_key

from django_agent_sse.streams.kv import KV, KVResult

_ids = itertools.count(1)


@pytest.fixture
def kv() -> KV:
    return KV("default")


@pytest.fixture
def log(kv: KV) -> BuildLog:
    return BuildLog(next(_ids), kv)


def texts(count: int, first: int = 1) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


async def read(log: BuildLog, after: int = 0) -> list[str]:
    """Every line to the end of a closed log, checked to be numbered without a gap."""
    got: list[str] = []
    async for batch in log.follow(after):
        assert batch.first == after + len(got) + 1
        got += [text for _, text in batch.lines]
    return got


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("at_once", [1, 100, 10_000])
async def test_a_log_is_the_same_while_it_runs_and_afterwards(log: BuildLog, kv: KV, count: int, at_once: int) -> None:
    live = asyncio.create_task(read(log))
    lines = texts(count)
    for start in range(0, count, at_once):
        await log.extend("stdout", lines[start : start + at_once])
    await log.flush()
    await log.close()
    assert await live == lines
    assert await read(log) == lines
    assert await read(BuildLog.finished(log.build_id, kv, count)) == lines


async def test_reading_begins_after_any_line(log: BuildLog) -> None:
    lines = texts(2 * CHUNK + 5)
    await log.extend("stdout", lines)
    await log.close()
    for after in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 4, 2 * CHUNK + 5):
        assert await read(log, after) == lines[after:]


async def test_chunks_are_in_the_store_as_they_fill_and_not_in_memory(log: BuildLog, kv: KV) -> None:
    await log.extend("stdout", texts(2 * CHUNK + 3))
    assert len(log._tail) == 3
    assert (await kv.get(NAMESPACE, chunk_key(log.build_id, 1))).data[0] == ("stdout", f"line {CHUNK + 1}")
    assert not (await kv.get(NAMESPACE, chunk_key(log.build_id, 2))).exists


async def test_two_pipes_fill_one_log(log: BuildLog) -> None:
    async def pump(source: Any) -> None:
        for number in range(1000):
            await log.extend(source, [f"{source} {number}"])
            await asyncio.sleep(0)

    await asyncio.gather(pump("stdout"), pump("stderr"))
    await log.flush()
    await log.close()
    got = [line async for batch in log.follow(0) for line in batch.lines]
    for source in ("stdout", "stderr"):
        assert [text for origin, text in got if origin == source] == [f"{source} {number}" for number in range(1000)]


async def test_a_reader_that_goes_takes_nobody_with_it(log: BuildLog) -> None:
    stays, goes = asyncio.create_task(read(log)), asyncio.create_task(read(log))
    await log.extend("stdout", ["one"])
    await asyncio.sleep(0)
    goes.cancel()
    await asyncio.sleep(0)
    await log.extend("stdout", ["two"])
    await log.close()
    assert await stays == ["one", "two"]


async def test_a_chunk_that_the_store_dropped_is_named(log: BuildLog, kv: KV) -> None:
    await log.extend("stdout", texts(2 * CHUNK + 3))
    await log.close()
    await kv.delete(NAMESPACE, chunk_key(log.build_id, 0))
    batches = [batch async for batch in log.follow(9)]
    assert batches[0] == Batch(first=10, missing=CHUNK - 9)
    assert [batch.first for batch in batches[1:]] == [CHUNK + 1, 2 * CHUNK + 1]


class FullStore:
    """A store that takes nothing."""

    async def set(self, ns: str, key: str, value: object) -> None:
        raise ConnectionError("no room")

    async def get(self, ns: str, key: str) -> KVResult:
        return KVResult(exists=False)


async def test_a_store_that_fails_neither_stops_the_build_nor_takes_its_memory(caplog: pytest.LogCaptureFixture) -> None:
    log = BuildLog(next(_ids), FullStore())  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "builds.log"):
        await log.extend("stdout", texts(3 * CHUNK + 1))
    assert len(log._tail) == 1
    assert len(caplog.records) == 3
    await log.close()
    batches = [batch async for batch in log.follow(0)]
    assert [batch.missing for batch in batches] == [CHUNK, CHUNK, CHUNK, 0]
