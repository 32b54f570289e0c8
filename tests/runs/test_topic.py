"""Topics from Python: read a page, follow what comes, pipe into them; in sync code and in coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from django_agent_sse import Event, Topic, topic_cursor
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import (
    ArgumentInvalid,
    AsyncRequired,
    EventTooLarge,
    InvalidEvent,
    PositionGone,
    TopicClosed,
)
from django_agent_sse.topics.feeds import feeds_here
from tests.inprocess import eventually

from .logs import empty_log

NAME = "runs.42"
PATIENCE = 60.0


@pytest.fixture(autouse=True, params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(request.param, request) as one:
        yield one


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Callable[..., list[Event]]:
    """``read(after, limit)`` of the topic, by either verb."""
    topic = Topic(NAME)
    return topic.read if request.param == "sync" else async_to_sync(topic.aread)


def data(events: list[Event]) -> list[str]:
    return [event.data for event in events]


def whole(topic: Topic) -> list[tuple[str | None, str]]:
    return [(event.event, event.data) for event in topic.read(limit=10_000)]


# Read


def test_a_topic_is_read_page_by_page_and_each_event_is_where_it_was(read: Callable[..., list[Event]]) -> None:
    positions = Topic(NAME).publish_many([Event("1", event="a", retry=5), Event("2"), Event("3")])
    first = read(limit=2)
    assert first == [
        Event("1", event="a", retry=5, id=str(positions[0])),
        Event("2", id=str(positions[1])),
    ]
    assert data(read(first[-1].id, 2)) == ["3"]
    assert read(str(positions[2])) == []


def test_a_page_is_as_long_as_was_asked_though_the_log_gives_less_at_a_time(read: Callable[..., list[Event]]) -> None:
    Topic(NAME).publish_many([str(number) for number in range(700)])
    assert data(read()) == [str(number) for number in range(256)]
    assert data(read(limit=600)) == [str(number) for number in range(600)]
    assert data(read(limit=10_000)) == [str(number) for number in range(700)]


def test_a_topic_that_does_not_exist_has_no_events(read: Callable[..., list[Event]]) -> None:
    assert read() == []
    cursor = topic_cursor(NAME)
    assert read(cursor) == []
    Topic(NAME).publish("first")
    assert data(read(cursor)) == ["first"]


def test_what_was_dropped_is_left_out_at_the_beginning_and_told_in_between(read: Callable[..., list[Event]]) -> None:
    positions = Topic(NAME).publish_many(["1", "2", "3", "4"])
    backend.event_log().trim(NAME, max_events=2)
    assert data(read()) == ["3", "4"]
    assert data(read(str(positions[1]))) == ["3", "4"]
    with pytest.raises(PositionGone, match="trimmed") as gone:
        read(str(positions[0]))
    assert gone.value.reason == "trimmed"


@pytest.mark.parametrize(("after", "reason"), [("nonsense", "unknown"), ("", "unknown"), ("abcdefgh.1", "epoch")])
def test_a_position_that_is_none_of_this_topic_is_refused(read: Callable[..., list[Event]], after: str, reason: str) -> None:
    Topic(NAME).publish("1")
    with pytest.raises(PositionGone, match="Leave after= out") as gone:
        read(after)
    assert gone.value.reason == reason


def test_a_position_beyond_the_end_is_refused(read: Callable[..., list[Event]]) -> None:
    position = Topic(NAME).publish("1")
    with pytest.raises(PositionGone) as gone:
        read(f"{position.epoch}.7")
    assert gone.value.reason == "ahead"


@pytest.mark.parametrize("limit", [0, -1, True, "5", None, 2.5])
def test_a_limit_is_a_number_of_events(read: Callable[..., list[Event]], limit: Any) -> None:
    with pytest.raises(ArgumentInvalid, match="limit"):
        read(None, limit)


# Follow


async def taken(topic: Topic, count: int, **about: Any) -> list[Event]:
    found: list[Event] = []
    async with aclosing(aiter(topic.follow(**about))) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_what_is_there_and_what_comes_is_one_stream_until_the_topic_is_closed() -> None:
    topic = Topic(NAME)
    await topic.apublish_many(["1", Event("2", event="e")])

    async def go_on() -> None:
        await topic.apublish("3")
        await topic.aclose("finished", last=["4", Event("5", event="end")])

    task = asyncio.create_task(go_on())
    found = await asyncio.wait_for(taken(topic, 10), PATIENCE)
    await task
    assert [(event.event, event.data) for event in found] == [(None, "1"), ("e", "2"), (None, "3"), (None, "4"), ("end", "5")]
    assert found == await topic.aread(), "each with its position"
    assert (await topic.astate()).closed == "finished"


async def test_following_goes_on_after_any_event_and_at_the_end_is_over() -> None:
    topic = Topic(NAME)
    await topic.aclose("finished", last=[str(number) for number in range(5)])
    events = await topic.aread()
    for number, event in enumerate(events):
        rest = await asyncio.wait_for(taken(topic, 10, after=event.id), PATIENCE)
        assert data(rest) == [str(later) for later in range(number + 1, 5)]


async def test_a_live_follower_begins_with_the_next_event_and_waits_for_a_topic_that_is_not_there() -> None:
    topic = Topic(NAME)
    waiting = asyncio.create_task(taken(topic, 2, start="live"))
    await eventually("it waits", lambda: (feed := feeds_here()._feeds.get(NAME)) and feed._waiting)
    await topic.apublish_many(["1", "2"])
    assert data(await asyncio.wait_for(waiting, PATIENCE)) == ["1", "2"]
    late = aiter(topic.follow(start="live"))
    coming = asyncio.ensure_future(anext(late))
    done: set[Any] = set()
    for number in range(3, 200):
        await topic.apublish(str(number))
        done, _ = await asyncio.wait({coming}, timeout=0.05)
        if done:
            break
    assert int(coming.result().data) >= 3
    await late.aclose()


async def test_a_follower_is_told_that_events_were_dropped_and_does_not_go_on_as_if_nothing_was() -> None:
    topic = Topic(NAME)
    positions = await topic.apublish_many(["1", "2", "3"])
    await backend.event_log().atrim(NAME, max_events=1)
    with pytest.raises(PositionGone, match="trimmed"):
        await asyncio.wait_for(taken(topic, 1, after=str(positions[0])), PATIENCE)
    assert data(await asyncio.wait_for(taken(topic, 1), PATIENCE)) == ["3"]


async def test_a_follower_ends_with_a_topic_that_is_deleted() -> None:
    topic = Topic(NAME)
    await topic.apublish("1")

    found: list[str] = []
    async for event in topic.follow():
        found.append(event.data)
        await topic.adelete()
    assert found == ["1"]


def test_sync_code_follows_with_for() -> None:
    topic = Topic(NAME)
    topic.publish("1")

    def go_on() -> None:
        for number in range(2, 6):
            topic.publish(str(number))
        topic.close("finished", last=["last"])

    thread = threading.Timer(0.05, go_on)
    thread.start()
    assert [event.data for event in topic.follow()] == ["1", "2", "3", "4", "5", "last"]
    thread.join()
    after = topic.read(limit=2)[-1].id
    assert [event.data for event in topic.follow(after)] == ["3", "4", "5", "last"]
    assert [*topic.follow(start="live")] == []


def test_what_following_cannot_take_is_refused() -> None:
    with pytest.raises(ArgumentInvalid, match="start"):
        Topic(NAME).follow(start="newest")  # type: ignore[arg-type]
    with pytest.raises(PositionGone, match="unknown"):
        next(iter(Topic(NAME).follow("nonsense")))


async def test_sync_verbs_are_refused_where_a_loop_runs() -> None:
    topic = Topic(NAME)
    for call, hint in (
        (topic.read, "await aread"),
        (lambda: topic.pipe(["x"]), "await apipe"),
        (lambda: topic.pipe_sse("data: x\n\n"), "await apipe_sse"),
        (lambda: next(iter(topic.follow())), "async for"),
    ):
        with pytest.raises(AsyncRequired, match=hint):
            call()


# Pipe


class Closable:
    """An iterator that knows whether it was closed."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)
        self.closed = False

    def __iter__(self) -> Closable:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self.closed = True


def test_each_item_is_an_event_as_it_comes() -> None:
    topic = Topic(NAME)
    seen: list[int] = []

    def items() -> Iterator[Any]:
        for item in ("text", {"n": 1}, Event("own", event="mine"), None):
            seen.append(topic.state().top)
            yield item

    assert topic.pipe(items(), event="token") == 4
    assert whole(topic) == [("token", "text"), ("token", '{"n":1}'), ("mine", "own"), ("token", "null")]
    assert seen == [0, 1, 2, 3], "nothing is held back until there is more"


def test_the_lines_of_a_file_are_events_and_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\r\n\nlast")
    topic, file = Topic(NAME), path.open()
    assert topic.pipe(file, event="line") == 4
    assert file.closed
    assert [text for _, text in whole(topic)] == ["one", "two", "", "last"]


def test_whatever_happens_the_source_is_closed() -> None:
    topic = Topic(NAME)
    failing = Closable("1", ValueError("the model failed"))
    with pytest.raises(ValueError, match="the model failed"):
        topic.pipe(failing)
    topic.close()
    late = Closable("2")
    with pytest.raises(TopicClosed):
        topic.pipe(late)
    assert (failing.closed, late.closed) == (True, True)
    assert data(topic.read()) == ["1"]


@pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 7, None, Event("x"), int])
def test_what_has_no_items_is_refused(source: Any) -> None:
    with pytest.raises(ArgumentInvalid, match=r"pipe\(\)"):
        Topic(NAME).pipe(source)
    assert not Topic(NAME).state().exists


async def tokens(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def test_an_async_source_is_piped_by_the_twin_which_takes_any_other_too() -> None:
    topic = Topic(NAME)
    with pytest.raises(ArgumentInvalid, match="apipe"):
        topic.pipe(tokens("x"))  # type: ignore[arg-type]

    async def pipe() -> int:
        count = await topic.apipe(tokens("1", Event("2", event="own")), event="token")
        count += await topic.apipe(["3"], event="token")
        return count + await topic.apipe(iter(["4"]), event="token")

    assert async_to_sync(pipe)() == 4
    assert whole(topic) == [("token", "1"), ("own", "2"), ("token", "3"), ("token", "4")]


async def test_a_file_is_piped_line_by_line_in_coroutines_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\r\ntwo\n")
    topic = Topic(NAME)
    assert await topic.apipe(path.open("rb")) == 2
    assert data(await topic.aread()) == ["one", "two"]


FRAMED = "event: start\nid: 7\ndata: {}\n\n: ping\n\ndata: ü\ndata: two\n\nevent: sse.end\ndata: x\n\ndata: [DONE]\n\n"
EVENTS = [("start", "{}"), (None, "ü\ntwo"), (None, "[DONE]")]


@pytest.mark.parametrize("step", [1, 3, 10_000])
def test_framed_text_is_read_again_wherever_it_was_cut(step: int) -> None:
    topic, raw = Topic(NAME), FRAMED.encode()
    pieces = [raw[start : start + step] for start in range(0, len(raw), step)]
    assert topic.pipe_sse(pieces) == 3
    assert whole(topic) == EVENTS
    topic.delete()
    assert async_to_sync(topic.apipe_sse)(tokens(*pieces)) == 3
    assert whole(topic) == EVENTS


def test_framed_text_may_be_one_piece_and_a_file(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    path.write_text(FRAMED)
    topic = Topic(NAME)
    assert topic.pipe_sse(FRAMED) == 3
    assert topic.pipe_sse(path.open("rb")) == 3
    assert async_to_sync(topic.apipe_sse)(FRAMED) == 3
    assert whole(topic) == EVENTS * 3


# Last events


def test_last_events_are_values_like_any_others_and_closing_again_adds_none() -> None:
    topic = Topic(NAME)
    topic.publish("1")
    assert topic.close("finished", last=[{"done": True}, Event("[DONE]", event="e")])
    assert whole(topic) == [(None, "1"), (None, '{"done":true}'), ("e", "[DONE]")]
    assert not topic.close("finished", last=["again"])
    assert not async_to_sync(topic.aclose)("finished", last=["again"])
    assert len(topic.read()) == 3
    other = Topic("other")
    assert async_to_sync(other.aclose)("failed", last=["only"])
    assert (data(other.read()), other.state().closed) == (["only"], "failed")


@pytest.mark.parametrize(
    ("last", "error"), [("text", ArgumentInvalid), ([float("nan")], InvalidEvent), (["x" * 2_000_000], EventTooLarge)]
)
def test_last_events_that_cannot_be_are_refused_and_nothing_is_closed(last: Any, error: type[Exception]) -> None:
    topic = Topic(NAME)
    topic.publish("1")
    with pytest.raises(error):
        topic.close("finished", last=last)
    state = topic.state()
    assert (state.closed, state.top) == (None, 1)


async def test_a_sync_iterator_that_blocks_does_not_hold_up_the_loop() -> None:
    topic = Topic(NAME)
    goes_on = threading.Event()

    def slow() -> Iterator[str]:
        assert goes_on.wait(PATIENCE)  # on the loop it would wait for itself
        yield "1"

    piping = asyncio.create_task(topic.apipe(slow()))
    for _ in range(4):
        await asyncio.sleep(0.01)
    assert not piping.done()
    goes_on.set()
    assert await piping == 1
    assert await sync_to_async(topic.read)() == await topic.aread()
