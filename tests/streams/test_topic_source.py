"""``stream.follow()`` through Django's own handler: what was missed, then what comes, with one position for all of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_agent_sse import Context, Event, Stream, Topic, aclose_topic, apublish, apublish_many, atopic_cursor
from django_agent_sse.eventlog import backend, memory
from django_agent_sse.exceptions import EventLogUnavailable, FollowError, StreamClosed
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.topic_source import FollowResult
from django_agent_sse.topics import feed as feed_module
from django_agent_sse.topics.follower import Start
from django_agent_sse.topics.subscription import Subscription
from tests.inprocess import Client, Site, compressed, eventually, send_directly, serve

MEMORY = "django_agent_sse.eventlog.memory.MemoryEventLog"


@pytest.fixture(params=["through the task", "past the task", "compressed", "compressed, past the task"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param.endswith("past the task"):
        send_directly(monkeypatch)
    with compressed(monkeypatch) if request.param.startswith("compressed") else contextlib.nullcontext():
        yield


@pytest.fixture(autouse=True)
def log() -> Iterator[Any]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


@contextlib.asynccontextmanager
async def following(*topics: str, about: Any = None, **how: Any) -> AsyncIterator[Site]:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.follow(*topics, **how)

    async with serve(handler, retry=None, **(about or {})) as site:
        yield site


@contextlib.contextmanager
def log_of(**options: Any) -> Iterator[None]:
    with override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": MEMORY, "OPTIONS": options}}):
        yield


def data(events: list[Event]) -> list[str]:
    return [event.data for event in events]


async def gap(client: Client) -> dict[str, Any]:
    event = await client.event()
    assert event.event == "sse.gap", event
    assert event.id
    told: dict[str, Any] = json.loads(event.data)
    return {**told, "id": event.id}


async def test_what_was_published_and_then_what_is_published() -> None:
    await apublish_many("builds.42", ["one", {"two": 2}, b"three"])
    async with following("builds.42") as site:
        client = site.connect()
        assert data(await client.take(3)) == ["one", '{"two":2}', "three"]
        position = await apublish("builds.42", "four", event="tick")
        event = await client.event()
        assert (event.data, event.event, event.id) == ("four", "tick", str(position))


async def test_who_comes_back_gets_what_came_after_its_last_id() -> None:
    first, *_ = await apublish_many("builds.42", ["one", "two", "three"])
    async with following("builds.42") as site:
        client = site.connect(last_event_id=str(first))
        assert data(await client.take(2)) == ["two", "three"]
        by_query = site.connect(query=f"last_event_id={first}")
        assert data(await by_query.take(2)) == ["two", "three"]


async def test_the_first_event_tells_the_reconnection_time_once() -> None:
    await apublish_many("builds.42", ["one", "two"])

    async def handler(c: Context, stream: Stream) -> None:
        await stream.follow("builds.42")

    async with serve(handler, retry=1234) as site:
        assert [event.retry for event in await site.connect().take(2)] == [1234, None]
        assert site.clients[0].raw.count(b"retry") == 1


async def test_a_publish_from_a_thread_wakes_the_stream() -> None:
    async with following("builds.42") as site:
        client = site.connect()
        assert await client.begun() == 200
        await asyncio.to_thread(Topic("builds.42").publish, "from a thread")
        assert (await client.event()).data == "from a thread"


# Ends


async def test_a_closed_topic_ends_the_stream_and_who_comes_back_gets_204() -> None:
    returned: list[FollowResult] = []

    async def handler(c: Context, stream: Stream) -> None:
        returned.append(await stream.follow("builds.42"))

    async with serve(handler, retry=None) as site:
        client = site.connect()
        position = await apublish("builds.42", "done")
        await aclose_topic("builds.42", "passed")
        event, end = await client.rest()
        assert event.data == "done"
        assert (end.event, end.data) == ("sse.end", '{"reason":"topic_closed","closed":"passed"}')
        assert end.id == f"sse.end~{position}"
        assert returned == [FollowResult({"builds.42": "passed"})]
        assert returned[0].reason == "passed"
        assert await site.connect(last_event_id=end.id).begun() == 204
        again = site.connect(last_event_id=str(position))
        assert [event.event for event in await again.rest()] == ["sse.end"]


async def test_a_handler_may_write_after_the_end_of_its_topic() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        followed = await stream.follow("builds.42")
        await stream.write(f"it {followed.reason}")

    async with serve(handler, retry=None) as site:
        client = site.connect()
        await apublish("builds.42", "one")
        await aclose_topic("builds.42", "failed")
        assert [event.data for event in await client.rest()][:2] == ["one", "it failed"]


async def test_a_deleted_topic_ends_with_that_word() -> None:
    await apublish("builds.42", "one")
    async with following("builds.42") as site:
        client = site.connect()
        await client.event()
        await Topic("builds.42").adelete()
        (end,) = await client.rest()
        assert (end.event, end.data) == ("sse.end", '{"reason":"deleted"}')


async def test_a_topic_that_is_followed_is_not_evicted() -> None:
    with log_of(MAX_TOPICS=3):
        await apublish("quiet", "one")
        async with following("quiet") as site:
            client = site.connect()
            await client.event()
            for number in range(20):
                await apublish(f"noise.{number}", "x")
            position = await apublish("quiet", "two")
            event = await client.event()
            assert (event.event, event.data, event.id, position.offset) == (None, "two", str(position), 2)


async def test_a_topic_that_is_made_while_it_is_followed_is_not_evicted_either() -> None:
    with log_of(MAX_TOPICS=3):
        async with following("quiet") as site:
            client = site.connect()
            await client.begun()
            await apublish("quiet", "one")
            await client.event()
            for number in range(20):
                await apublish(f"noise.{number}", "x")
            assert (await apublish("quiet", "two")).offset == 2
            assert (await client.event()).data == "two"


async def test_a_topic_that_is_evicted_all_the_same_is_one_gap_and_following_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FOLLOWED_FOR", -1.0)  # as where nothing could be noted
    with log_of(MAX_TOPICS=3):
        old = await apublish("quiet", "one")
        async with following("quiet") as site:
            client = site.connect()
            await client.event()
            for number in range(4):
                await apublish(f"noise.{number}", "x")
            assert await gap(client) == {"reason": "epoch", "asked": str(old), "missed": None, "id": "0"}
            new = await apublish("quiet", "two")
            event = await client.event()
            assert (event.data, event.id, new.offset) == ("two", str(new), 1)
            await aclose_topic("quiet")
            assert [event.event for event in await client.rest()] == ["sse.end"], "one gap, and no other"


async def test_closing_the_stream_ends_following() -> None:
    seen: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        async def close() -> None:
            await eventually("it follows", lambda: stream.topics)
            stream.close()

        closing = asyncio.create_task(close())
        try:
            await stream.follow("builds.42")
        except StreamClosed:
            seen.append("closed")
        await closing

    async with serve(handler, retry=None) as site:
        (end,) = await site.connect().rest()
        assert end.data == '{"reason":"completed"}'
        assert seen == ["closed"]


@pytest.mark.parametrize("start", ["oldest", "live"])
async def test_a_stream_that_is_closed_before_it_has_found_its_place_sends_nothing_after_its_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    await apublish("builds.42", "one")
    opened = Subscription.open

    async def handler(c: Context, stream: Stream) -> None:
        async def opening(*about: Any) -> Any:
            lost = await opened(*about)
            stream.close()
            return lost

        monkeypatch.setattr(Subscription, "open", opening)
        try:
            await stream.follow("builds.42", start=start)
        except StreamClosed:
            seen.append("closed")

    async with serve(handler, retry=None) as site:
        client = site.connect()
        assert [event.event for event in await client.rest()] == ["sse.end"]
        assert seen == ["closed"]


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_client_that_leaves_ends_following(on_disconnect: str) -> None:
    over: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        try:
            await stream.follow("builds.42")
        except (StreamClosed, asyncio.CancelledError) as error:
            over.append(type(error).__name__)
            raise

    async with serve(handler, retry=None, on_disconnect=on_disconnect) as site:
        client = site.connect()
        await client.begun()
        supervisor = await site.supervisor()
        client.leave()
        await client.over()
        await eventually("the handler is over", lambda: over)
        assert over == ["CancelledError" if on_disconnect == "cancel" else "StreamClosed"]
        assert supervisor.ending is Ending.CLIENT_DISCONNECT


# Gaps


CANNOT_BE_HONOURED = [
    ("EPOCH.2", "trimmed", 3),
    ("abcdefgh.4", "epoch", None),
    ("EPOCH.99", "ahead", None),
    ("EPOCH.9223372036854775808", "unknown", None),
    ("nonsense", "unknown", None),
    ("v1.aaaaaaabcdefgh1", "unknown", None),
    ("x" * 513, "unknown", None),
    ("ą" * 100, "unknown", None),
    ("EPOCH.-1", "unknown", None),
    ("EPOCH.1\x01", "unknown", None),
]


@pytest.mark.parametrize("start", ["oldest", "live"])
@pytest.mark.parametrize(("sent", "reason", "missed"), CANNOT_BE_HONOURED)
async def test_an_id_that_cannot_be_honoured_is_one_gap_and_none_on_the_next_return(
    log: Any, start: str, sent: str, reason: str, missed: int | None
) -> None:
    epoch = (await apublish_many("builds.42", [*"12345678"]))[0].epoch
    log.trim("builds.42", max_events=3)
    sent = sent.replace("EPOCH", epoch)
    after = 8 if start == "live" and reason in ("ahead", "unknown") else 5
    asked = None if len(sent) > 512 or not sent.isprintable() else sent
    async with following("builds.42", start=start) as site:
        client = site.connect(last_event_id=sent)
        assert await gap(client) == {"reason": reason, "asked": asked, "missed": missed, "id": f"{epoch}.{after}"}
        await apublish("builds.42", "9")
        expected = [*"6789"] if after == 5 else ["9"]
        assert data(await client.take(len(expected))) == expected
        again = site.connect(last_event_id=f"{epoch}.{after}")
        assert data(await again.take(len(expected))) == expected


@pytest.mark.parametrize(("sent", "reason"), [(sent, reason) for sent, reason, _ in CANNOT_BE_HONOURED])
async def test_without_control_events_such_an_id_is_410(log: Any, sent: str, reason: str) -> None:
    epoch = (await apublish_many("builds.42", [*"12345678"]))[0].epoch
    log.trim("builds.42", max_events=3)
    async with following("builds.42") as site:
        client = site.connect(headers={"accept": "*/*"}, last_event_id=sent.replace("EPOCH", epoch))
        assert await client.begun() == 410
        await client.over()
        assert client.json()["error"]["reason"] == reason
        assert data(await site.connect(headers={"accept": "*/*"}).take(3)) == [*"678"]


async def test_without_control_events_a_lost_position_is_410_and_the_next_request_goes_on() -> None:
    await apublish_many("builds.42", ["one", "two"])
    async with following("builds.42") as site:
        client = site.connect(headers={"accept": "*/*"}, last_event_id="abcdefgh.1")
        assert await client.begun() == 410
        await client.over()
        assert client.json()["error"]["reason"] == "epoch"
        assert "begin again without an id" in client.json()["error"]["message"]
        again = site.connect(headers={"accept": "*/*"})
        assert data(await again.take(2)) == ["one", "two"]
        await Topic("builds.42").adelete()


async def test_a_gap_while_the_stream_is_open(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes nothing while its events are trimmed."""
    monkeypatch.setattr(feed_module, "RING_EVENTS", 4)
    async with following("builds.42") as site:
        client = site.connect()
        epoch = (await apublish("builds.42", "0")).epoch
        await client.event()
        client.hold()
        await apublish("builds.42", "1")
        await client.stuck()
        for number in range(2, 101):
            await apublish("builds.42", str(number))
        log.trim("builds.42", max_events=10)
        await apublish("builds.42", "101")
        await asyncio.sleep(0.01)
        client.flow()
        assert (await client.event()).data == "1"
        assert await gap(client) == {"reason": "trimmed", "asked": f"{epoch}.2", "missed": 89, "id": f"{epoch}.91"}
        assert data(await client.take(11)) == [str(number) for number in range(91, 102)]


async def test_a_topic_deleted_and_made_anew_in_one_breath_is_one_gap() -> None:
    old = await apublish("builds.42", "old")
    async with following("builds.42") as site:
        client = site.connect()
        await client.event()
        topic = Topic("builds.42")
        await topic.adelete()
        new = await topic.apublish("new")
        found = await gap(client)
        assert found == {"reason": "epoch", "asked": str(old), "missed": None, "id": f"{new.epoch}.0"}
        assert (await client.event()).data == "new"


async def test_without_control_events_a_later_gap_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    old = await apublish("builds.42", "old")
    async with following("builds.42", about={"control_events": False}) as site:
        client = site.connect()
        await client.event()
        await Topic("builds.42").adelete()
        await apublish("builds.42", "new")
        assert await client.broken_off() == []
        again = site.connect(last_event_id=str(old))
        assert await again.begun() == 410


# Numbers


async def test_a_bare_number_is_an_offset_where_the_route_takes_it() -> None:
    epoch = (await apublish_many("builds.42", [*"1234"]))[0].epoch
    async with following("builds.42", offsets=True) as site:
        for sent, expected in (("2", [*"34"]), ("0", [*"1234"]), (f"{epoch}.3", ["4"])):
            assert data(await site.connect(last_event_id=sent).take(len(expected))) == expected
        events = await site.connect(last_event_id="3").take(1)
        assert [event.id for event in events] == [f"{epoch}.4"], "ids are as ever"
        assert (await gap(site.connect(last_event_id="9")))["reason"] == "ahead"
        for sent in ("-1", "٤", "1.5", "9" * 30):
            assert (await gap(site.connect(last_event_id=sent)))["reason"] == "unknown"
        await Topic("builds.42").adelete()
    async with following("builds.43", offsets=True) as site:
        assert (await gap(site.connect(last_event_id="2")))["reason"] == "unknown"


async def test_a_bare_number_after_which_events_are_gone_is_a_gap(log: Any) -> None:
    await apublish_many("builds.42", [*"1234"])
    log.trim("builds.42", max_events=1)
    async with following("builds.42", offsets=True) as site:
        client = site.connect(last_event_id="1")
        found = await gap(client)
        assert (found["reason"], found["missed"]) == ("trimmed", 2)
        assert (await client.event()).data == "4"


async def test_elsewhere_a_bare_number_is_no_id() -> None:
    await apublish_many("builds.42", [*"1234"])
    async with following("builds.42") as site:
        assert (await gap(site.connect(last_event_id="2")))["reason"] == "unknown"


# Beginning


async def test_live_begins_with_the_next_event_and_says_where_that_is() -> None:
    position = await apublish("builds.42", "before")
    async with following("builds.42", start="live") as site:
        client = site.connect()
        event = await client.event()
        assert (event.event, event.id) == ("sse.position", str(position))
        assert event.data == json.dumps({"position": str(position)}, separators=(",", ":"))
        client.leave()
        await apublish("builds.42", "while it was away")
        again = site.connect(last_event_id=event.id)
        assert (await again.event()).data == "while it was away"


async def test_live_before_there_is_a_topic_loses_nothing() -> None:
    async with following("builds.42", start="live") as site:
        client = site.connect()
        event = await client.event()
        assert event.id == "0"
        client.leave()
        await apublish("builds.42", "the first")
        again = site.connect(last_event_id=event.id)
        assert (await again.event()).data == "the first"


@pytest.mark.parametrize("topics", [["a"], ["a", "b"]])
async def test_a_cursor_taken_for_a_page_begins_exactly_there(topics: list[str]) -> None:
    for topic in topics:
        await apublish(topic, "on the page")
    cursor = await atopic_cursor(*topics)
    for topic in topics:
        await apublish(topic, f"later in {topic}")
    async with following(*topics) as site:
        client = site.connect(query=f"last_event_id={cursor}")
        assert sorted(data(await client.take(len(topics)))) == [f"later in {topic}" for topic in topics]
    async with following(*topics, after=cursor) as site:
        assert sorted(data(await site.connect().take(len(topics)))) == [f"later in {topic}" for topic in topics]


# Filter and map


async def test_a_filter_hides_and_a_map_changes_and_ids_stay_the_logs() -> None:
    positions = await apublish_many("builds.42", range(6))
    how: Any = {
        "filter": lambda event: int(event.data) % 2 == 0,
        "map": lambda event: None if event.data == "2" else {"n": int(event.data)},
    }
    async with following("builds.42", **how) as site:
        events = await site.connect().take(2)
        assert [(event.data, event.id) for event in events] == [('{"n":0}', str(positions[0])), ('{"n":4}', str(positions[4]))]


async def test_what_a_filter_hides_moves_the_position() -> None:
    positions = await apublish_many("builds.42", range(150))
    async with following("builds.42", filter=lambda event: event.data == "249") as site:
        client = site.connect()
        event = await client.event()
        assert (event.event, event.id) == ("sse.position", str(positions[-1]))
        await apublish("builds.42", "249")
        again = site.connect(last_event_id=event.id)
        assert (await again.event()).data == "249"


async def test_a_filter_that_fails_is_an_error_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    await apublish("builds.42", "no number")
    async with following("builds.42", filter=lambda event: int(event.data)) as site:
        (error,) = await site.connect().rest()
        assert error.event == "sse.error"
    assert "invalid literal" in caplog.text


# What follow() refuses


@pytest.mark.parametrize(
    ("topics", "how", "says"),
    [
        ([], {}, "1 to 16 topics, not 0"),
        ([f"t{n}" for n in range(17)], {}, "not 17"),
        (["a"], {"start": "newest"}, "'oldest' begins"),
        (["a", "b"], {"offsets": True}, "with one topic only"),
        (["a"], {"offsets": 1}, "True or False"),
        (["a"], {"filter": 1}, "a plain function"),
        (["a"], {"map": asyncio.sleep}, "a plain function"),
    ],
)
async def test_what_cannot_be_followed_is_refused(topics: list[str], how: Any, says: str) -> None:
    seen: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        with pytest.raises(FollowError, match=says) as raised:
            await stream.follow(*topics, **how)
        seen.append(str(raised.value))

    async with serve(handler) as site:
        await site.connect().rest()
    assert len(seen) == 1


async def test_a_stream_follows_once_and_takes_no_ids_of_others() -> None:
    seen: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(lambda: None)
        await stream.follow("a")
        for attempt in (lambda: stream.follow("b"), lambda: stream.write("x", id="mine")):
            try:
                await attempt()
            except (FollowError, ValueError) as error:
                seen.append(str(error))

    async def numbered(c: Context, stream: Stream) -> None:
        await stream.write("x", id="mine")
        with pytest.raises(FollowError, match="ids are the log's|ids of a stream"):
            await stream.follow("a")

    await aclose_topic("a")
    async with serve(handler) as site:
        await site.connect().rest()
    assert "before" in seen[0]
    assert "positions are its ids" in seen[1]
    async with serve(numbered) as site:
        events = await site.connect().rest()
    assert [event.event for event in events] == [None, "sse.end"]


# A log that is away, and one that is replaced


async def test_a_log_that_cannot_be_read_at_the_start_says_come_back_later(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*args: Any) -> None:
        raise EventLogUnavailable("secret host")

    monkeypatch.setattr(log, "_run", away)
    async with following("builds.42") as site:
        (event,) = await site.connect().rest()
        assert event.event == "sse.overloaded"
        assert event.retry
        plain = site.connect(headers={"accept": "*/*"})
        assert await plain.begun() == 503
        await plain.over()
        assert "secret" not in plain.raw.decode()


async def test_a_stream_goes_on_in_the_new_log_after_one_gap() -> None:
    old = await apublish("builds.42", "old")
    async with following("builds.42") as site:
        client = site.connect()
        await client.event()
        backend.reset()
        found = await gap(client)
        assert (found["reason"], found["asked"], found["id"]) == ("epoch", str(old), "0")
        await apublish("builds.42", "new")
        assert (await client.event()).data == "new"
