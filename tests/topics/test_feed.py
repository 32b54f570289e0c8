"""A feed and its followers: no seam between what was and what comes, gaps where continuity is lost, nothing read twice."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.position import Position
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.topics import feed as feeds
from django_agent_sse.topics.batch import CHUNK_BYTES, Batch
from django_agent_sse.topics.feed import PAGE, RING_BYTES, RING_EVENTS, Feed
from django_agent_sse.topics.follower import Finished, Follower, Gap
from django_agent_sse.wire.event import Event

from .reading import after, decoded, pulled, read, texts_until, waits

TOPIC = "builds.42"
PATIENCE = 60.0
CROSSINGS = 100_000 if "LONG_PROOFS" in os.environ else 3_000
_T = TypeVar("_T")


class Watched(MemoryEventLog):
    """A log whose reads go through the loop, can be held, and are counted."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.reads = 0
        self.before: Callable[[], Any] = lambda: None
        self.after: Callable[[], Any] = lambda: None
        self.fails = False

    async def _run(self, body: Callable[[], _T]) -> _T:
        await asyncio.sleep(0)
        if self.fails:
            raise EventLogUnavailable("the store is away")
        self.reads += 1
        self.before()
        found = body()
        await asyncio.sleep(0)
        self.after()
        await asyncio.sleep(0)
        return found


@pytest.fixture
def log() -> Watched:
    return Watched()


def publish(log: MemoryEventLog, *texts: str) -> None:
    log.append(TOPIC, [Event(text) for text in texts])


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


async def opened(log: MemoryEventLog) -> Feed:
    feed = Feed(TOPIC, log)
    await feed.refresh()
    return feed


# From the log and from the ring


async def test_a_follower_gets_what_was_and_then_what_comes(log: Watched) -> None:
    publish(log, *numbers(1, 10))
    feed = await opened(log)
    follower = Follower(feed)
    assert await texts_until(follower, 10) == numbers(1, 10)
    assert await waits(follower)
    publish(log, "11")
    feed.request_refresh()
    assert await texts_until(follower, 1) == ["11"]


async def test_a_follower_with_an_id_gets_what_comes_after_it(log: Watched) -> None:
    (*_, sixth) = log.append(TOPIC, [Event(text) for text in numbers(1, 6)])
    publish(log, *numbers(7, 10))
    assert await texts_until(await after(await opened(log), str(sixth)), 4) == numbers(7, 10)


async def test_a_topic_that_does_not_exist_yet_is_waited_for(log: Watched) -> None:
    feed = await opened(log)
    oldest, live = Follower(feed), Follower(feed, start="live")
    assert await waits(oldest)
    publish(log, "one", "two")
    feed.request_refresh()
    for follower in (oldest, live):
        assert await texts_until(follower, 2) == ["one", "two"]


async def test_live_begins_with_the_next_event(log: Watched) -> None:
    publish(log, *numbers(1, 3))
    feed = await opened(log)
    follower = Follower(feed, start="live")
    assert follower.position == Position(feed.epoch, 3)
    assert await waits(follower)
    publish(log, "4")
    feed.request_refresh()
    assert await texts_until(follower, 1) == ["4"]


async def test_who_waits_at_the_end_shares_one_chunk_and_no_read(log: Watched) -> None:
    publish(log, "1")
    feed = await opened(log)
    followers = [Follower(feed, start="live") for _ in range(50)]
    reading = [asyncio.create_task(pulled(follower)) for follower in followers]
    await asyncio.sleep(0)
    before = log.reads
    publish(log, *numbers(2, 9))
    await feed.refresh()
    chunks = await asyncio.wait_for(asyncio.gather(*reading), PATIENCE)
    assert len({id(chunk.data) for chunk in chunks if isinstance(chunk, Batch)}) == 1
    assert log.reads == before + 1


async def test_those_who_are_behind_together_share_pages(log: Watched) -> None:
    publish(log, *numbers(1, 4 * PAGE))
    feed = await opened(log)
    before = log.reads
    found = await asyncio.gather(*(texts_until(Follower(feed), 4 * PAGE) for _ in range(20)))
    assert all(texts == numbers(1, 4 * PAGE) for texts in found)
    assert log.reads - before <= 4 + 4, "a read a page, and not a read a follower"


@pytest.mark.parametrize(("pages", "reads"), [(feeds.PAGES, 2), (4, 6)], ids=["as many as catch up", "fewer"])
async def test_those_who_are_behind_at_places_of_their_own_get_on(
    log: Watched, monkeypatch: pytest.MonkeyPatch, pages: int, reads: int
) -> None:
    """A page has five chunks of these. With fewer pages than followers each may cost a read, and none costs more."""
    monkeypatch.setattr(feeds, "PAGES", pages)
    followers, count = 16, 18 * PAGE
    publish(log, *["x" * 1_000] * (count + RING_EVENTS))
    feed = await opened(log)
    behind = [await after(feed, f"{feed.epoch}.{number * PAGE}") for number in range(followers)]
    before = log.reads

    async def reads_as_its_client_takes(follower: Follower) -> int:
        count = 0
        while count < 2 * PAGE:
            count += len(decoded((await read(follower)).data))
            for _ in range(3 * followers):
                await asyncio.sleep(0)
        return count

    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*map(reads_as_its_client_takes, behind))
    assert found == [2 * PAGE] * followers
    assert log.reads - before <= reads * (followers + 1), "a page is there when it is its follower's turn"
    assert len(feed._pages) <= max(pages, followers)


async def test_a_chunk_has_its_bound_and_one_large_event_is_one_chunk(log: Watched) -> None:
    small, large = "x" * 1000, "y" * (3 * CHUNK_BYTES)
    publish(log, *[small] * 200, large, small)
    follower = Follower(await opened(log))
    sizes = []
    for _ in range(30):
        chunk = await read(follower)
        sizes.append((len(chunk.data), len(decoded(chunk.data))))
        if follower.position.offset == 202:
            break
    assert all(size <= CHUNK_BYTES or count == 1 for size, count in sizes)
    assert sum(count for _, count in sizes) == 202


async def test_a_ring_is_bounded_by_events_and_by_bytes(log: Watched) -> None:
    feed = await opened(log)
    for _ in range(5):
        publish(log, *["x"] * RING_EVENTS)
        await feed.refresh()
    assert len(feed._ring) == RING_EVENTS
    publish(log, *["y" * 100_000] * 40)
    await feed.refresh()
    assert feed._ring_bytes <= RING_BYTES
    assert len(feed._ring) > 1


# Gaps and ends


async def test_large_events_are_read_one_by_one_where_memory_is_short(log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number}{'x' * 600_000}" for number in range(8)]
    publish(log, *texts)
    feed = await opened(log)
    monkeypatch.setattr(feeds.budget, "limit", 0)
    before = log.reads
    async with asyncio.timeout(PATIENCE):
        assert await texts_until(Follower(feed), len(texts)) == texts
    assert log.reads - before <= 3 * len(texts), "each is read, and the page that leads to it, but not again and again"
    assert len(feed._pages) == 1


async def test_what_was_trimmed_is_one_gap_with_the_number_of_lost_events(log: Watched) -> None:
    publish(log, *numbers(1, 10))
    feed = await opened(log)
    follower = await after(feed, f"{feed.epoch}.2")
    log.trim(TOPIC, max_events=3)
    feed.request_refresh()
    await feed.refresh()
    gap = await read(follower)
    assert gap == Gap("trimmed", f"{feed.epoch}.2", 5, str(Position(feed.epoch, 7)))
    assert await texts_until(follower, 3) == numbers(8, 10)
    assert await texts_until(await after(feed, gap.id), 3) == numbers(8, 10), "the gap's id repeats no gap"


async def test_what_is_trimmed_while_a_page_is_read_is_a_gap_too(log: Watched) -> None:
    publish(log, *numbers(1, 2 * RING_EVENTS))
    feed = await opened(log)
    follower = Follower(feed)
    log.before = lambda: MemoryEventLog._trim(log, TOPIC, 10, None, None)
    gap = await read(follower)
    assert (gap.reason, gap.missed) == ("trimmed", 2 * RING_EVENTS - 10)
    assert await texts_until(follower, 10) == numbers(2 * RING_EVENTS - 9, 2 * RING_EVENTS)


async def test_without_an_id_the_oldest_that_is_kept_is_no_gap(log: Watched) -> None:
    publish(log, *numbers(1, 10))
    log.trim(TOPIC, max_events=3)
    assert await texts_until(Follower(await opened(log)), 3) == numbers(8, 10)


async def test_a_topic_that_was_recreated_is_a_gap_at_its_beginning(log: Watched) -> None:
    publish(log, "old")
    feed = await opened(log)
    follower, old = Follower(feed), feed.epoch
    assert await texts_until(follower, 1) == ["old"]
    log.delete(TOPIC)
    publish(log, "new", "newer")
    await feed.refresh()
    gap = await read(follower)
    assert gap == Gap("epoch", f"{old}.1", None, str(Position(feed.epoch, 0)))
    assert await texts_until(follower, 2) == ["new", "newer"]
    returning = Follower(feed)
    assert await returning.resume(Position(old, 1)) == "epoch"
    assert await texts_until(returning, 2) == ["new", "newer"]


async def test_a_deleted_topic_ends_and_who_comes_later_waits(log: Watched) -> None:
    publish(log, "one")
    feed = await opened(log)
    follower = Follower(feed)
    await texts_until(follower, 1)
    log.delete(TOPIC)
    await feed.refresh()
    assert await read(follower) == Finished("deleted")
    assert await waits(Follower(feed))


@pytest.mark.parametrize("start", ["oldest", "live"])
@pytest.mark.parametrize(
    ("asked", "reason"), [("nonsense", "unknown"), ("abcdefgh.1", "epoch"), ("EPOCH.99", "ahead"), ("EPOCH.2", None), ("0", None)]
)
async def test_an_id_is_honoured_or_the_reason_is_said(log: Watched, start: Any, asked: str, reason: str | None) -> None:
    publish(log, *numbers(1, 3))
    feed = await opened(log)
    follower = Follower(feed, start)
    sent = Position.parse(asked.replace("EPOCH", feed.epoch))
    assert await follower.resume(sent) == reason
    begins = 3 if start == "live" and reason in ("unknown", "ahead") else sent.offset if sent and not reason else 0
    assert follower.position == Position(feed.epoch, begins)
    publish(log, "4")
    feed.request_refresh()
    assert await texts_until(follower, 4 - begins) == numbers(begins + 1, 4)


async def test_an_id_that_only_the_log_knows_yet_is_honoured(log: Watched) -> None:
    publish(log, "1")
    feed = await opened(log)
    (second,) = log.append(TOPIC, Event("2"))  # nothing was notified
    follower = await after(feed, str(second))
    publish(log, "3")
    feed.request_refresh()
    assert await texts_until(follower, 1) == ["3"]


async def test_a_closed_topic_ends_after_its_last_event_and_for_those_who_come_later(log: Watched) -> None:
    feed = await opened(log)
    follower = Follower(feed)
    reading = asyncio.create_task(texts_until(follower, 2))
    publish(log, "one", "two")
    log.close(TOPIC, "passed")
    feed.request_refresh()
    assert await reading == ["one", "two"]
    assert await read(follower) == Finished("passed")
    late = await after(feed, str(follower.position))
    assert await read(late) == Finished("passed")


async def test_a_log_that_is_away_for_a_while_costs_nothing_but_time(log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "RETRY", 0.01)
    publish(log, *numbers(1, 3 * PAGE))
    feed = await opened(log)
    follower = Follower(feed)
    log.fails = True
    reading = asyncio.create_task(texts_until(follower, 3 * PAGE))
    await asyncio.sleep(0.05)
    assert not reading.done()
    log.fails = False
    assert await asyncio.wait_for(reading, PATIENCE) == numbers(1, 3 * PAGE)


async def test_a_reader_that_is_cancelled_cancels_nobody_else(log: Watched) -> None:
    many = RING_EVENTS + PAGE
    publish(log, *numbers(1, many))
    feed = await opened(log)
    leaving, staying = Follower(feed), Follower(feed)
    first, second = asyncio.create_task(pulled(leaving)), asyncio.create_task(texts_until(staying, many))
    await asyncio.sleep(0)
    assert not first.done(), "it waits for a page of the log"
    first.cancel()
    assert await asyncio.wait_for(second, PATIENCE) == numbers(1, many)
    assert await texts_until(leaving, many) == numbers(1, many), "and loses nothing itself"


# The seam


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("there", [0, 1, PAGE - 1, PAGE, RING_EVENTS + 3])
async def test_events_that_come_while_the_log_is_read_are_neither_lost_nor_doubled(log: Watched, moment: str, there: int) -> None:
    """An append at each read of the log, before or after it looks, notified of at once."""
    publish(log, *numbers(1, there))
    feed = await opened(log)
    total = there

    def interrupt() -> None:
        nonlocal total
        if total < there + 40:
            total += 1
            MemoryEventLog.append(log, TOPIC, Event(str(total)))
            feed.request_refresh()

    setattr(log, moment, interrupt)
    follower = Follower(feed)
    feed.request_refresh()
    assert await texts_until(follower, there + 40) == numbers(1, there + 40)


async def test_crossings_between_the_log_and_the_ring_lose_and_double_nothing(
    log: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Followers begin at random offsets while a publisher runs, with a small ring, so that each goes back and forth.

    A crossing is a chunk that came from the ring after one that came from the log, or the other way round. ``tox -e long`` has
    100,000 of them.
    """
    monkeypatch.setattr(feeds, "RING_EVENTS", 8)
    chance = random.Random(7)
    publish(log, "1")
    feed = await opened(log)
    top, crossings, done = 1, 0, False

    async def publisher() -> None:
        nonlocal top, done
        while crossings < CROSSINGS:
            count = chance.randint(1, 4)
            publish(log, *numbers(top + 1, top + count))
            top += count
            feed.request_refresh()
            await asyncio.sleep(0)
        done = True
        log.close(TOPIC)
        feed.request_refresh()

    async def reader() -> None:
        nonlocal crossings
        while not done:
            begin = chance.randint(max(0, feed.top - 40), feed.top)
            follower = await after(feed, str(Position(feed.epoch, begin)))
            expected, before = begin + 1, None
            for _ in range(chance.randint(10, 100)):
                if chance.random() < 0.5:  # and falls behind
                    for _ in range(chance.randint(1, 20)):
                        await asyncio.sleep(0)
                from_ring = expected > feed.top or expected > feed.top - len(feed._ring)
                found = await pulled(follower)
                if isinstance(found, Finished):
                    break
                assert isinstance(found, Batch), found
                got = [int(event.data) for event in decoded(found.data)]
                assert got == list(range(expected, expected + len(got)))
                expected += len(got)
                crossings += before is not None and before != from_ring
                before = from_ring

    await asyncio.wait_for(asyncio.gather(publisher(), *(reader() for _ in range(20))), 500)
    assert crossings >= CROSSINGS
