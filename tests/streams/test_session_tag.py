"""The tag that says to whom a stream belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.db import connection
from django.http import HttpRequest
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from django_agent_sse import Context, Router, Stream, login_required
from django_agent_sse.streams.response import SESSION_HEADER, session_tag
from tests.serving import ask, served

User = get_user_model()
HEADER = SESSION_HEADER.lower()
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"]


async def tag(user: Any = None, session: Any = None, **headers: str) -> tuple[str, str]:
    """The account and the session in the tag of a request."""
    request = RequestFactory().get("/", headers=headers)
    request.user = user or AnonymousUser()
    if session is not None:
        request.session = session
    c = Context(request, {}, route="", cache="default")
    await c.load_user()
    account, _, of_session = session_tag(c).partition(".")
    return account, of_session


async def test_an_account_is_the_user_and_a_session_is_its_key_and_what_authorizes() -> None:
    one, other = User(pk=1), User(pk=2)
    tags = [
        await tag(),
        await tag(session=SessionStore("a" * 32)),
        await tag(Authorization="Basic eDp5"),
        await tag(one, SessionStore("a" * 32)),
        await tag(one, SessionStore("b" * 32)),
        await tag(other, SessionStore("b" * 32)),
    ]
    assert len({of_session for _, of_session in tags}) == len(tags)
    assert [tags.index(next(one for one in tags if one[0] == account)) for account, _ in tags] == [0, 0, 0, 3, 3, 5]
    assert tags[3] == await tag(User(pk=1), SessionStore("a" * 32))


async def test_a_session_in_a_cookie_has_one_tag_though_its_text_changes() -> None:
    user = User(pk=1)
    assert await tag(user, CookieStore("one text")) == await tag(user, CookieStore("another text"))


async def test_a_tag_tells_nothing_and_is_another_one_under_another_secret(settings: Any) -> None:
    told = "".join(await tag(User(pk=1), SessionStore("a" * 32)))
    assert len(told) == 32
    assert "aaa" not in told
    settings.SECRET_KEY = "another one"
    assert "".join(await tag(User(pk=1), SessionStore("a" * 32))) != told


@pytest.fixture
def route() -> Iterator[None]:
    """A stream, one for those who are signed in, one whose guard says whose it is, and an answer that is no stream."""
    router = Router()

    @router.sse("open/")
    async def anybody(c: Context, stream: Stream) -> None:
        await stream.write("x")

    async def by_tenant(c: Context) -> bool:
        c.set_header(SESSION_HEADER, f"tenant-{c.query['tenant']}.")
        return True

    router.sse("closed/", login_required, anybody)
    router.sse("tenant/", by_tenant, anybody)
    router.log("log/", "a.log")
    with served(router, middleware=MIDDLEWARE):
        yield


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_streams_and_their_heads_carry_it_and_nothing_else_does(method: str) -> None:
    told = await ask("/open/", method=method)
    assert told.headers[HEADER] == (await ask("/open/")).headers[HEADER]
    assert "set-cookie" not in told.headers
    refused = await ask("/closed/", method=method)
    assert (refused.status, HEADER in refused.headers) == (401, False)
    assert (await ask("/tenant/?tenant=7", method=method)).headers[HEADER] == "tenant-7."
    assert HEADER not in (await ask("/log/range/", method=method)).headers
    assert HEADER not in (await ask("/log/raw/?follow=0", method=method)).headers


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("route")
async def test_it_costs_no_query_of_its_own_and_varies_with_the_cookie() -> None:
    key = await sync_to_async(session_of)("ada")
    headers: Mapping[str, str] = {"Cookie": f"sessionid={key}"}
    told = await ask("/closed/", headers=headers)
    assert told.status == 200
    assert told.headers["vary"] == "Cookie"
    assert told.headers[HEADER] != (await ask("/open/")).headers[HEADER]
    request = HttpRequest()
    request.session = SessionStore(key)
    request.user = await User.objects.aget(username="ada")
    c = Context(request, {}, route="", cache="default")
    await c.load_user()

    def queries() -> int:
        with CaptureQueriesContext(connection) as made:
            assert session_tag(c) == told.headers[HEADER]
        return len(made)

    assert await sync_to_async(queries)() == 0
    assert request.session.accessed is False


def session_of(name: str) -> str:
    """The key of a session of a new user."""
    user = User.objects.create_user(name)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)
