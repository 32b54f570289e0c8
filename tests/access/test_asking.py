"""Guards are asked again in their own time: what they see then, how often, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404, HttpResponse
from django.test.utils import CaptureQueriesContext
from django.utils.decorators import async_only_middleware
from django.utils.functional import SimpleLazyObject

from django_agent_sse import (
    Context,
    Router,
    Stream,
    api_key,
    event_log,
    login_required,
    permission_required,
    signed_required,
    signed_url,
)
from django_agent_sse.access import book as booking
from django_agent_sse.access import permit as permits
from django_agent_sse.access.loading import load
from django_agent_sse.access.service import access
from django_agent_sse.exceptions import EventLogUnavailable
from tests.inprocess import eventually
from tests.serving import served

from .changes import MIDDLEWARE, PERMISSION, person, sign_in
from .people import PATIENCE, leave, opened, revoked, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("at_once")]
OFTEN = 0.1
"""Seconds between two times that guards are asked again."""


async def asked_again(times: int = 2) -> None:
    book = access.book()
    before = book.asked
    await eventually("guards are asked again", lambda: book.asked >= before + times, PATIENCE)


@pytest.fixture(autouse=True)
async def nobody_is_asked_any_more(transactional_db: None) -> AsyncIterator[None]:
    """A thread that still loads somebody would hold the database that is emptied now."""
    yield
    await access.book().idle()


@contextmanager
def route(*guards: Any, handler: Any = waiting, middleware: Any = MIDDLEWARE, **options: Any) -> Iterator[str]:
    router = Router(recheck=OFTEN)
    router.sse("here/<int:number>/", handler, guards=list(guards), **options)
    with served(router, middleware=[*MIDDLEWARE, *(one for one in middleware if one not in MIDDLEWARE)]):
        yield "/here/7/?q=x"


@async_only_middleware
def tenant(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        request.tenant, request.META["REMOTE_ADDR"] = "acme", "192.0.2.1"
        return await get_response(request)

    return middleware


@pytest.mark.parametrize("slim", [False, True])
async def test_a_guard_sees_the_same_request_with_the_user_and_the_session_of_now(slim: bool) -> None:
    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    seen: list[tuple[Any, ...]] = []

    async def guard(c: Context) -> bool:
        c.var.seen = len(seen)
        body = await c.json_body() if c.request.method == "POST" else None
        of_session = await c.request.session.aget("word")
        again = await c.request.auser()
        about = (c.header("X-Key"), c.query["q"], c.params, c.var.tenant, c.request.META["REMOTE_ADDR"], c.last_event_id, body)
        seen.append((about, c.user.first_name, again.first_name, of_session, c.route))
        return True

    with route(guard, middleware=[f"{__name__}.tenant"], slim=slim, methods=["GET", "POST"], csrf_exempt=True) as path:
        client = await opened(path, session, headers={"X-Key": "k"}, method="POST", body=b'{"a": 1}', last_event_id="e.5")
        await User.objects.aupdate(first_name="Ann")
        session["word"] = "new"
        await session.asave()
        await asked_again()
        await leave(client)
    first, last = seen[0], seen[-1]
    assert first[0] == last[0] == ("k", "x", {"number": 7}, "acme", "192.0.2.1", "e.5", {"a": 1})
    assert (first[1:], last[1:]) == (("", "", None, "here/<int:number>/"), ("Ann", "Ann", "new", "here/<int:number>/"))


async def test_what_a_guard_sets_on_the_context_is_not_there_when_it_is_asked_again() -> None:
    found: list[bool] = []

    async def guard(c: Context) -> bool:
        found.append(hasattr(c.var, "mine"))
        c.var.mine = True
        return True

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(c.var.mine)
        await stream.wait_closed()

    with route(guard, handler=handler) as path:
        client = await opened(path)
        await asked_again()
        await leave(client)
    assert not any(found)


@pytest.mark.parametrize("slim", [False, True])
async def test_a_key_that_is_withdrawn_ends_the_streams_that_were_opened_with_it(slim: bool) -> None:
    keys = {"k1": "a", "k2": "b"}
    with route(api_key(keys.get), slim=slim) as path:
        one, two = [await opened(path, headers={"X-API-Key": key}) for key in keys]
        await asked_again()
        del keys["k1"]
        await revoked(one)
        await leave(two)


async def test_a_guard_that_finds_another_user_ends_the_stream() -> None:
    ann, ben = await sync_to_async(person)("ann"), await sync_to_async(person)("ben")
    owner = [ann]

    async def token(c: Context) -> bool:
        c.user = await User.objects.aget(pk=owner[0].pk)
        return True

    with route(token) as path:
        client = await opened(path)
        await asked_again()
        owner[0] = ben
        await revoked(client)


async def test_a_user_whom_a_token_names_must_stay_active() -> None:
    user = await sync_to_async(person)("ann")

    async def token(c: Context) -> bool:
        c.user = await User.objects.aget(pk=user.pk)
        return True

    with route(token) as path:
        client = await opened(path)
        await User.objects.aupdate(is_active=False)
        await revoked(client)


def by_token(get_response: Any) -> Any:
    """A middleware that knows users by something else than a session."""

    def middleware(request: Any) -> Any:
        request.user = User.objects.get(username=request.headers["X-Name"])
        return get_response(request)

    return middleware


class Machine:
    """A user that is no model's, as some back ends for tokens have it."""

    is_authenticated, is_active = True, True

    def __init__(self, name: str) -> None:
        self.pk = self.name = name


def by_machine(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.user = Machine(request.headers["X-Name"])
        return get_response(request)

    return middleware


async def test_users_that_are_no_models_are_not_taken_for_each_other() -> None:
    seen: dict[str, set[str]] = {"a": set(), "b": set()}

    async def guard(c: Context) -> bool:
        seen[str(c.header("X-Name"))].add(c.user.name)  # type: ignore[union-attr]
        return True

    with route(guard, middleware=[f"{__name__}.by_machine"], recheck=3600) as path:
        clients = [await opened(path, headers={"X-Name": name}) for name in seen]
        book = access.book()
        for permit in [*book.permits.values()]:
            book.want(permit)
        await book.idle()
        assert book.loads == 1
        await leave(*clients)
    assert seen == {"a": {"a"}, "b": {"b"}}


@pytest.mark.parametrize("slim", [False, True])
@pytest.mark.parametrize("change", ["deactivated", "deleted"])
async def test_a_user_whom_middleware_has_found_is_loaded_anew(change: str, slim: bool) -> None:
    await sync_to_async(person)("ann")
    await sync_to_async(person)("ben")
    with route(login_required, middleware=[f"{__name__}.by_token"], slim=slim, recheck=None) as path:
        ann, ben = [await opened(path, headers={"X-Name": name}) for name in ("ann", "ben")]
        user = await User.objects.aget(username="ann")
        if change == "deleted":
            await user.adelete()
        else:
            user.is_active = False
            await user.asave()
        await revoked(ann)
        await leave(ben)


class Marking:
    """As django-hijack and django-otp do: a lazy user around Django's own, with more on it."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        given, device = request.user, request.headers.get("X-Device")

        def marked() -> Any:
            user = copy(given)
            user.device, user.password_is_old = device, False
            return user

        request.user = SimpleLazyObject(marked)
        return self.get_response(request)


@pytest.mark.parametrize("slim", [False, True])
async def test_what_middleware_puts_on_the_user_of_a_session_is_on_the_one_that_is_loaded_anew(slim: bool) -> None:
    user = await sync_to_async(person)("ann")
    sessions = [await sync_to_async(sign_in)(user) for _ in range(2)]
    seen: defaultdict[Any, list[tuple[Any, ...]]] = defaultdict(list)

    async def guard(c: Context) -> bool:
        user: Any = c.user
        seen[c.header("X-Device")].append((type(user), user.device, user.password_is_old, user.first_name))
        return True

    with route(login_required, guard, middleware=[f"{__name__}.Marking"], slim=slim, recheck=None) as path:
        clients = [await opened(path, session, headers={"X-Device": name}) for name, session in zip("ab", sessions, strict=True)]
        user.first_name = "Ann"
        await user.asave()
        await eventually("guards are asked again", lambda: all(len(looks) > 1 for looks in seen.values()), PATIENCE)
        await leave(*clients)
    for device, looks in seen.items():
        assert (looks[0], looks[-1]) == ((User, device, False, ""), (User, device, False, "Ann"))


async def test_nobodys_stream_on_a_route_without_guards_is_not_asked_about() -> None:
    with route() as path:
        client = await opened(path)
        (permit,) = access.book().permits.values()
        assert not permit.asks
        assert access.book()._groups == {}
        await leave(client)


async def test_streams_of_one_user_share_one_load_and_what_is_loaded_takes_a_query_each() -> None:
    sessions = [await sync_to_async(lambda name=name: sign_in(person(name, permitted=True)))() for name in ("ann", "ben", "cleo")]
    with route(login_required, recheck=3600) as path:
        clients = [await opened(path, session) for session in sessions for _ in range(4)]
        book = access.book()
        assert sorted(len(group.permits) for group in book._groups.values()) == [4, 4, 4]
        identities = [*book._groups]

        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                found = load(identities)
            assert {found[identity].user.username for identity in identities} == {"ann", "ben", "cleo"}
            return len(captured)

        assert await sync_to_async(queries)() == 2  # the sessions, the users
        before = book.loads
        for permit in [*book.permits.values()]:
            book.want(permit)
        await book.idle()
        assert book.loads == before + 1
        await leave(*clients)
    assert book._groups == book.permits == {}


async def test_when_it_is_due_is_spread_and_never_later_than_the_interval() -> None:
    with route(login_required, recheck=100) as path:
        await sync_to_async(person)("ann")
        sessions = [await sync_to_async(lambda: sign_in(User.objects.get()))() for _ in range(40)]
        clock = asyncio.get_running_loop().time
        clients, first = [], []
        for session in sessions:
            began = clock()
            clients.append(await opened(path, session))
            due = [*access.book()._groups.values()][-1].due_slot
            assert due is not None
            assert began + 45 < due <= clock() + 102
            first.append(due - began)
        now = clock()
        groups = [*access.book()._groups.values()]
        assert len(groups) == 40
        assert len({round(due) for due in first}) > 15
        for group in groups:
            for permit in group.permits:
                permit.asked -= 100
            due = group.tick(now)
            assert due is not None
            assert 80 <= due - now <= 100
        await access.book().idle()
        await leave(*clients)


async def test_a_look_renews_no_session(settings: Any) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = True
    session = await sync_to_async(lambda: sign_in(person("ann")))()

    async def touches(c: Context) -> bool:
        c.request.session["touched"] = True
        await c.request.session.asave() if c.started else None
        await sync_to_async(c.request.session.save)()
        return True

    with route(login_required) as path:
        client = await opened(path, session)
        row = session.model.objects.filter(pk=session.session_key)
        await row.aupdate(expire_date="2126-01-01T00:00:00Z")
        await asked_again()
        assert (await row.aget()).expire_date.year == 2126
        await row.aupdate(expire_date="2020-01-01T00:00:00Z")
        await revoked(client)


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"], ids=lambda name: str(name))
async def test_every_kind_of_session_is_loaded_and_is_missed(engine: str, settings: Any, tmp_path: Any) -> None:
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = f"django.contrib.sessions.backends.{engine}", str(tmp_path)
    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    with route(login_required) as path:
        client = await opened(path, session)
        await asked_again()
        assert not client.complete
        if engine == "signed_cookies":  # nothing can take it back but the user
            await User.objects.aupdate(is_active=False)
        else:
            await sync_to_async(type(session)(session.session_key).delete)()
        await revoked(client)


@pytest.mark.parametrize("slim", [False, True])
async def test_nothing_keeps_a_permit_whose_stream_is_over(slim: bool) -> None:
    """Not even until the garbage collector comes."""
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    with route(login_required, slim=slim) as path:
        client = await opened(path, session)
        await asked_again()
        (permit,) = (weakref.ref(one) for one in access.book().permits.values())
        gc.collect()
        gc.disable()
        try:
            await leave(client)
            await access.book().idle()
            await eventually("it is gone", lambda: permit() is None, PATIENCE)
        finally:
            gc.enable()


# Guards that fail


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(booking, "LONGEST_PAUSE", 0.02)


class Faulty:
    """A guard that does what it is told, once it has let the stream begin."""

    def __init__(self) -> None:
        self.acts: list[Any] = []
        self.asked = 0

    async def __call__(self, c: Context) -> Any:
        self.asked += 1
        act = self.acts.pop(0) if self.acts else True
        if isinstance(act, BaseException):
            raise act
        return await act() if callable(act) else act


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "fault",
    [OSError("the service is away"), SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError(), None, "yes", HttpResponse],
    ids=lambda fault: repr(fault)[:20],
)
async def test_a_guard_that_fails_ends_nothing_until_it_has_failed_five_times(
    fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Faulty()
    if fault is HttpResponse:
        fault = lambda: asyncio.sleep(0, object())  # noqa: E731
    with route(guard) as path:
        client = await opened(path)
        guard.acts = [fault] * (booking.MAX_FAILURES - 1)
        await eventually("it has failed", lambda: not guard.acts, PATIENCE)
        await asked_again()
        assert not client.complete
        assert caplog.text.count("guards cannot be asked again") == 1
        guard.acts = [fault] * booking.MAX_FAILURES
        await revoked(client)
    assert "as its guards could not be asked 5 times in a row" in caplog.text


@pytest.mark.parametrize(
    "refusal",
    [False, PermissionDenied("no"), Http404("gone"), lambda: asyncio.sleep(0, HttpResponse(status=410))],
    ids=["False", "PermissionDenied", "Http404", "a response"],
)
async def test_whatever_refuses_a_request_ends_the_stream(refusal: Any) -> None:
    guard = Faulty()
    with route(guard) as path:
        client = await opened(path)
        guard.acts = [refusal]
        await revoked(client)


@pytest.mark.usefixtures("soon")
async def test_a_database_that_is_away_for_a_moment_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    session = await sync_to_async(lambda: sign_in(person("ann")))()
    failures = [OSError("the database restarts")] * (booking.MAX_FAILURES - 1)

    def fails(identities: Any) -> Any:
        if failures:
            raise failures.pop()
        return load(identities)

    monkeypatch.setattr(booking, "load", fails)
    with route(login_required) as path:
        client = await opened(path, session)
        await eventually("it has failed", lambda: not failures, PATIENCE)
        await asked_again()
        await leave(client)


async def test_what_was_ordered_while_the_database_was_away_is_asked_soon_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long it was away: the pauses between tries, which get longer, are for what nobody has said anything about."""
    monkeypatch.setattr(booking, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(booking, "LONGEST_PAUSE", 3600.0)
    monkeypatch.setattr(booking, "SECOND_LOOK", 0.05)
    user, session = await sync_to_async(lambda: (user := person("ann"), sign_in(user)))()
    away, tries = [True], [0]

    def fails(identities: Any) -> Any:
        tries[0] += 1
        if away[0]:
            raise OSError("the database restarts")
        return load(identities)

    with route(login_required) as path:
        client = await opened(path, session)
        (permit,) = access.book().permits.values()
        monkeypatch.setattr(booking, "load", fails)
        user.is_active = False
        await user.asave()
        await eventually("it is tried again and again", lambda: tries[0] > booking.MAX_FAILURES + 2, PATIENCE)
        assert permit.failures == 1, "it is no reason to give up sooner"
        assert not client.complete
        away[0] = False
        await revoked(client)


@pytest.mark.usefixtures("soon")
async def test_a_guard_that_does_not_answer_has_failed_and_holds_up_no_other_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "ASK_SECONDS", 0.2)
    began = asyncio.Event()
    hangs = [False]

    async def hung(c: Context) -> bool:
        if hangs[0]:
            began.set()
            await asyncio.Event().wait()
        return True

    may = [True]

    async def quick(c: Context) -> bool:
        return may[0]

    router = Router(recheck=None)
    router.sse("hung/", waiting, guards=[hung])
    router.sse("quick/", waiting, guards=[quick])
    with served(router, middleware=MIDDLEWARE):
        stuck = [await opened("/hung/") for _ in range(booking.ASKED_AT_ONCE + 4)]
        other = await opened("/quick/")
        hangs[0], may[0] = True, False
        book = access.book()
        for permit in [*book.permits.values()]:
            book.want(permit)
        await began.wait()
        tasks = {client.task for client in (other, *stuck)}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert done == {other.task}
        await revoked(other)
        for client in stuck:
            await revoked(client)


async def test_at_most_so_many_streams_of_a_route_are_asked_at_once() -> None:
    now, most = [0], [0]

    async def counts(c: Context) -> bool:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.002)
        now[0] -= 1
        return True

    with route(counts, recheck=3600) as path:
        clients = [await opened(path) for _ in range(booking.ASKED_AT_ONCE * 3)]
        book = access.book()
        for permit in [*book.permits.values()]:
            book.want(permit)
            book.want(permit)
        most[0] = 0
        before = book.asked
        await book.idle()
        assert most[0] == booking.ASKED_AT_ONCE
        assert book.asked == before + len(clients)
        await leave(*clients)


@pytest.mark.parametrize("stands", [False, True], ids=["is not due", "stands in line already"])
async def test_what_is_ordered_stands_behind_nothing_that_is_only_due(stands: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "ASK_SECONDS", 3600.0)
    user, session = await sync_to_async(lambda: (user := person("ann"), sign_in(user)))()
    go_on, hangs, hung = asyncio.Event(), [False], [0]

    async def known(c: Context) -> bool:
        return bool(c.header("X-Machine")) or getattr(c.user, "is_active", False)

    async def service(c: Context) -> bool:
        if hangs[0]:
            hung[0] += 1
            await go_on.wait()
        return True

    with route(known, service, recheck=3600) as path:
        others = [await opened(path, headers={"X-Machine": "yes"}) for _ in range(booking.ASKED_AT_ONCE + 1)]
        book = access.book()
        due = [*book.permits.values()]
        ann = await opened(path, session)
        (mine,) = set(book.permits.values()) - set(due)
        hangs[0] = True
        try:
            for one in [*due, *([mine] if stands else [])]:
                book.want(one)
            await eventually("the others hang", lambda: hung[0] == booking.ASKED_AT_ONCE and book._work is None, PATIENCE)
            user.is_active = False
            await user.asave()
            await revoked(ann)
            assert hung[0] == booking.ASKED_AT_ONCE
        finally:
            go_on.set()
        await leave(*others)


async def test_what_changes_while_guards_are_asked_is_asked_about_once_more() -> None:
    asking, go_on, answers = asyncio.Event(), asyncio.Event(), [True, True, False]

    async def slow(c: Context) -> bool:
        answer = answers.pop(0)
        if len(answers) == 1:
            asking.set()
            await go_on.wait()
        return answer

    with route(slow, recheck=3600) as path:
        client = await opened(path)
        book = access.book()
        (permit,) = book.permits.values()
        book.want(permit)
        await asking.wait()
        book.want(permit)  # it must not be lost, since what is asked now may have been loaded before
        go_on.set()
        await revoked(client)


async def test_a_handler_that_goes_on_without_its_client_is_not_asked_about() -> None:
    guard, done = Faulty(), asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("hello")
        await done.wait()

    with route(guard, handler=handler, on_disconnect="continue", recheck=3600) as path:
        client = await opened(path)
        client.leave()
        await client.over()
        book = access.book()
        (permit,) = book.permits.values()
        book.want(permit)
        await book.idle()
        assert guard.asked == 1
        done.set()
        await eventually("it is over", lambda: not book.permits, PATIENCE)


@pytest.mark.parametrize("state", ["routers", "on_connection"])
async def test_where_a_connection_hangs_on_whose_stream_it_is_each_is_loaded_as_its_own_handler_would(
    state: str, settings: Any
) -> None:
    sessions = [await sync_to_async(lambda name=name: sign_in(person(name)))() for name in ("ann", "ben")]
    if state == "routers":
        settings.DATABASE_ROUTERS = ["tests.access.changes.Router"]
    else:
        settings.AGENT_SSE = {"ON_CONNECTION": lambda connection, c: None}
    with route(login_required, recheck=3600) as path:
        clients = [await opened(path, session) for session in sessions for _ in range(2)]
        book = access.book()
        for permit in [*book.permits.values()]:
            book.want(permit)
        await book.idle()
        assert book.loads == 2
        await User.objects.filter(username="ann").aupdate(is_active=False)
        for permit in [*book.permits.values()]:
            book.want(permit)
        await revoked(clients[0])
        await revoked(clients[1])
        await leave(*clients[2:])


async def test_a_permission_is_asked_for_with_the_rights_of_now(caplog: pytest.LogCaptureFixture) -> None:
    session = await sync_to_async(lambda: sign_in(person("ann", permitted=True)))()
    with route(permission_required(PERMISSION)) as path, caplog.at_level(logging.INFO, "django_agent_sse.stream"):
        client = await opened(path, session)
        await asked_again()
        await User.user_permissions.through.objects.all().adelete()  # no signal tells of that
        await revoked(client)
    assert "here/<int:number>/ revoked after" in caplog.text


async def test_a_stream_of_a_signed_address_goes_on_while_the_log_cannot_say_what_was_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = await sync_to_async(person)("ann")
    failed = 0

    async def fail(self: Any, topic: str, *_: Any) -> Any:
        nonlocal failed
        failed += 1
        raise EventLogUnavailable("down")

    monkeypatch.setattr(booking, "FIRST_PAUSE", OFTEN)
    with route(signed_required) as path:
        client = await opened(signed_url(path, user=user))
        with monkeypatch.context() as broken:
            broken.setattr(type(event_log()), "aread_after", fail)
            await eventually("the guard has failed", lambda: failed >= 2, PATIENCE)
        await asked_again()
        await leave(client)
