"""``close_streams()``: which streams it ends, when, and what it is not given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.utils.functional import SimpleLazyObject

from django_agent_sse import Router, aclose_streams, apublish, close_streams
from django_agent_sse.access.service import access
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import ArgumentInvalid, AsyncRequired, TopicNameInvalid
from tests.ids import plain
from tests.inprocess import Client
from tests.serving import ask, served

from .changes import MIDDLEWARE, cookie, person, sign_in
from .people import PATIENCE, leave, opened, revoked, waiting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def site(settings: Any) -> Iterator[None]:
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}, "RECHECK": None}
    router = Router()
    router.sse("a/", waiting)
    router.sse("b/<int:pk>/", waiting)
    router.topic("topics/<slug:name>/", "news.{name}")
    with served(router, middleware=MIDDLEWARE):
        yield
    event_log().clear_all()


class People:
    ann: User
    here: Any
    there: Any
    ben: Any


async def clients() -> tuple[People, dict[str, Client]]:
    def make() -> People:
        people = People()
        people.ann = person("ann")
        people.here, people.there, people.ben = sign_in(people.ann), sign_in(people.ann), sign_in(person("ben"))
        return people

    people = await sync_to_async(make)()
    await apublish("news.one", "hello")
    await apublish("news.two", "hello")
    return people, {
        "ann here a": await opened("/a/", people.here),
        "ann there b": await opened("/b/1/", people.there),
        "ann here one": await opened("/topics/one/", people.here),
        "ben a": await opened("/a/", people.ben),
        "nobody b": await opened("/b/2/"),
        "nobody one": await opened("/topics/one/"),
        "nobody two": await opened("/topics/two/"),
    }


CLOSES: dict[str, Any] = {
    "a user": (lambda p: {"user": p.ann}, "ann"),
    "a user as request.user is": (lambda p: {"user": SimpleLazyObject(lambda: p.ann)}, "ann"),
    "a user's key": (lambda p: {"user": p.ann.pk}, "ann"),
    "a user's key as text": (lambda p: {"user": str(p.ann.pk)}, "ann"),
    "a session": (lambda p: {"session": p.here}, "ann here"),
    "a session's key": (lambda p: {"session": p.there.session_key}, "ann there"),
    "a route": (lambda p: {"route": "b/<int:pk>/"}, " b"),
    "a topic": (lambda p: {"topic": "news.one"}, "one"),
    "a user's on a route": (lambda p: {"user": p.ann, "route": "a/"}, "ann here a"),
    "a user's of a topic": (lambda p: {"user": p.ann, "topic": "news.one"}, "ann here one"),
    "nobody that is here": (lambda p: {"user": 4711}, "no such"),
}


@pytest.mark.parametrize("what", CLOSES)
async def test_it_ends_the_streams_that_fit_all_that_is_given_and_no_others(what: str) -> None:
    given, words = CLOSES[what]
    people, streams = await clients()
    await aclose_streams(**given(people))
    await revoked(*(client for name, client in streams.items() if words in name))
    again = await opened("/a/", people.here)  # whoever may comes back
    await leave(again, *(client for name, client in streams.items() if words not in name))


async def test_who_shall_stay_away_is_told_that_it_is_over() -> None:
    people, streams = await clients()
    await aclose_streams(user=people.ann, route="a/", reconnect=False)
    client = streams.pop("ann here a")
    await client.over(PATIENCE)
    (end,) = await client.rest()
    assert (end.data, end.id) == ('{"reason":"revoked"}', "sse.end~1")
    assert (await ask("/a/", headers=cookie(people.here), last_event_id=end.id)).status == 204
    await leave(*streams.values())


async def test_in_a_transaction_it_is_done_when_that_commits() -> None:
    people, streams = await clients()

    def change(fails: bool) -> None:
        with transaction.atomic():
            people.ann.save(update_fields=["last_login"])
            close_streams(user=people.ann)
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sync_to_async(change)(True)
    await ask("/a/", method="HEAD")  # a turn of the loop, and what was told would be there
    assert not any(client.complete for client in streams.values())
    await sync_to_async(change)(False)
    await revoked(*(client for name, client in streams.items() if "ann" in name))
    await leave(*(client for name, client in streams.items() if "ann" not in name))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give user="),
        ({"user": AnonymousUser()}, "that is nobody"),
        ({"user": User(username="new")}, "was not saved"),
        ({"user": User}, "or the primary key of one"),
        ({"user": True}, "or the primary key of one"),
        ({"user": ""}, "that is nobody"),
        ({"user": "ann"}, "no primary key of auth.User; give the user, or user.pk"),
        ({"user": User.objects.none()}, "no primary key of auth.User"),
        ({"user": SimpleLazyObject(AnonymousUser)}, "that is nobody"),
        ({"route": ""}, "a route's pattern"),
        ({"route": 7}, "a route's pattern"),
        ({"session": SessionStore()}, "a session that was saved"),
        ({"session": ""}, "a session that was saved"),
        ({"route": "a/", "reconnect": "no"}, "True or False"),
    ],
    ids=plain,
)
def test_what_cannot_be_meant_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ArgumentInvalid, match=says):
        close_streams(**given)


def test_a_topic_that_nobody_can_have_is_refused() -> None:
    with pytest.raises(TopicNameInvalid):
        close_streams(topic="\n")
    with pytest.raises(TopicNameInvalid):
        close_streams(topic="sse.access.orders")


async def test_on_an_event_loop_there_is_a_twin() -> None:
    with pytest.raises(AsyncRequired, match="await aclose_streams"):
        close_streams(user=1)


async def test_many_streams_are_ended_some_at_a_time() -> None:
    streams = [await opened("/a/") for _ in range(120)]
    await aclose_streams(route="a/")
    await revoked(*streams)
    assert access.book().permits == {}
