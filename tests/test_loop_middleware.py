"""Django's own middleware inside ``asgi.wrap()``: the same answers as without, and a thread wherever something may wait."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import SyncToAsync
from django.contrib import messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.sessions.backends import cache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler
from django.core.signing import TimestampSigner
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.csrf import get_token
from django.middleware.security import SecurityMiddleware
from django.urls import path
from django.utils.decorators import sync_only_middleware
from django.utils.deprecation import MiddlewareMixin
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt
from hypothesis import given, settings
from hypothesis import strategies as st

from django_agent_sse import asgi
from django_agent_sse.loop_middleware import _CASES, _chain
from django_agent_sse.streams import threads
from tests.inprocess import Client
from tests.serving import connect, served

SECURITY = "django.middleware.security.SecurityMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
FRAMES = "django.middleware.clickjacking.XFrameOptionsMiddleware"
DEFAULT = [SECURITY, SESSION, COMMON, CSRF, AUTH, MESSAGES, FRAMES]
SIGNALS = ["Signal.asend.<locals>.sync_send", "HttpResponseBase.close"]
"""What Django does on a thread for every request besides: the signals around it."""


# Views


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


async def aplain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


def raising(error: Exception) -> Callable[[HttpRequest], HttpResponse]:
    def view(request: HttpRequest) -> HttpResponse:
        raise error

    return view


async def araises(request: HttpRequest) -> HttpResponse:
    raise ValueError("on purpose")


def reads(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.session.get("count")))


def counts(request: HttpRequest) -> HttpResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))


async def acounts(request: HttpRequest) -> HttpResponse:
    await request.session.aset("count", await request.session.aget("count", 0) + 1)
    return HttpResponse(str(await request.session.aget("count")))


def forgets(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("flushed")


def tells(request: HttpRequest) -> HttpResponse:
    messages.info(request, "one")
    return HttpResponse("told")


async def atells(request: HttpRequest) -> HttpResponse:
    messages.warning(request, "two " * 600)  # more than a cookie takes: the session has it
    return HttpResponse("told")


def hears(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(map(str, messages.get_messages(request))))


def token(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(get_token(request))))


def user(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.user))


async def auser(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await request.auser()))  # type: ignore[attr-defined]


URLS = [
    path("plain/", plain),
    path("aplain/", aplain),
    path("exempt/", csrf_exempt(aplain)),
    path("framed/", xframe_options_exempt(plain)),
    path("missing/", raising(Http404())),
    path("forbidden/", raising(PermissionDenied())),
    path("suspicious/", raising(SuspiciousOperation())),
    path("broken/", raising(ValueError("on purpose"))),
    path("abroken/", araises),
    path("reads/", reads),
    path("counts/", counts),
    path("acounts/", acounts),
    path("forgets/", forgets),
    path("tells/", tells),
    path("atells/", atells),
    path("hears/", hears),
    path("token/", token),
    path("user/", user),
    path("auser/", auser),
]


# Middleware of projects


@sync_only_middleware
def sync_only(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Sync"] = "yes"
        return response

    return middleware


class Plain:
    """As whitenoise and many others are: sync only, with its ``get_response`` where Django's have it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)


class Derived(SecurityMiddleware):
    """One that a project has changed."""

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        response["X-Derived"] = "yes"
        return super().process_response(request, response)


class Unchanged(XFrameOptionsMiddleware):
    """One that a project has not changed, or not yet."""


class Own(MiddlewareMixin):
    """One of a project's."""

    def process_request(self, request: HttpRequest) -> None: ...

    def process_view(self, request: HttpRequest, *about: Any) -> None: ...

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        response["X-Own"] = "yes"
        return response


OWN = [f"{__name__}.{kind.__name__}" for kind in (sync_only, Plain, Derived, Unchanged, Own)]
OTHERS = ["django.middleware.locale.LocaleMiddleware", "django.middleware.http.ConditionalGetMiddleware"]


# The same answers


def application(*, wrapped: bool) -> Any:
    return asgi.wrap(ASGIHandler(), match=lambda scope: True) if wrapped else ASGIHandler()


def seen(client: Client) -> tuple[Any, ...]:
    """All of an answer but for what is drawn, and the time."""
    cookies = [re.sub("=[^;]+", "=drawn", re.sub("; expires=[^;]+", "", cookie), count=1) for cookie in client.cookies]
    headers = {name: value for name, value in client.headers.items() if name != "set-cookie"}
    return client.status, list(headers.items()), cookies, client.raw if client.status != 403 else b""


async def visit(steps: list[tuple[str, str, dict[str, str]]], *, wrapped: bool) -> list[tuple[Any, ...]]:
    """Make these requests one after the other, as a browser that keeps its cookies."""
    jar: dict[str, str] = {"csrftoken": "a" * 32}
    asked, answers = application(wrapped=wrapped), list[tuple[Any, ...]]()
    for url, method, headers in steps:
        cookie = "; ".join(f"{name}={value}" for name, value in jar.items() if value)
        client = await connect(url, method=method, headers={"cookie": cookie, **headers}, application=asked).over()
        for name, value in (line.split(";")[0].split("=", 1) for line in client.cookies):
            jar[name] = value.strip('"')
        answers.append(seen(client))
    return answers


@contextmanager
def no_cache_on_the_loop() -> Iterator[None]:
    """Fail where the cache, which stands for any that is asked over a network, is asked on the loop."""

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return method(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in ("get", "set", "add", "delete", "has_key"):
            stack.enter_context(mock.patch.object(LocMemCache, name, guarded(getattr(LocMemCache, name))))
        yield


paths = st.sampled_from([f"/{url.pattern}" for url in URLS] + ["/plain", "/counts", "/nowhere", "/"])
chosen = st.fixed_dictionaries(
    {},
    optional={
        "APPEND_SLASH": st.just(False),
        "PREPEND_WWW": st.just(True),
        "CSRF_USE_SESSIONS": st.just(True),
        "SESSION_SAVE_EVERY_REQUEST": st.just(True),
        "SECURE_SSL_REDIRECT": st.just(True),
        "SECURE_HSTS_SECONDS": st.just(60),
        "DISALLOWED_USER_AGENTS": st.just([re.compile("Bad")]),
        "X_FRAME_OPTIONS": st.just("SAMEORIGIN"),
        "SESSION_ENGINE": st.sampled_from([f"django.contrib.sessions.backends.{name}" for name in ("signed_cookies", "cache")]),
        "MESSAGE_STORAGE": st.sampled_from(
            [f"django.contrib.messages.storage.{name}Storage" for name in ("session.Session", "cookie.Cookie")]
        ),
    },
)
sent = st.fixed_dictionaries(
    {},
    optional={
        "x-csrftoken": st.sampled_from(["a" * 32, "b" * 32, "short"]),
        "host": st.sampled_from(["testserver", "www.testserver", "elsewhere.example"]),
        "user-agent": st.sampled_from(["Good/1", "Bad/1"]),
        "origin": st.sampled_from(["http://testserver", "https://elsewhere.example", "null"]),
        "content-type": st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
    },
)
steps = st.lists(st.tuples(paths, st.sampled_from(["GET", "GET", "POST", "HEAD"]), sent), min_size=1, max_size=5)


@given(
    middleware=st.one_of(
        st.tuples(st.just(DEFAULT), st.lists(st.sampled_from(OWN + OTHERS), max_size=2, unique=True)),
        st.tuples(st.lists(st.sampled_from(DEFAULT), unique=True), st.lists(st.sampled_from(OWN + OTHERS), unique=True)),
    ).flatmap(lambda both: st.sampled_from([both[0] + both[1], both[1] + both[0], both[0][:3] + both[1] + both[0][3:]])),
    about=chosen,
    steps=steps,
)
@settings(max_examples=150)
async def test_answers_are_those_without_it_and_nothing_waits_on_the_loop(
    middleware: list[str], about: dict[str, Any], steps: list[tuple[str, str, dict[str, str]]]
) -> None:
    if "CSRF_USE_SESSIONS" in about:  # Django's view of errors needs the session, and lets what it raises pass to the server
        middleware = [SESSION, *(name for name in middleware if name != SESSION)]
    with served(
        URLS,
        middleware=middleware,
        **{"SESSION_ENGINE": "django.contrib.sessions.backends.cache", "ALLOWED_HOSTS": [".testserver"], **about},
    ):
        without = await visit(steps, wrapped=False)
        with no_cache_on_the_loop():
            assert await visit(steps, wrapped=True) == without


VISIT = [("/counts/", "POST", {"x-csrftoken": "a" * 32}), ("/reads/", "GET", {}), ("/atells/", "GET", {}), ("/hears/", "GET", {})]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("engine", ["db", "cached_db"])
async def test_a_session_in_the_database_is_kept_as_without_it(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django refuses its ORM on the loop, so that nothing of it can have run there."""
    with served(URLS, middleware=DEFAULT, SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}"):
        changed = await visit([*VISIT, *VISIT], wrapped=True)
        monkeypatch.setattr(asgi, "run_on_loop", lambda handler: None)
        assert changed == await visit([*VISIT, *VISIT], wrapped=True)
    assert [status for status, *_ in changed] == [200] * len(changed)
    threads.reset()


# Where a thread is


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is called on a thread."""
    called: list[str] = []
    original = SyncToAsync.__call__

    async def call(self: SyncToAsync[Any, Any], *args: Any, **kwargs: Any) -> Any:
        called.append(getattr(self.func, "__qualname__", type(self.func).__name__))
        return await original(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", call)
    return called


async def hopped(
    hops: list[str],
    url: str = "/exempt/",
    *,
    method: str = "GET",
    middleware: list[str] = DEFAULT,
    headers: dict[str, str] | None = None,
    wrapped: bool = True,
    **about: Any,
) -> list[str]:
    """Ask for ``url``, and return what ran on a thread besides the view and the signals."""
    with served(URLS, middleware=middleware, **{"SESSION_ENGINE": "django.contrib.sessions.backends.cache", **about}):
        asked = application(wrapped=wrapped)
        hops.clear()
        await connect(url, method=method, headers=headers or {}, application=asked).over()
    return [
        name for name in hops if name not in SIGNALS and name.endswith(("process_request", "process_view", "process_response"))
    ]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_with_djangos_default_middleware_nothing_is_left_on_a_thread_but_the_signals(hops: list[str], method: str) -> None:
    assert await hopped(hops, method=method) == []
    assert hops == SIGNALS
    assert len(await hopped(hops, method=method, wrapped=False)) == 13


async def test_a_sync_view_has_its_thread(hops: list[str]) -> None:
    assert await hopped(hops, "/plain/") == []
    assert sorted(hops) == sorted([*SIGNALS, "plain"])


COOKIE = {"cookie": "csrftoken=" + "a" * 32}
REQUEST, RESPONSE = "SessionMiddleware.process_request", "SessionMiddleware.process_response"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"url": "/counts/"}, [RESPONSE]),
        ({"url": "/acounts/"}, [RESPONSE]),
        ({"url": "/reads/"}, []),
        ({"SESSION_SAVE_EVERY_REQUEST": True}, [RESPONSE]),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}, []),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.cached_db"}, []),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.db"}, []),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.file"}, [REQUEST, RESPONSE]),
        ({"SESSION_ENGINE": "tests.test_loop_middleware"}, [REQUEST, RESPONSE]),
        ({"CACHES": {"default": {"BACKEND": "tests.test_loop_middleware.OwnCache"}}}, [REQUEST]),
        ({"url": "/missing/"}, ["CommonMiddleware.process_response"]),
        ({"PREPEND_WWW": True}, ["CommonMiddleware.process_request"]),
        ({"url": "/aplain/", "method": "POST"}, ["CsrfViewMiddleware.process_view"]),
        (
            {"url": "/aplain/", "method": "POST", "headers": COOKIE | {"x-csrftoken": "a" * 32}},
            ["CsrfViewMiddleware.process_view"],
        ),
        (
            {"CSRF_USE_SESSIONS": True},
            ["CsrfViewMiddleware.process_request", "CsrfViewMiddleware.process_response"],
        ),
        ({"url": "/token/"}, []),
        ({"url": "/tells/"}, ["MessageMiddleware.process_response"]),
        ({"url": "/hears/"}, ["MessageMiddleware.process_response"]),
        (
            {"MESSAGE_STORAGE": "tests.test_loop_middleware.OwnMessages"},
            ["MessageMiddleware.process_request", "MessageMiddleware.process_response"],
        ),
        ({"SIGNING_BACKEND": "tests.test_loop_middleware.OwnSigner"}, ["MessageMiddleware.process_request"]),
        ({"url": "/user/"}, []),
        ({"SECURE_SSL_REDIRECT": True}, []),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
async def test_what_may_wait_has_a_thread(hops: list[str], asked: dict[str, Any], expected: list[str]) -> None:
    assert await hopped(hops, **asked) == expected


class SessionStore(cache.SessionStore):
    """A store that may ask somebody when it is made, and to learn whether it is empty. This module is its engine."""


class OwnCache(LocMemCache):
    """A cache that may connect when it is made."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__("own", params)


class OwnMessages(FallbackStorage):
    """Messages that may be anywhere."""


class OwnSigner(TimestampSigner):
    """A signer that may fetch its key."""


# Whose methods they are


def methods(hopped: list[str], kind: str) -> list[str]:
    return [name for name in hopped if name.startswith(f"{kind}.")]


@pytest.mark.parametrize("place", [0, 3, len(DEFAULT)])
async def test_middleware_of_a_project_keeps_its_thread_and_leaves_djangos_on_the_loop(hops: list[str], place: int) -> None:
    middleware = [*DEFAULT[:place], f"{__name__}.Own", *DEFAULT[place:]]
    assert await hopped(hops, middleware=middleware) == ["Own.process_request", "Own.process_view", "Own.process_response"]


async def test_what_is_derived_from_djangos_keeps_its_thread(hops: list[str]) -> None:
    assert await hopped(hops, middleware=[f"{__name__}.Derived"]) == [
        "SecurityMiddleware.process_request",
        "Derived.process_response",
    ]
    assert await hopped(hops, middleware=[f"{__name__}.Unchanged"]) == ["XFrameOptionsMiddleware.process_response"]


class Proxy:
    """As instrumentation puts them around methods: it looks like the method."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        functools.update_wrapper(self, method)

    def __get__(self, instance: Any, owner: type) -> Any:
        return functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


def around(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same as a function."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call


@pytest.mark.parametrize("patch", [Proxy, around])
@pytest.mark.parametrize("name", ["process_response", "get_xframe_options_value"])
async def test_what_was_patched_keeps_its_thread(hops: list[str], monkeypatch: pytest.MonkeyPatch, patch: Any, name: str) -> None:
    monkeypatch.setattr(XFrameOptionsMiddleware, name, patch(getattr(XFrameOptionsMiddleware, name)))
    await hopped(hops, middleware=[SECURITY])
    assert hops == SIGNALS
    await hopped(hops, middleware=[FRAMES])
    assert len(hops) == len(SIGNALS) + 1


async def test_a_patched_mixin_keeps_every_thread(hops: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MiddlewareMixin, "__call__", around(MiddlewareMixin.__call__))
    assert len(await hopped(hops)) == 13


@pytest.mark.parametrize("own", ["sync_only", "Plain"])
@pytest.mark.parametrize("place", range(len(DEFAULT) + 1))
async def test_behind_sync_middleware_it_runs_on_the_loop_and_before_it_on_the_thread_of_that(
    hops: list[str], own: str, place: int
) -> None:
    """Django runs all that is before it as sync code in one go."""
    middleware = [*DEFAULT[:place], f"{__name__}.{own}", *DEFAULT[place:]]
    assert [name for name in await hopped(hops, middleware=middleware) if not name.endswith("process_view")] == []


def hiding(handler: Any) -> Any:
    """A middleware that calls what is behind it by another name."""

    async def middleware(request: HttpRequest) -> Any:
        return await handler(request)

    return middleware


hiding.async_capable, hiding.sync_capable = True, False  # type: ignore[attr-defined]


async def test_behind_what_hides_it_the_thread_stays(hops: list[str]) -> None:
    assert await hopped(hops, middleware=[SECURITY, f"{__name__}.hiding", FRAMES]) == ["XFrameOptionsMiddleware.process_response"]


async def test_only_the_application_that_is_wrapped_changes(hops: list[str]) -> None:
    with served(URLS, middleware=DEFAULT):
        asgi.wrap(ASGIHandler())
    assert len(await hopped(hops, wrapped=False)) == 13


async def test_the_names_of_djangos_that_it_goes_by() -> None:
    with served(URLS, middleware=DEFAULT):
        handler = ASGIHandler()
    assert [type(middleware).__name__ for middleware in _chain(handler)] == [name.rpartition(".")[2] for name in DEFAULT]
    assert set(DEFAULT) == set(_CASES)
