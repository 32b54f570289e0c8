"""Publishing from anywhere: both doors, the positions, and what is refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.template import Context as TemplateContext
from django.template import Template
from django.utils.translation import gettext_lazy

from django_agent_sse import (
    Event,
    Router,
    Topic,
    aclose_topic,
    apublish,
    apublish_many,
    atopic_cursor,
    close_topic,
    publish,
    publish_many,
    topic_cursor,
)
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import (
    ArgumentInvalid,
    AsyncRequired,
    ConfigurationError,
    EventTooLarge,
    InvalidEvent,
    PositionConflict,
    RouteError,
    TopicClosed,
    TopicNameInvalid,
)
from django_agent_sse.logs import log_tail
from tests import warm
from tests.serving import ask, connect, served

NAME = "builds.42"
MEMORY = "django_agent_sse.eventlog.memory.MemoryEventLog"


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


def kept(log: EventLog, topic: str = NAME) -> list[Event]:
    return [record.event for record in log.read_after(topic).records]


def test_one_event_and_its_position(log: EventLog) -> None:
    position = publish(NAME, {"price": 42}, event="tick", retry=100)
    assert kept(log) == [Event('{"price":42}', event="tick", retry=100)]
    assert str(position) == f"{position.epoch}.1"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (b"bytes \xc3\xbc", "bytes ü"),
        (None, "null"),
        ([1, "ü"], '[1,"ü"]'),
        (gettext_lazy("Log in"), "Log in"),
    ],
)
def test_values_become_text_as_a_stream_writes_them(log: EventLog, value: object, text: str) -> None:
    publish(NAME, value)
    assert kept(log) == [Event(text)]


def test_an_event_as_it_is(log: EventLog) -> None:
    publish(NAME, Event("x", event="e"))
    assert kept(log) == [Event("x", event="e")]
    with pytest.raises(InvalidEvent, match="carries its own"):
        publish(NAME, Event("x"), event="other")
    with pytest.raises(InvalidEvent, match="the log numbers"):
        publish(NAME, Event("x", id="mine"))


def test_many_at_once_are_consecutive(log: EventLog) -> None:
    positions = publish_many(NAME, ["one", Event("two", event="e"), 3], event="line")
    assert [position.offset for position in positions] == [1, 2, 3]
    assert kept(log) == [Event("one", event="line"), Event("two", event="e"), Event("3", event="line")]
    assert publish_many(NAME, []) == []


def test_one_that_is_wrong_keeps_all_of_them_out(log: EventLog) -> None:
    with pytest.raises(InvalidEvent):
        publish_many(NAME, ["fine", object()])
    with pytest.raises(EventTooLarge):
        publish_many(NAME, ["fine", "x" * 1_048_577])
    assert not Topic(NAME).state().exists


def test_keys_and_expectations(log: EventLog) -> None:
    first = publish(NAME, "one", key="k", expect=0)
    assert publish(NAME, "one again", key="k") == first
    with pytest.raises(PositionConflict) as raised:
        publish(NAME, "two", expect=0)
    assert raised.value.top == 1
    assert kept(log) == [Event("one")]


def test_closing_and_deleting() -> None:
    publish(NAME, "one")
    assert close_topic(NAME, "passed")
    assert not close_topic(NAME)
    assert Topic(NAME).state().closed == "passed"
    with pytest.raises(TopicClosed):
        publish(NAME, "late")
    assert Topic(NAME).delete()
    assert not Topic(NAME).delete()
    assert publish(NAME, "anew").offset == 1


async def test_the_twins_do_the_same(log: EventLog) -> None:
    topic = Topic(NAME)
    assert (await apublish(NAME, "one", key="k")).offset == 1
    assert [position.offset for position in await apublish_many(NAME, ["two", "three"])] == [2, 3]
    assert (await topic.apublish("four")).offset == 4
    assert (await topic.astate()).events == 4
    assert await aclose_topic(NAME, "passed")
    assert await topic.adelete()
    assert not (await topic.astate()).exists


@pytest.mark.parametrize("name", ["", "x" * 201, "ü", "line\nbreak", 7, None])
def test_a_name_that_no_topic_can_have(name: Any) -> None:
    with pytest.raises(TopicNameInvalid):
        Topic(name)
    with pytest.raises(TopicNameInvalid):
        publish(name, "x")


@pytest.mark.parametrize(
    ("call", "twin"),
    [
        (lambda: publish(NAME, 1), "apublish"),
        (lambda: publish_many(NAME, [1]), "apublish_many"),
        (lambda: close_topic(NAME), "aclose_topic"),
        (lambda: Topic(NAME).publish(1), "apublish"),
        (lambda: Topic(NAME).publish_many([1]), "apublish_many"),
        (lambda: Topic(NAME).close(), "aclose"),
        (lambda: Topic(NAME).delete(), "adelete"),
        (lambda: Topic(NAME).state(), "astate"),
        (lambda: topic_cursor(NAME), "atopic_cursor"),
    ],
)
async def test_a_plain_verb_under_a_running_loop_names_its_twin(call: Any, twin: str, log: EventLog) -> None:
    with pytest.raises(AsyncRequired, match=rf"await {twin}\("):
        call()
    assert not (await Topic(NAME).astate()).exists
    await asyncio.to_thread(publish, NAME, "a thread has no loop")
    assert (await Topic(NAME).astate()).events == 1


@pytest.mark.parametrize(
    "values", ["hello", b"hello", bytearray(b"h"), {"a": 1}, None, 42, Event("one"), gettext_lazy("Yes")], ids=repr
)
async def test_many_values_are_given_as_many(values: Any, log: EventLog) -> None:
    for call in (lambda: Topic(NAME).apublish_many(values), lambda: apublish_many(NAME, values)):
        with pytest.raises(ArgumentInvalid, match=r"publish_many\(\) takes a list.*write \[value\] for a single one"):
            await call()
    with pytest.raises(ArgumentInvalid, match="publish_many"):
        await sync_to_async(publish_many)(NAME, values)
    assert not log.state(NAME).exists


@pytest.mark.parametrize("values", [["a", "b"], ("a", "b"), iter("ab"), (text for text in "ab"), {"a": 1, "b": 2}.keys()])
def test_any_iterable_of_values_will_do(values: Any, log: EventLog) -> None:
    publish_many(NAME, values)
    assert [event.data for event in kept(log)] == ["a", "b"]


@pytest.mark.parametrize("events", ["hello", ["hello"], None, {"a": 1}, [Event("x"), None]], ids=repr)
def test_a_log_takes_events_only(events: Any, log: EventLog) -> None:
    with pytest.raises(ArgumentInvalid):
        log.append(NAME, events)
    assert not log.state(NAME).exists


@pytest.mark.parametrize("names", [(), tuple("abcdefghijklmnopq"), (["a", "b"],), (None,)], ids=repr)
async def test_a_cursor_is_of_one_to_sixteen_names(names: Any) -> None:
    with pytest.raises(ArgumentInvalid, match=r"topic_cursor\(\) takes"):
        await atopic_cursor(*names)
    with pytest.raises(ArgumentInvalid, match=r"topic_cursor\(\) takes"):
        await sync_to_async(topic_cursor)(*names)
    assert len(await atopic_cursor(*"abcdefghijklmnop")) < 512


async def test_djangos_own_switch_allows_plain_verbs_under_a_loop(monkeypatch: pytest.MonkeyPatch, log: EventLog) -> None:
    """As where Playwright's sync API runs one around a test."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    topic = Topic(NAME)
    publish(NAME, "one")
    publish_many(NAME, ["two", "three"])
    topic.publish("four")
    assert topic.state().top == 4
    assert topic_cursor(NAME).endswith(".4")
    assert log_tail(NAME, 2).lines == ["three", "four"]
    assert Template("{% load agent_sse %}{% sse_cursor name %}").render(TemplateContext({"name": NAME})).endswith(".4")
    assert close_topic(NAME)
    assert topic.delete()
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "")
    with pytest.raises(AsyncRequired):
        publish(NAME, "one")


def test_cursors_of_topics_that_are_there_and_not() -> None:
    assert topic_cursor(NAME) == "0"
    position = publish(NAME, "one")
    assert topic_cursor(NAME) == str(position)
    assert topic_cursor(NAME, "other").startswith("v1.")
    assert Template("{% load agent_sse %}{% sse_cursor name %}").render(TemplateContext({"name": NAME})) == str(position)


async def test_the_tag_on_a_loop_says_what_to_do() -> None:
    with pytest.raises(AsyncRequired, match=r"await atopic_cursor\(…\)` from the view"):
        Template("{% load agent_sse %}{% sse_cursor 'a' %}").render(TemplateContext())
    assert await atopic_cursor("a") == "0"


# A log that nobody could follow


def test_a_process_that_serves_nothing_may_not_publish_to_its_own_memory(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend._process_log, "serves", False)
    monkeypatch.delitem(sys.modules, "django.core.asgi", raising=False)
    publish(NAME, "under test it may")
    monkeypatch.setattr(backend, "under_test", lambda: False)
    for verb in (lambda: publish(NAME, "x"), lambda: close_topic(NAME), lambda: Topic(NAME).delete()):
        with pytest.raises(ConfigurationError, match=r"has not served a request.*AGENT_SSE\['EVENT_LOG'\].*Nothing was"):
            verb()
    monkeypatch.setattr(backend._process_log, "serves", True)
    publish(NAME, "it serves")
    monkeypatch.setattr(backend._process_log, "serves", False)
    monkeypatch.setattr(type(log), "crosses_processes", True)
    publish(NAME, "others read it")
    assert len(kept(log)) == 3


def test_a_command_is_refused_and_a_server_is_not() -> None:
    code = """
import io
import django
from django.conf import settings
memory = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
about = {"ROOT_URLCONF": __name__, "ALLOWED_HOSTS": ["*"], "SECRET_KEY": "x", "AGENT_SSE": memory}
settings.configure(INSTALLED_APPS=["django_agent_sse"], **about)
django.setup()
urlpatterns = []
from django_agent_sse import publish, exceptions
try:
    publish("a", 1)
except exceptions.ConfigurationError as error:
    print("refused:", error)
from django.core.handlers.wsgi import WSGIHandler
about = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "1", "wsgi.input": io.BytesIO()}
WSGIHandler()(about, lambda *a: None)
print("position", publish("a", 1).offset)
"""
    done = warm.run(
        [sys.executable, "-m", "tests.program", code], cwd=warm.ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, position = done.stdout.splitlines()
    assert refused.startswith("refused: MemoryEventLog keeps its topics in one process")
    assert position == "position 1"


def test_a_server_may_publish_before_its_first_request() -> None:
    code = """
import django
from django.conf import settings
memory = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
settings.configure(INSTALLED_APPS=["django_agent_sse"], SECRET_KEY="x", AGENT_SSE=memory)
from django.core.asgi import get_asgi_application
application = get_asgi_application()
from django_agent_sse import publish
print(publish("a", 1).offset)
"""
    done = warm.run(
        [sys.executable, "-m", "tests.program", code], cwd=warm.ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


# The setting


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("memory", "it must be a dict"),
        ({}, "it must be a dict"),
        ({"BACKEND": "no.such.Log"}, "cannot be imported"),
        ({"BACKEND": "django.http.HttpResponse"}, "not an EventLog"),
        ({"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENT": 5}}, "'MAX_EVENT'"),
        ({"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": 5}, "a dict"),
        ({"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "options": {}}, "a dict"),
    ],
)
def test_a_setting_that_names_no_log(settings: Any, given: object, says: str) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": given}
    with pytest.raises(ConfigurationError, match=says):
        publish(NAME, "x")


def test_another_setting_is_another_log(settings: Any) -> None:
    publish(NAME, "x")
    settings.AGENT_SSE = {
        "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENTS": 2}}
    }
    publish_many(NAME, range(5))
    assert Topic(NAME).state().events == 2


# router.topic


def routes(path: str, *topics: str, **about: Any) -> Router:
    router = Router()
    router.topic(path, *topics, **about)
    return router


async def test_a_route_follows_the_topic_that_its_url_names() -> None:
    with served(routes("builds/<int:id>/logs/", "builds.{id}", name="logs")):
        publish_later = asyncio.to_thread(publish_many, "builds.7", ["one", "two"])
        await publish_later
        client = connect("/builds/7/logs/")
        assert [event.data for event in await client.take(2)] == ["one", "two"]
        client.leave()
        await client.over()


@pytest.mark.parametrize("value", ["a.b", ".", "ü", "x" * 200, "a\nb"])
async def test_a_value_that_could_reach_another_topic_is_not_found(value: str) -> None:
    with served(routes("of/<str:name>/", "builds.{name}")):
        assert (await ask(f"/of/{value}/")).status == 404


@pytest.mark.parametrize(
    ("topics", "about", "says"),
    [
        ((), {}, "1 to 16 topics"),
        (("ü",), {}, "printable ASCII"),
        (("a.{}",), {}, "by the field's name alone"),
        (("a.{id!r}",), {}, "by the field's name alone"),
        (("a.{id:>3}",), {}, "by the field's name alone"),
        (("a.{id.real}",), {}, "by the field's name alone"),
        (("a.{id",), {}, "not a topic's name with"),
        (("a",), {"start": "now"}, "'oldest' begins"),
        (("a",), {"heartbeats": 1}, "did you mean 'heartbeat'"),
    ],
)
def test_a_route_that_cannot_be_is_refused_where_it_is_written(topics: Any, about: Any, says: str) -> None:
    with pytest.raises(RouteError, match=says):
        routes("x/", *topics, **about)


async def test_guards_and_options_are_those_of_any_route() -> None:
    async def nobody(c: Any) -> bool:
        return False

    with served(routes("x/", "a", guards=[nobody])):
        assert (await ask("/x/")).status == 403
