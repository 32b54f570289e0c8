"""Whose streams they are: users that something else than the session has set, kinds of sessions, and what cannot be loaded."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, update_session_auth_hash
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db.models import Exists, OuterRef, UUIDField
from django.http import HttpRequest

from django_agent_sse import Context, Router, aclose_streams, login_required, permission_required
from django_agent_sse.access import book as booking
from django_agent_sse.access import loading
from django_agent_sse.access import permit as permits
from django_agent_sse.access.identity import identity_of
from django_agent_sse.access.loading import load
from django_agent_sse.access.service import access
from tests.inprocess import eventually
from tests.serving import ask, served

from .changes import MIDDLEWARE, PERMISSION, cookie, person, sign_in, sign_out
from .people import PATIENCE, leave, opened, revoked, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("at_once")]


@contextmanager
def route(*guards: Any, middleware: Any = (), **options: Any) -> Iterator[str]:
    router = Router(recheck=None)
    router.sse("here/", waiting, guards=list(guards), **options)
    with served(router, middleware=[*MIDDLEWARE, *middleware]):
        yield "/here/"


async def ask_all() -> None:
    book = access.book()
    for permit in [*book.permits.values()]:
        book.want(permit)
    await book.idle()


# One load of a user for all streams


async def test_the_permissions_of_a_user_are_loaded_once_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on several routes, and where the guards of all run at the same time."""
    loads: Counter[int] = Counter()
    query = ModelBackend._get_user_permissions  # type: ignore[attr-defined]

    def counted(self: Any, user: Any) -> Any:
        loads[user.pk] += 1
        return query(self, user)

    monkeypatch.setattr(ModelBackend, "_get_user_permissions", counted)
    monkeypatch.setattr(booking, "AHEAD_SECONDS", PATIENCE)
    sessions = [await sync_to_async(lambda name=name: sign_in(person(name, permitted=True)))() for name in ("ann", "ben")]
    router = Router(recheck=None)
    router.sse("one/", waiting, guards=[login_required, permission_required(PERMISSION)])
    router.sse("two/", waiting, guards=[permission_required(PERMISSION)])
    with served(router, middleware=MIDDLEWARE):
        clients = [await opened(path, session) for session in sessions for path in ("/one/", "/two/") for _ in range(10)]
        await access.book().idle()
        loads.clear()
        before = access.book().asked, access.book().loads
        await ask_all()
        assert (access.book().asked, access.book().loads) == (before[0] + 40, before[1] + 1)
        assert sorted(loads.values()) == [1, 1]
        await leave(*clients)


async def test_streams_of_a_user_that_are_far_apart_in_the_line_are_loaded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "LOADED_AT_ONCE", 4)
    sessions = [await sync_to_async(lambda name=name: sign_in(person(name)))() for name in ("ann", "ben", "cleo")]
    with route(login_required) as path:
        clients = [await opened(path, session) for _ in range(4) for session in sessions]
        before = access.book().loads
        await ask_all()
        assert access.book().loads == before + 3
        await leave(*clients)


async def test_a_stream_whose_guard_hangs_holds_up_no_other_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "AHEAD_SECONDS", 0.05)
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    state = {"hangs": False}

    async def guard(c: Context) -> bool:
        if state["hangs"] and c.query["n"] == "0":
            await asyncio.Event().wait()
        return not state["hangs"]

    with route(login_required, guard) as path:
        stuck, *others = [await opened(f"{path}?n={number}", session) for number in range(3)]
        state["hangs"] = True
        book = access.book()
        for permit in [*book.permits.values()]:
            book.want(permit)
        await revoked(*others)
        assert not stuck.complete
        await leave(stuck)


# What cannot be loaded


class Picky(ModelBackend):
    """A back end that cannot say who one of them is."""

    broken: Any = OSError("the directory has no answer")

    def get_user(self, user_id: Any) -> Any:
        user = super().get_user(user_id)
        if user is not None and user.username == "bad" and Picky.broken is not None and Picky.on:
            raise Picky.broken
        return user

    on = False


@pytest.mark.parametrize("error", [OSError("the directory has no answer"), SystemExit(3)], ids=lambda error: type(error).__name__)
async def test_a_user_who_cannot_be_loaded_keeps_nobody_else_from_it(
    error: BaseException, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Picky"]
    monkeypatch.setattr(Picky, "broken", error)

    def signed_in(name: str) -> Any:
        session = sign_in(person(name))
        session["_auth_user_backend"] = f"{__name__}.Picky"
        session.save()
        return session

    bad, good = [await sync_to_async(signed_in)(name) for name in ("bad", "good")]
    with route(login_required) as path:
        first, second = await opened(path, bad), await opened(path, good)
        (permit, other) = access.book().permits.values()
        monkeypatch.setattr(Picky, "on", True)
        await ask_all()
        assert permit.failures == 1
        if isinstance(error, Exception):
            assert other.failures == 0
            await sync_to_async(good.flush)()  # and what happens to the other is seen meanwhile
            await ask_all()
            await revoked(second)
        else:
            await leave(second)
        await leave(first)


async def test_what_a_session_says_that_no_key_can_be_is_nobody() -> None:
    """As after a change of the user model, from numbers to UUIDs."""
    bad, good = [await sync_to_async(lambda name=name: sign_in(person(name)))() for name in ("ann", "ben")]
    with route(login_required) as path:
        first, second = await opened(path, bad), await opened(path, good)
        bad[SESSION_KEY] = "d6b4f9c2-7f0f-4ef7-9b7f-1f4d4f6f8a11"
        await bad.asave()
        await ask_all()
        await revoked(first)
        await leave(second)
    assert loading._key(UUIDField(), "17") is None


async def test_a_database_that_does_not_answer_is_waited_for_so_long_and_holds_up_nobody_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (booking, permits):
        monkeypatch.setattr(module, "ASK_SECONDS", 0.2)
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(booking, name, 0.02)
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    answers, asking = threading.Event(), list[Any]()

    def hangs(identities: Any) -> Any:
        asking.append(identities)
        try:
            answers.wait(PATIENCE)
            return load(identities)
        finally:
            asking.pop()

    with route(login_required) as path:
        client = await opened(path, session)
        try:
            with monkeypatch.context() as hung:
                hung.setattr(booking, "load", hangs)
                (permit,) = access.book().permits.values()
                access.book().want(permit)
                await eventually("it has failed", lambda: permit.failures, PATIENCE)
                assert not client.complete
                await revoked(client)  # nobody knows any more
        finally:
            answers.set()
            await eventually("no thread reads the database any more", lambda: not asking, PATIENCE)


async def test_what_is_ordered_while_nothing_can_be_asked_is_no_reason_to_give_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    fails = [False]

    async def guard(c: Context) -> bool:
        if fails[0]:
            raise OSError("away")
        return True

    with route(login_required, guard) as path:
        client = await opened(path, session)
        (permit,) = access.book().permits.values()
        fails[0] = True
        for _ in range(booking.MAX_FAILURES + 2):
            await ask_all()
        assert permit.failures == 1
        fails[0] = False
        await ask_all()
        assert permit.failures == 0
        await leave(client)


async def test_a_guard_that_is_cancelled_by_what_it_awaits_has_failed_and_is_asked_again() -> None:
    cancelled = [False]

    async def guard(c: Context) -> bool:
        if cancelled[0]:
            raise asyncio.CancelledError
        return True

    with route(guard) as path:
        client = await opened(path)
        (permit,) = access.book().permits.values()
        cancelled[0] = True
        await ask_all()
        assert (permit.failures, permit.asking) == (1, False)
        await leave(client)


# Users that something else than the session has set


def as_somebody(get_response: Any) -> Any:
    """A middleware by which staff sees the site as somebody else, as packages for that have it."""

    def middleware(request: Any) -> Any:
        if (name := request.session.get("as")) and request.user.is_staff:
            request.user = User.objects.get(username=name)
        return get_response(request)

    return middleware


@pytest.mark.parametrize("change", ["deactivated", "signs out", "gets a new password"])
async def test_who_acts_as_somebody_else_loses_that_with_their_own_access(change: str) -> None:
    ann = await sync_to_async(person)("ann")
    staff = await sync_to_async(person)("staff", is_staff=True)
    session, own = await sync_to_async(sign_in)(staff), await sync_to_async(sign_in)(ann)
    session["as"] = "ann"
    await session.asave()
    seen: list[str] = []

    async def guard(c: Context) -> bool:
        seen.append(c.user.username)
        return True

    with route(login_required, guard, middleware=[f"{__name__}.as_somebody"]) as path:
        acting, herself = await opened(path, session), await opened(path, own)
        await ask_all()
        assert {*seen} == {"ann"}
        if change == "signs out":
            await sync_to_async(sign_out)(staff, session)
        else:
            if change == "deactivated":
                staff.is_active = False
            else:
                staff.set_password("another")
            await staff.asave()
        await revoked(acting)
        await leave(herself)


async def test_the_streams_in_which_somebody_acts_as_somebody_else_are_theirs_too() -> None:
    """Also where a guard has set the other user; the streams of that user are not."""
    ann = await sync_to_async(person)("ann")
    staff = await sync_to_async(person)("staff", is_staff=True)
    session, own = await sync_to_async(sign_in)(staff), await sync_to_async(sign_in)(ann)

    async def as_ann(c: Context) -> bool:
        if c.user.is_staff:
            c.user = ann
        return True

    with route(login_required, as_ann) as path:
        acting, again, herself = await opened(path, session), await opened(path, session), await opened(path, own)
        await aclose_streams(user=staff, route=path[1:])
        await revoked(acting, again)
        acting = await opened(path, session)
        staff.is_active = False
        await staff.asave()
        await revoked(acting)
        assert not herself.complete
        await aclose_streams(user=ann)
        await revoked(herself)


class Annotated(ModelBackend):
    """A back end that loads a user with what is known of them elsewhere."""

    def get_user(self, user_id: Any) -> Any:
        return User.objects.annotate(reads=Exists(Group.objects.filter(user=OuterRef("pk")))).filter(pk=user_id).first()


async def test_what_a_user_is_loaded_with_is_what_it_is_now(settings: Any) -> None:
    """It stands on a user as what middleware has put there does, which is kept."""
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Annotated"]
    ann = await sync_to_async(lambda: person("ann", group="readers"))()
    session = await sync_to_async(sign_in)(ann)
    session[BACKEND_SESSION_KEY] = f"{__name__}.Annotated"
    await session.asave()

    async def reads(c: Context) -> bool:
        return bool(c.user.reads)

    with route(reads) as path:
        client = await opened(path, session)
        await ask_all()
        assert not client.complete
        await sync_to_async(ann.groups.clear)()
        await revoked(client)


async def test_a_session_in_which_another_user_is_signed_in_now_is_another_users() -> None:
    ann, ben = await sync_to_async(person)("ann"), await sync_to_async(person)("ben")
    session = await sync_to_async(sign_in)(ann)
    with route(login_required) as path:
        client = await opened(path, session)
        session[SESSION_KEY], session[HASH_SESSION_KEY] = str(ben.pk), ben.get_session_auth_hash()
        await session.asave()
        await ask_all()
        await revoked(client)
        again = await opened(path, session)
        await ask_all()
        await leave(again)


def by_name(get_response: Any) -> Any:
    """A middleware that goes by a header, and never looks at the session."""

    def middleware(request: Any) -> Any:
        request.user = User.objects.get(username=request.headers["X-Name"])
        return get_response(request)

    return middleware


async def test_a_session_that_nobody_has_looked_at_is_not_loaded_on_the_loop() -> None:
    """A browser sends its cookie along with a token."""
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    await sync_to_async(person)("ben")
    with route(login_required, middleware=[f"{__name__}.by_name"]) as path:
        client = await opened(path, session, headers={"X-Name": "ben"})
        (permit,) = access.book().permits.values()
        assert (permit.identity.by_session, permit.identity.behind) == (False, "")
        await ask_all()
        assert not client.complete
        await User.objects.filter(username="ben").aupdate(is_active=False)
        await ask_all()
        await revoked(client)


class Guest:
    """Nobody who is signed in, and yet not anybody."""

    is_authenticated = False
    is_active = True
    pk = None

    def __init__(self, name: str) -> None:
        self.name = name


def by_guest(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = Guest(request.headers["X-Name"])
        return get_response(request)

    return middleware


async def test_guests_who_are_not_signed_in_are_not_taken_for_each_other() -> None:
    seen: dict[str, set[str]] = {"a": set(), "b": set()}

    async def guard(c: Context) -> bool:
        seen[str(c.header("X-Name"))].add(c.user.name)
        return True

    with route(guard, middleware=[f"{__name__}.by_guest"]) as path:
        clients = [await opened(path, headers={"X-Name": name}) for name in seen]
        await ask_all()
        await leave(*clients)
    assert seen == {"a": {"a"}, "b": {"b"}}


def test_what_a_user_model_lacks_is_not_asked_for() -> None:
    session = {HASH_SESSION_KEY: "known"}
    assert loading._verified(SimpleNamespace(), session)
    assert loading._verified(SimpleNamespace(get_session_auth_hash=lambda: "known"), session)
    assert not loading._verified(SimpleNamespace(get_session_auth_hash=lambda: "new"), session)
    rotated = SimpleNamespace(get_session_auth_hash=lambda: "new", get_session_auth_fallback_hash=lambda: iter(["known"]))
    assert loading._verified(rotated, session)
    assert not loading._verified(rotated, {})


def with_scope(get_response: Any) -> Any:
    """A middleware that puts on a user what this request may do, as those of tokens do."""

    def middleware(request: Any) -> Any:
        request.user.scope = request.headers["X-Scope"]
        request.user.allows = frozenset({request.user.scope}).__contains__
        return get_response(request)

    return middleware


async def test_what_middleware_has_put_on_a_user_is_of_that_request_alone() -> None:
    """Also where another stream of the same session is asked about at the same moment."""
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    seen: list[tuple[str | None, str, bool]] = []

    async def guard(c: Context) -> bool:
        scope = str(c.header("X-Scope"))
        seen.append((scope, c.user.scope, c.user.allows(scope)))
        return True

    with route(guard, middleware=[f"{__name__}.with_scope"]) as path:
        clients = [await opened(path, session, headers={"X-Scope": scope}) for scope in ("read", "write", "read")]
        seen.clear()
        await ask_all()
        await leave(*clients)
    assert sorted(seen) == [("read", "read", True), ("read", "read", True), ("write", "write", True)]


@pytest.mark.parametrize("who", ["sessions", "session", "nobody", "nobody's session"])
async def test_what_a_guard_sets_on_a_user_is_seen_by_no_other_stream(who: str) -> None:
    """Each has a user of its own when it is asked about, as requests have. Permissions are loaded once all the same."""
    ann = await sync_to_async(person)("ann")
    sessions = [await sync_to_async(sign_in)(ann) for _ in range(3)]
    nobodys = import_module(settings.SESSION_ENGINE).SessionStore()
    nobodys["basket"] = 7
    await nobodys.asave()
    seen: list[Any] = []

    async def sets(c: Context) -> bool:
        assert not hasattr(c.user, "scope")
        c.user.scope = c.header("X-Scope")
        return True

    async def goes_by_it(c: Context) -> bool:
        await asyncio.sleep(0.05)
        seen.append((c.header("X-Scope"), c.user.scope))
        return True

    with route(sets, goes_by_it) as path:
        own = {"session": sessions[:1] * 3, "sessions": sessions, "nobody": [None] * 3, "nobody's session": [nobodys] * 3}[who]
        clients = [await opened(path, session, headers={"X-Scope": str(n)}) for n, session in enumerate(own)]
        seen.clear()
        await ask_all()
        await leave(*clients)
    assert sorted(seen) == [("0", "0"), ("1", "1"), ("2", "2")]


async def test_what_a_guard_puts_in_a_session_is_seen_by_no_other_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards that wait for something run at the same time, and each has the session as its own request loads it."""
    monkeypatch.setattr(booking, "AHEAD_SECONDS", 0.01)
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    seen: list[Any] = []

    async def puts(c: Context) -> bool:
        await c.request.session.aset("scope", c.header("X-Scope"))
        return True

    async def goes_by_it(c: Context) -> bool:
        await asyncio.sleep(0.05)
        seen.append((c.header("X-Scope"), await c.request.session.aget("scope")))
        return True

    with route(puts, goes_by_it) as path:
        clients = [await opened(path, session, headers={"X-Scope": str(n)}) for n in range(3)]
        seen.clear()
        await ask_all()
        await leave(*clients)
    assert sorted(seen) == [("0", "0"), ("1", "1"), ("2", "2")]


async def test_the_rows_that_a_user_leads_to_are_not_those_of_another_stream() -> None:
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    seen: list[Any] = []

    async def guard(c: Context) -> bool:
        seen.append(c.user._state.fields_cache.pop("profile", None))
        c.user._state.fields_cache["profile"] = c.header("X-Scope")
        return True

    with route(guard) as path:
        clients = [await opened(path, session, headers={"X-Scope": str(n)}) for n in range(3)]
        seen.clear()
        await ask_all()
        await leave(*clients)
    assert seen == [None, None, None]


def with_a_user_of_its_own(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = SimpleNamespace(name="ann") if "X-One" in request.headers else Group.objects.get()
        return get_response(request)

    return middleware


@pytest.mark.parametrize("headers", [{"X-One": "1"}, {}], ids=["object", "model"])
async def test_a_user_need_not_know_whether_it_is_authenticated(headers: dict[str, str]) -> None:
    """What middleware puts there is taken as it is, at the start and when guards are asked again."""
    await Group.objects.acreate(name="ours")
    state = {"allowed": True}

    async def guard(c: Context) -> bool:
        return state["allowed"]

    with route(guard, middleware=[f"{__name__}.with_a_user_of_its_own"]) as path:
        clients = [await opened(path, headers=headers) for _ in range(2)]
        asked = access.book().asked
        await ask_all()
        state["allowed"] = False
        await ask_all()
        assert access.book().asked == asked + 4
        await revoked(*clients)


def with_anothers_user(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = SimpleNamespace(pk=7, is_authenticated=True)
        return get_response(request)

    return middleware


async def test_streams_are_also_of_whom_a_token_names_where_a_guard_sets_another_user() -> None:
    another = await sync_to_async(person)("ben")

    async def acts(c: Context) -> bool:
        c.user = another
        return True

    with route(acts, middleware=[f"{__name__}.with_anothers_user"]) as path:
        client = await opened(path)
        (permit,) = access.book().permits.values()
        assert permit.users == (str(another.pk), "7")
        await leave(client)


def test_what_nobody_has_put_on_a_user_takes_no_memory() -> None:
    c: Any = SimpleNamespace(user=User(pk=7), request=SimpleNamespace())
    identity = identity_of(c)
    assert identity.put is None
    assert identity.put_key is identity_of(c).put_key
    assert sys.getsizeof(identity.put_key) <= sys.getsizeof(())


# Kinds of sessions


@pytest.mark.parametrize(("engine", "end"), [("db", "is deleted"), ("db", "is left"), ("cache", "is left")])
async def test_a_session_by_which_a_guard_knows_somebody_need_not_be_one_of_djangos_users(
    engine: str, end: str, settings: Any
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    session, other = (import_module(settings.SESSION_ENGINE).SessionStore() for _ in range(2))
    for one in (session, other):
        one["member"] = 7
        await one.asave()

    async def members(c: Context) -> bool:
        return await c.request.session.aget("member") == 7

    with route(members) as path:
        client, stays = await opened(path, session), await opened(path, other)
        if end == "is deleted":
            await session.model.objects.filter(pk=session.session_key).adelete()
        else:
            await sync_to_async(sign_out)(AnonymousUser(), session)
        await revoked(client)
        await leave(stays)


async def test_after_a_new_password_of_ones_own_this_session_comes_back_and_all_others_are_refused() -> None:
    """Django gives the session another key then: what was opened with the old one ends too, and its page comes back."""
    user = await sync_to_async(person)("ann")
    here, there = await sync_to_async(sign_in)(user), await sync_to_async(sign_in)(user)

    def change() -> Any:
        request = HttpRequest()
        request.session, request.user = type(here)(here.session_key), user
        user.set_password("another")
        user.save()
        update_session_auth_hash(request, user)
        request.session.save()
        return request.session

    with route(login_required) as path:
        first, second = await opened(path, here), await opened(path, there)
        now = await sync_to_async(change)()
        await revoked(first, second)
        assert (await ask(path, headers=cookie(here))).status == 401
        assert (await ask(path, headers=cookie(there))).status == 401
        again = await opened(path, now)
        await ask_all()
        await leave(again)


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
async def test_who_signs_out_has_no_stream_left_with_any_kind_of_session(engine: str, settings: Any, tmp_path: Any) -> None:
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = f"django.contrib.sessions.backends.{engine}", str(tmp_path)
    ann, ben = await sync_to_async(person)("ann"), await sync_to_async(person)("ben")
    mine, elsewhere, theirs = [await sync_to_async(sign_in)(user) for user in (ann, ann, ben)]
    elsewhere["where"] = "elsewhere"  # sessions in cookies of one second are the same otherwise
    await sync_to_async(elsewhere.save)()
    with route(login_required) as path:
        first, second, other = [await opened(path, session) for session in (mine, elsewhere, theirs)]
        leaving = mine
        if engine == "signed_cookies":  # each answer that saves it has another key
            leaving = import_module(settings.SESSION_ENGINE).SessionStore(mine.session_key)
            await sync_to_async(lambda: leaving.update({"seen": 1}))()
            await sync_to_async(leaving.save)()
            assert leaving.session_key != mine.session_key
        await sync_to_async(sign_out)(ann, leaving)
        await revoked(first)
        if engine == "signed_cookies":  # nobody knows which are of the same browser: all end, and whose cookie is good come back
            await revoked(second)
            second = await opened(path, elsewhere)
        await ask_all()
        await leave(second, other)


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
async def test_a_session_that_expires_ends_its_streams_and_nothing_is_written_by_asking(
    engine: str, settings: Any, tmp_path: Any
) -> None:
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = f"django.contrib.sessions.backends.{engine}", str(tmp_path)
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    with route(login_required) as path:
        client = await opened(path, session)
        await ask_all()
        assert not client.complete
        if engine in ("file", "signed_cookies"):
            settings.SESSION_COOKIE_AGE = -1
        else:
            await sync_to_async(session.set_expiry)(-1)
            await sync_to_async(session.save)()
        files = len([*tmp_path.iterdir()])
        await ask_all()
        await revoked(client)
        assert len([*tmp_path.iterdir()]) <= files


async def test_a_sliding_session_goes_on_with_its_streams(settings: Any) -> None:
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    row = session.model.objects.filter(pk=session.session_key)
    with route(login_required) as path:
        client = await opened(path, session)
        await row.aupdate(expire_date="2126-01-01T00:00:00Z")  # as a page does that is looked at
        await ask_all()
        await leave(client)
