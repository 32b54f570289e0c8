"""``CAN_FOLLOW``: asked before anything of a topic is sent, in every way to read one, and again while it is followed."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Group, User
from django.http import Http404

from django_agent_sse import (
    AsyncRun,
    Context,
    Router,
    RunAccess,
    Stream,
    apublish,
    login_required,
    permission_required,
    topic_permissions,
)
from django_agent_sse.access.service import access
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import ConfigurationError, RouteError, TopicForbidden
from tests.inprocess import eventually
from tests.serving import ask, served

from .changes import MIDDLEWARE, PERMISSION, permission, person, sign_in
from .people import PATIENCE, leave, opened, revoked

pytestmark = pytest.mark.django_db(transaction=True)
MEMORY = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}


class Rights:
    """Who may follow what, as a project's function tells it."""

    def __init__(self) -> None:
        self.of: dict[str, set[str]] = {}
        self.asked: list[tuple[str, str]] = []

    def plain(self, user: Any, topic: str) -> bool:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # a sync function may use the ORM
        self.asked.append((user.get_username(), topic))
        return topic in self.of.get(user.get_username(), set())

    async def asynchronous(self, user: Any, topic: str) -> bool:
        self.asked.append((user.get_username(), topic))
        return topic in self.of.get(user.get_username(), set())


@pytest.fixture(params=["plain", "asynchronous"])
def rights(request: pytest.FixtureRequest, settings: Any) -> Iterator[Rights]:
    found = Rights()
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY, "CAN_FOLLOW": getattr(found, request.param), "RECHECK": None}
    yield found
    event_log().clear_all()


def routes(**options: Any) -> Any:
    router = Router(**options)
    router.topic("topic/<slug:name>/", "news.{name}", "weather")
    router.log("log/<slug:name>/", "news.{name}")
    router.logs("logs/", {"one": "news.one", "two": "news.two"})

    @router.sse("late/")
    async def late(c: Context, stream: Stream) -> None:
        await stream.write("first")
        await stream.follow("news.one")

    return served(router, middleware=MIDDLEWARE)


async def signed_in(name: str, **about: Any) -> tuple[User, Any]:
    def make() -> tuple[User, Any]:
        user = person(name, **about)
        return user, sign_in(user)

    return await sync_to_async(make)()


async def test_who_may_not_follow_one_of_the_topics_gets_nothing_of_them(rights: Rights) -> None:
    _, session = await signed_in("ann")
    await apublish("news.one", "secret")
    rights.of = {"ann": {"news.one"}}
    headers = {"Accept": "text/event-stream", "Cookie": f"sessionid={session.session_key}"}
    with routes():
        for path in ("topic/one/", "log/two/", "log/two/range/", "log/two/raw/", "logs/"):
            mine, anonymous = await ask(f"/{path}", headers=headers), await ask(f"/{path}")
            assert (mine.status, anonymous.status) == (403, 401), path
            assert mine.json()["error"]["message"] == "you may not follow this topic"
            assert b"secret" not in mine.body + anonymous.body
        assert (await ask("/log/one/range/", headers=headers)).status == 200
        assert b"secret" in (await ask("/log/one/raw/?follow=0", headers=headers)).body


async def test_head_is_refused_as_get_would_be(rights: Rights) -> None:
    """The tabs of a browser ask so before they share a stream."""
    _, session = await signed_in("ann")
    rights.of = {"ann": {"news.one", "weather"}}
    accept = {"Accept": "text/event-stream"}
    headers = {**accept, "Cookie": f"sessionid={session.session_key}"}
    with routes():
        for path, own in (
            ("topic/one/", 200),
            ("topic/two/", 403),
            ("log/one/", 200),
            *((f"log/two/{part}", 403) for part in ("", "range/", "raw/")),
            ("logs/", 403),
            ("logs/one/", 200),
            ("logs/two/raw/", 403),
            ("logs/three/", 404),
            ("late/", 200),
        ):
            mine, anonymous = [await ask(f"/{path}", method="HEAD", headers=given) for given in (headers, accept)]
            assert (mine.status, anonymous.status) == (own, 401 if own == 403 or "one" in path else own), path
        assert {topic for _, topic in rights.asked} == {"news.one", "news.two", "weather"}


async def test_both_topics_are_asked_about_again_and_the_stream_ends_where_one_is_lost(rights: Rights) -> None:
    ann, session = await signed_in("ann")
    _, other = await signed_in("ben")
    rights.of = {name: {"news.one", "weather"} for name in ("ann", "ben")}
    await apublish("news.one", "hello")
    with routes():
        mine, theirs = await opened("/topic/one/", session), await opened("/topic/one/", other)
        rights.of["ann"] = {"news.one"}
        await ann.asave()
        await revoked(mine)
        await apublish("news.one", "more")
        (event,) = await theirs.take(1)
        assert event.data == "more"
        await leave(theirs)


async def test_the_topics_of_steps_which_a_handler_reads_in_its_own_way_are_asked_about_again(rights: Rights) -> None:
    ann, session = await signed_in("ann")
    _, other = await signed_in("ben")
    rights.of = {name: {"news.one", "news.two"} for name in ("ann", "ben")}
    with routes():
        mine, theirs = await opened("/logs/", session), await opened("/logs/", other)
        rights.of["ann"] = {"news.one"}
        await ann.asave()
        await mine.over(PATIENCE)
        assert (await mine.rest())[-1].data == '{"reason":"revoked"}'
        await access.book().idle()
        await leave(theirs)


async def test_what_a_handler_was_refused_and_does_without_is_not_asked_about_again(rights: Rights) -> None:
    ann, session = await signed_in("ann")
    rights.of = {"ann": {"weather"}}
    await apublish("weather", "sunny")
    router = Router()

    @router.sse("either/")
    async def either(c: Context, stream: Stream) -> None:
        with contextlib.suppress(TopicForbidden):
            await stream.follow("news.one")
        await stream.follow("weather")

    with served(router, middleware=MIDDLEWARE):
        client = await opened("/either/", session)
        rights.asked.clear()
        await ann.asave()
        await eventually("it is asked", lambda: rights.asked, PATIENCE)
        await access.book().idle()
        assert {*rights.asked} == {("ann", "weather")}
        await leave(client)


async def test_a_handler_that_has_begun_is_ended_and_nothing_is_sent(rights: Rights, caplog: pytest.LogCaptureFixture) -> None:
    await apublish("news.one", "secret")
    with routes():
        answer = await ask("/late/", headers={"Accept": "text/event-stream"})
    first, end = answer.events
    assert (first.data, end.data) == ("first", '{"reason":"revoked"}')
    assert "failed" not in caplog.text


async def test_a_function_that_answers_anything_else_lets_nobody_in(settings: Any) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY, "CAN_FOLLOW": lambda user, topic: "yes"}
    with routes():
        assert (await ask("/topic/one/")).status == 500


async def test_without_a_function_nothing_is_asked(settings: Any) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY}
    with routes():
        client = await opened("/late/")
        (permit,) = access.book().permits.values()
        assert not permit.asks
        await leave(client)


@pytest.mark.parametrize("starts", [True, False], ids=["whoever started it", "whoever came later"])
async def test_who_may_see_a_run_is_asked_again_of_its_access(starts: bool, settings: Any) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY, "RECHECK": None}
    allowed, verbs, go = {"ann", "ben"}, [], asyncio.Event()

    async def access_to(c: Context, run: RunAccess) -> bool:
        verbs.append((c.user.get_username(), run.verb, run.own))
        return c.user.get_username() in allowed

    async def talk(c: Context, run: AsyncRun) -> None:
        await run.write("hello")
        await go.wait()

    router = Router()
    router.run("chat/<int:chat>/", talk, access=access_to, csrf_exempt=True)
    users = {name: await signed_in(name) for name in ("ann", "ben")}
    with served(router, middleware=MIDDLEWARE):
        ann = await opened("/chat/1/", users["ann"][1], method="POST")
        ben = await opened("/chat/1/", users["ben"][1])
        who, other, client = ("ann", "ben", ann) if starts else ("ben", "ann", ben)
        allowed.remove(who)
        verbs.clear()
        await users[who][0].asave()
        await users[other][0].asave()
        if starts:  # a POST takes no control events
            await client.over(PATIENCE)
            assert await client.broken_off() == []
        else:
            await revoked(client)
        await access.book().idle()
        assert (who, "resume", who == "ann") in verbs
        left = ben if starts else ann
        assert not left.complete
        go.set()
        await left.over(PATIENCE)
    event_log().clear_all()


async def test_a_run_may_only_be_followed_where_its_topic_may(rights: Rights) -> None:
    async def talk(c: Context, run: AsyncRun) -> None:
        await run.write("hello")

    router = Router()
    router.run("chat/<int:chat>/", talk, topic="chats.{chat}", csrf_exempt=True)
    _, session = await signed_in("ann")
    with served(router, middleware=MIDDLEWARE):
        answer = await ask("/chat/1/", method="POST", headers={"Cookie": f"sessionid={session.session_key}"})
        assert answer.status == 403
        assert rights.asked
        assert rights.asked[0][1].startswith("chats.1.")


# Rights of objects


class OwnGroups:
    """A back end of object permissions, as such packages have it: users may view groups that have their name."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        return None

    def has_perm(self, user: Any, perm: str, obj: Any = None) -> bool:
        return perm == PERMISSION and isinstance(obj, Group) and obj.name == user.get_username()


@pytest.fixture
def backends(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", f"{__name__}.OwnGroups"]


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_permission_for_an_object_is_asked_of_every_back_end_and_again(kind: str) -> None:
    groups = [await Group.objects.acreate(name=name) for name in ("ann", "ben")]

    def plain(c: Context) -> Group | None:
        if c.params["pk"] == 0:
            raise Http404("none")
        return Group.objects.filter(pk=c.params["pk"]).first()

    async def asynchronous(c: Context) -> Group | None:
        return await sync_to_async(plain)(c)

    router = Router(recheck=None)

    @router.sse("groups/<int:pk>/", guards=[permission_required(PERMISSION, obj=plain if kind == "plain" else asynchronous)])
    async def group(c: Context, stream: Stream, pk: int) -> None:
        await stream.write("hello")
        await stream.wait_closed()

    user, session = await signed_in("ann")
    _, viewer = await signed_in("cleo", permitted=True)
    cookies = {"Cookie": f"sessionid={session.session_key}"}
    with served(router, middleware=MIDDLEWARE):
        mine, theirs = await opened(f"/groups/{groups[0].pk}/", session), await opened(f"/groups/{groups[1].pk}/", viewer)
        assert (await ask(f"/groups/{groups[1].pk}/", headers=cookies)).status == 403
        assert (await ask("/groups/77/", headers=cookies)).status == 403
        assert (await ask("/groups/0/", headers=cookies)).status == 404
        assert (await ask(f"/groups/{groups[0].pk}/")).status == 401
        await Group.objects.filter(pk=groups[0].pk).aupdate(name="sold")
        await user.asave()
        await revoked(mine)
        await leave(theirs)


def table() -> Callable[[Any, str], bool]:
    return topic_permissions(
        {
            "news": True,
            "groups.{pk}": (PERMISSION, Group),
            "named.{name}.log": (PERMISSION, Group),
            "all": PERMISSION,
            "users.{pk}": lambda user, pk: str(user.pk) == pk,
        }
    )


@pytest.mark.usefixtures("backends")
def test_a_table_says_who_may_follow_what() -> None:
    can_follow, own = table(), Group.objects.create(name="ann")
    other = Group.objects.create(name="ben")
    ann, viewer, nobody = person("ann"), person("viewer", permitted=True), AnonymousUser()
    everything = ("news", f"groups.{own.pk}", f"groups.{other.pk}", "named.ann.log", "named.ben.log", "all", f"users.{ann.pk}")
    for user, allowed in (
        (ann, {"news", f"groups.{own.pk}", "named.ann.log", f"users.{ann.pk}"}),
        (viewer, {*everything} - {f"users.{ann.pk}"}),
        (nobody, {"news"}),
    ):
        assert {topic for topic in everything if can_follow(user, topic)} == allowed, user
    for other_name in ("groups", "groups.x", "groups.99", f"groups.{own.pk}.log", "news.more", "", "runs.chat.1"):
        assert not can_follow(viewer, other_name)


@pytest.mark.parametrize(
    ("name", "rule", "says"),
    [
        ("builds.{pk}", False, "is no rule"),
        ("builds.{pk}", "view_build", "is no rule"),
        ("builds.{pk}", (PERMISSION, "Group"), "is no rule"),
        ("builds.{pk}", Group, "is no rule"),
        ("builds.{pk}", login_required, "login_required is called with (user, pk) in a thread, and cannot be async"),
        ("builds.{pk}", lambda user: True, "is called with (user, pk): got an unexpected keyword argument 'pk'"),
        ("news", lambda user, pk: True, "is called with (user): missing a required argument: 'pk'"),
        ("builds-{pk}", True, "a whole part between dots"),
        ("builds.{pk}.{pk}", True, "a whole part between dots"),
        ("builds.{pk", True, "not a topic's name"),
        ("", True, "not a topic's name"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(name: str, rule: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        topic_permissions({name: rule})


def test_an_object_that_nothing_finds_is_refused_at_import() -> None:
    with pytest.raises(RouteError, match="a function \\(c\\)"):
        permission_required(PERMISSION, obj=Group())  # type: ignore[arg-type]


async def test_a_table_as_the_setting_ends_streams_whose_object_is_taken_away(settings: Any) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY, "CAN_FOLLOW": table(), "RECHECK": 0.1}
    router = Router()
    router.topic("groups/<int:pk>/", "groups.{pk}")
    _, session = await signed_in("ann", permitted=True)
    group = await Group.objects.acreate(name="any")
    await apublish(f"groups.{group.pk}", "hello")
    with served(router, middleware=MIDDLEWARE):
        client = await opened(f"/groups/{group.pk}/", session)
        book = access.book()
        await eventually("it is asked again", lambda: book.asked > 1, PATIENCE)
        await User.user_permissions.through.objects.all().adelete()
        await revoked(client)
    event_log().clear_all()
    assert await sync_to_async(permission)()
