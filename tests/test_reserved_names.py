"""Names that begin with ``sse.`` are the package's own: refused at every door, and harmless where they stand already."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.http import Http404
from django.template import Context as TemplateContext
from django.template import Template

import django_agent_sse
from django_agent_sse import Context, Event, Router, Stream, Topic, publish, topic_name
from django_agent_sse.admin.topic_actions import PublishForm
from django_agent_sse.contrib.logging import TopicHandler
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.database.serialization import unpack
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.redis import codec as redis_wire
from django_agent_sse.eventlog.validation import InternalTopic
from django_agent_sse.exceptions import InvalidEvent, RouteError, TopicNameInvalid
from django_agent_sse.testing.log import PublishedLog
from django_agent_sse.wire import MAX_RETRY, Decoder, encode, frame
from tests.inprocess import serve
from tests.serving import ask, served

RESERVED = ["sse.end", "sse.", "SSE.monitor.rows", " sse.monitor.commands", "  Sse.x"]
LOOKALIKES = ["sse", "sse-end", "ssex.y", "builds.sse.end", "asse.x", "sse_monitor.rows"]


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLog]:
    monkeypatch.setattr(MemoryEventLog, "crosses_processes", True)  # so that commands take it
    backend.reset()
    yield backend.event_log()
    backend.reset()


# Topics: every door, found by the names of what it takes


class Text(str):
    """A string of somebody's own, whose methods lie."""

    def lstrip(self, *_: Any) -> Text:
        return Text("nothing")

    def startswith(self, *_: Any) -> bool:
        return False

    def __getitem__(self, key: Any) -> str:
        return "x"


def render(tag: str, name: str) -> str:
    return Template(f"{{% load agent_sse %}}{tag}").render(TemplateContext({"name": name}))


async def through(door: Callable[[str], Any], name: str) -> Any:
    """Go through a door of either kind."""
    made = door(name) if inspect.iscoroutinefunction(door) else await sync_to_async(door)(name)
    return await made if inspect.isawaitable(made) else made


def log_of() -> EventLog:
    return backend.event_log()


async def followed(name: str) -> None:
    """Follow it in a handler; what comes out of that is raised here."""
    raised: list[BaseException] = []

    async def handler(c: Context, stream: Stream) -> None:
        try:
            await stream.follow(name)
        except BaseException as error:
            raised.append(error)
            raise

    async with serve(handler) as site:
        assert await site.connect().begun() == 404
    raise raised[0]


E = Event("x")
TOPIC_DOORS: dict[str, Callable[[str], Any]] = {
    "publish": lambda name: publish(name, "x"),
    "apublish": lambda name: django_agent_sse.apublish(name, "x"),
    "publish_many": lambda name: django_agent_sse.publish_many(name, ["x"]),
    "apublish_many": lambda name: django_agent_sse.apublish_many(name, ["x"]),
    "close_streams": lambda name: django_agent_sse.close_streams(topic=name),
    "aclose_streams": lambda name: django_agent_sse.aclose_streams(topic=name),
    "close_topic": django_agent_sse.close_topic,
    "aclose_topic": django_agent_sse.aclose_topic,
    "produce": django_agent_sse.produce,
    "topic_cursor": django_agent_sse.topic_cursor,
    "atopic_cursor": django_agent_sse.atopic_cursor,
    "Topic.__init__": Topic,
    "Stream.follow": followed,
    "Router.topic": lambda name: Router().topic("x/", name),
    "Router.log": lambda name: Router().log("x/", name),
    "Router.logs": lambda name: Router().logs("x/", {"a": name}),
    "EventLog.append": lambda name: log_of().append(name, E),
    "EventLog.aappend": lambda name: log_of().aappend(name, E),
    "EventLog.append_unrung": lambda name: log_of().append_unrung(name, E),
    "EventLog.read_after": lambda name: log_of().read_after(name),
    "EventLog.aread_after": lambda name: log_of().aread_after(name),
    "EventLog.pages": lambda name: [*log_of().pages(name)],
    "EventLog.state": lambda name: log_of().state(name),
    "EventLog.astate": lambda name: log_of().astate(name),
    "EventLog.summaries": lambda name: log_of().summaries([name]),
    "EventLog.asummaries": lambda name: log_of().asummaries(["a", name]),
    "EventLog.note_followed": lambda name: log_of().note_followed(["a", name]),
    "EventLog.anote_followed": lambda name: log_of().anote_followed([name]),
    "EventLog.candidates": lambda name: log_of().candidates(name, 1, back=False),
    "EventLog.takes_back": lambda name: log_of().takes_back(name, 1, 2),
    "EventLog.level_counts": lambda name: log_of().level_counts(name),
    "EventLog.close": lambda name: log_of().close(name),
    "EventLog.aclose": lambda name: log_of().aclose(name),
    "EventLog.delete": lambda name: log_of().delete(name),
    "EventLog.adelete": lambda name: log_of().adelete(name),
    "EventLog.trim": lambda name: log_of().trim(name, max_events=1),
    "EventLog.atrim": lambda name: log_of().atrim(name, max_events=1),
    "EventLog.fork": lambda name: log_of().fork(name, "e"),
    "EventLog.afork": lambda name: log_of().afork(name, "e"),
    "EventLog.acquire": lambda name: log_of().acquire(name, "r1", 30),
    "EventLog.aacquire": lambda name: log_of().aacquire(name, "r1", 30),
    "EventLog.renew": lambda name: log_of().renew(name, "r1", 30),
    "EventLog.arenew": lambda name: log_of().arenew(name, "r1", 30),
    "EventLog.renew_all": lambda name: log_of().renew_all([(name, "r1", 30)]),
    "EventLog.arenew_all": lambda name: log_of().arenew_all([(name, "r1", 30)]),
    "EventLog.release": lambda name: log_of().release(name, "r1"),
    "EventLog.arelease": lambda name: log_of().arelease(name, "r1"),
    "EventLog.request_stop": lambda name: log_of().request_stop(name, "r1"),
    "EventLog.arequest_stop": lambda name: log_of().arequest_stop(name, "r1"),
    "EventLog.expire": lambda name: log_of().expire(name),
    "EventLog.aexpire": lambda name: log_of().aexpire(name),
    "EventLog.lease": lambda name: log_of().lease(name),
    "EventLog.alease": lambda name: log_of().alease(name),
    "EventLog.leases": lambda name: log_of().leases(["a", name]),
    "EventLog.aleases": lambda name: log_of().aleases(["a", name]),
    "PublishedLog.published": lambda name: PublishedLog().published(name),
    "PublishedLog.closed": lambda name: PublishedLog().closed(name),
    "TopicHandler.__init__": TopicHandler,
    "sse_cursor": lambda name: render("{% sse_cursor name %}", name),
    "sse_log": lambda name: render('{% sse_log name "/x/" %}', name),
    "live_log.__init__": django_agent_sse.live_log,
    "topic_name": lambda name: topic_name("{a}" + name[1:], a=name[:1]),
    "manage.py sse_publish": lambda name: call_command("sse_publish", name, "x"),
    "manage.py sse_run": lambda name: call_command("sse_run", name, "true"),
    "manage.py sse_stop": lambda name: call_command("sse_stop", name),
    "manage.py sse_tail": lambda name: call_command("sse_tail", name, "--no-follow"),
    "manage.py sse_trim": lambda name: call_command("sse_trim", name, "--delete"),
}
"""How a name comes in. ``test_every_door_is_known`` finds those that are missing here."""
REFUSALS = (TopicNameInvalid, RouteError, CommandError, Http404)
_WORDS = {"topic", "topics", "template"}


def _takes_a_topic(function: Any) -> bool:
    return bool(_WORDS & {*inspect.signature(function).parameters})


def doors() -> set[str]:
    """Every public function, method and command that takes a topic by its name."""
    from django_agent_sse.templatetags import agent_sse as tags

    functions = {name: getattr(django_agent_sse, name) for name in django_agent_sse.__all__}
    found = {name for name, one in functions.items() if inspect.isfunction(one) and _takes_a_topic(one)}
    found |= {name for name in ("sse_cursor", "sse_log", "event_stream", "sse_script") if _takes_a_topic(getattr(tags, name))}
    classes = [one for one in functions.values() if inspect.isclass(one) and one is not django_agent_sse.RunAccess]  # it tells
    for owner in (*classes, EventLog, PublishedLog, TopicHandler):
        methods = inspect.getmembers(owner, inspect.isfunction)
        open_ones = [(name, one) for name, one in methods if name == "__init__" or not name.startswith("_")]
        found |= {f"{owner.__name__}.{name}" for name, one in open_ones if _takes_a_topic(one)}
    for name, app in get_commands().items():
        if app == "django_agent_sse":
            actions = load_command_class(app, name).create_parser("manage.py", name)._actions
            if any(str(action.metavar).startswith("TOPIC") for action in actions):
                found.add(f"manage.py {name}")
    return found


def test_every_door_is_known() -> None:
    lists = {"EventLog.renew_all", "EventLog.arenew_all", "Router.logs"}
    assert doors() | lists | {"Topic.__init__"} == {*TOPIC_DOORS}, "a door that is not tried; a Topic takes its topic as `name`"


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("door", TOPIC_DOORS)
async def test_a_reserved_topic_is_refused_at_every_door(door: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    if door == "sse_log":
        html = await through(TOPIC_DOORS[door], name)
        assert "There is no log" in html, "the page lives, and says why"
        assert "reserved" in html
    else:
        with pytest.raises(REFUSALS, match="reserved"):
            await through(TOPIC_DOORS[door], name)
    assert backend.event_log().topics() == []
    assert [*backend.event_log().internal_topics()] == []
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_only_looks_like_it_is_a_name_like_any_other(name: str, log: EventLog) -> None:
    assert publish(name, "x", event=name).offset == 1
    assert [record.event.event for record in log.read_after(name).records] == [name]


def test_a_string_of_somebodys_own_is_looked_at_as_the_string_that_it_is(log: EventLog) -> None:
    with pytest.raises(TopicNameInvalid, match="reserved"):
        publish(Text("sse.monitor.commands"), "x")
    with pytest.raises(InvalidEvent, match="reserved"):
        Event("x", event=Text("sse.end"))


async def test_a_value_that_makes_a_reserved_name_of_a_template_is_not_found(caplog: pytest.LogCaptureFixture) -> None:
    async def named(c: Context, name: str) -> str:
        return name

    router = Router()
    router.topic("topic/<str:name>/<str:more>/", "{name}.{more}")
    router.log("log/<str:name>/<str:more>/", "{name}.{more}", name="two")
    router.log("own/<str:name>/", named)
    with served(router):
        for path in (
            "topic/sse/end/",
            "topic/SSE/x/",
            "log/sse/x/",
            "log/sse/x/range/",
            "log/sse/x/raw/",
            "own/sse.monitor.rows/",
        ):
            for end in ("", "range/", "raw/") if path.startswith("own") else ("",):
                assert (await ask(f"/{path}{end}")).status == 404, path
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


# Events


def decoded(name: str, id: str | None = None) -> Event:
    """What a decoder has read of another stream: an Event that nobody could make."""
    framed = f"event:{name}\n" + (f"id:{id}\n" if id is not None else "") + "data: x\n\n"
    (event,) = Decoder().feed(framed.replace("event: ", "event:  ").encode())
    return event


async def written(act: Callable[[Stream], Any]) -> None:
    """Do it in a handler; what it raises is raised here."""
    raised: list[BaseException] = []

    async def handler(c: Context, stream: Stream) -> Any:
        try:
            await act(stream)
        except InvalidEvent as error:
            raised.append(error)
        return c.json({})

    async with serve(handler) as site:
        client = await site.connect().over()
        assert b"sse.end" not in client.raw.lower()
    if raised:
        raise raised[0]


async def mapped(name: str, **how: Any) -> None:
    """Follow through a function that makes such an event; the client must not get it."""
    await sync_to_async(publish)("builds.1", "x")
    await sync_to_async(django_agent_sse.close_topic)("builds.1")

    async def handler(c: Context, stream: Stream) -> None:
        await stream.follow("builds.1", map=lambda event: decoded(name))

    async with serve(handler) as site:
        events = await site.connect().rest()
        assert [event.event for event in events] == ["sse.error"]
    raise InvalidEvent("reserved, as the stream's end says")


EVENT_DOORS: dict[str, Callable[[str], Any]] = {
    "Event": lambda name: Event("x", event=name),
    "Event id": lambda name: Event("x", id=name),
    "frame": lambda name: frame("x", name),
    "frame id": lambda name: frame("x", None, name),
    "encode": lambda name: encode(decoded(name)),
    "publish": lambda name: publish("t", "x", event=name),
    "publish an Event": lambda name: publish("t", decoded(name)),
    "publish_many": lambda name: django_agent_sse.publish_many("t", ["x"], event=name),
    "publish_many of Events": lambda name: django_agent_sse.publish_many("t", [decoded(name)]),
    "Topic.publish": lambda name: Topic("t").publish("x", event=name),
    "EventLog.append": lambda name: log_of().append("t", [E, decoded(name)]),
    "EventLog.append_unrung": lambda name: log_of().append_unrung("t", decoded(name)),
    "write": lambda name: written(lambda stream: stream.write("x", event=name)),
    "write an id": lambda name: written(lambda stream: stream.write("x", id=name)),
    "write an Event": lambda name: written(lambda stream: stream.write(decoded(name))),
    "write an Event with an id": lambda name: written(lambda stream: stream.write(decoded("e", name))),
    "write_sse": lambda name: written(lambda stream: stream.write_sse("x", event=name)),
    "writeln": lambda name: written(lambda stream: stream.writeln("x", event=name)),
    "pipe": lambda name: written(lambda stream: stream.pipe(["x"], event=name)),
    "pipe Events": lambda name: written(lambda stream: stream.pipe([decoded(name)])),
    "follow(map=)": mapped,
    "manage.py sse_publish": lambda name: call_command("sse_publish", "t", "x", "--event", name),
}


@pytest.mark.parametrize("name", [*RESERVED[:3], RESERVED[4]])
@pytest.mark.parametrize("door", EVENT_DOORS)
async def test_a_reserved_event_is_refused_at_every_door(door: str, name: str, log: EventLog) -> None:
    with pytest.raises((InvalidEvent, CommandError), match="reserved"):
        await through(EVENT_DOORS[door], name)
    assert "t" not in log.topics()


def test_the_admins_form_says_it() -> None:
    form = PublishForm({"event": "sse.end", "text": "x"})
    assert not form.is_valid()
    assert "reserved" in str(form.errors)


async def test_what_an_upstream_says_of_itself_stays_behind_and_the_rest_goes_through() -> None:
    upstream = "".join(f"event: {name}\ndata: x\n\n" for name in ("sse.end", "SSE.gap", "tick", "sse.overloaded"))

    async def handler(c: Context, stream: Stream) -> None:
        assert await stream.pipe_sse(upstream + "id: sse.end~1\ndata: y\n\nretry: 99999999999\ndata: z\n\n") == 2

    async with serve(handler, control_events=False) as site:
        client = await site.connect().over()
        assert [(event.event, event.data) for event in await client.rest()] == [("tick", "x"), (None, "z")]
        assert client.decoder.retry == MAX_RETRY


@pytest.mark.parametrize("retry", [MAX_RETRY + 1, 2_147_483_647])
def test_a_retry_that_would_silence_clients_is_refused(retry: int, log: EventLog) -> None:
    with pytest.raises(InvalidEvent, match="one hour"):
        publish("t", "x", retry=retry)
    assert publish("t", "x", retry=MAX_RETRY).offset == 1


# What stands in a log already


def test_what_a_log_holds_under_a_reserved_name_reaches_clients_and_speaks_for_nobody() -> None:
    (old,) = unpack('[["bye", "sse.end", 2147483647]]')
    assert old == Event("bye", event="_sse.end", retry=MAX_RETRY)
    entry = ["7-0", ["e", ":SSE.overloaded", "d", "x", "t", "1", "r", "2147483647"]]
    assert redis_wire.record(entry).event == Event("x", event="_SSE.overloaded", retry=MAX_RETRY)
    message = b"1 e 1 1 0 - 0 0 1\n8 1 2147483647\n:sse.endx"
    page = redis_wire.notification(message)
    assert page is not None
    assert [record.event for record in page.records] == [Event("x", event="_sse.end", retry=MAX_RETRY)]


def test_a_topic_with_such_a_name_from_before_is_reached_by_its_door_only(log: EventLog) -> None:
    for name in ("sse.monitor.rows", "SSE.old", " sse.old", "a", "sse/", "z"):
        log._append(name, [(E, 1)], None, None, None)
    assert log.topics() == ["a", "sse/", "z"]
    assert log.topics(limit=2) == ["a", "sse/"]
    assert log.topics("sse") == ["sse/"]
    assert log.topics("sse.") == []
    assert PublishedLog().topics == ["a", "sse/", "z"]
    assert [*log.internal_topics()] == ["sse.monitor.rows"]
    assert log.state(InternalTopic("sse.monitor.rows")).top == 1
    for name, call in TOPIC_DOORS.items():
        if name.startswith("EventLog.") and not name.startswith("EventLog.a"):
            with pytest.raises(TopicNameInvalid):
                call("sse.monitor.rows")


def test_sse_topics_lists_the_packages_own_for_who_asks_for_them(log: EventLog, capsys: pytest.CaptureFixture[str]) -> None:
    log.append_unrung(InternalTopic("sse.monitor.rows"), E)
    publish("builds.1", "x")
    call_command("sse_topics")
    assert "sse." not in (plain := capsys.readouterr().out)
    assert "builds.1" in plain
    call_command("sse_topics", "--internal")
    assert "builds.1" not in (own := capsys.readouterr().out)
    assert "sse.monitor.rows" in own
    call_command("sse_trim", "--all", "--delete", "--no-input")
    assert [*log.internal_topics()] == ["sse.monitor.rows"]
