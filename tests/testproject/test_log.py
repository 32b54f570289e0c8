"""The log of a build: a topic, published in batches."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from builds.log import MOST, BuildLog, lines_of

from django_agent_sse.testing import PublishedLog, fresh_log

_ids = itertools.count(1)


@pytest.fixture(autouse=True)
def published() -> Iterator[PublishedLog]:
    with fresh_log() as log:
        yield log


@pytest.fixture
def log() -> BuildLog:
    return BuildLog(next(_ids))


def texts(count: int) -> list[str]:
    return [f"line {number}" for number in range(1, count + 1)]


async def read(log: BuildLog) -> list[str]:
    """Every line, checked to be numbered without a gap."""
    found = [one async for one in lines_of(log.topic.name)]
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return [text for _, text in found]


@pytest.mark.parametrize("count", [0, 1, 255, MOST - 1, MOST, 2 * MOST + 7])
@pytest.mark.parametrize("at_once", [1, 100, 10_000])
async def test_line_17_is_the_event_at_offset_17(log: BuildLog, count: int, at_once: int) -> None:
    lines = texts(count)
    for start in range(0, count, at_once):
        await log.extend("stdout", lines[start : start + at_once])
    await log.flush()
    assert await read(log) == lines
    assert log.top == count


async def test_lines_are_published_by_themselves_soon(log: BuildLog) -> None:
    await log.extend("stdout", ["one"])
    await log.extend("stdout", ["two"])
    async with asyncio.timeout(5):
        while await read(log) != ["one", "two"]:  # noqa: ASYNC110  (nothing tells when)
            await asyncio.sleep(0.01)


async def test_two_pipes_fill_one_log(log: BuildLog, published: PublishedLog) -> None:
    async def pump(source: str) -> None:
        for number in range(1000):
            await log.extend(source, [f"{source} {number}"])  # type: ignore[arg-type]
            await asyncio.sleep(0)

    await asyncio.gather(pump("stdout"), pump("stderr"))
    await log.flush()
    events = published.published(log.topic.name)
    for source in ("stdout", "stderr"):
        assert [event.data for event in events if event.event == source] == [f"{source} {number}" for number in range(1000)]
