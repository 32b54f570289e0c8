"""``Context``: what guards and handlers know of a request."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import BadHeaderError
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.functional import SimpleLazyObject

from django_agent_sse.exceptions import AgentSSEError, BodyNotJSON, BodyTooLarge, HeadersSent, StreamError
from django_agent_sse.streams.context import Context
from tests.records import records_of
from tests.starting import threads_begun

AUTH_BACKEND = "django.contrib.auth.backends.ModelBackend"


def context_of(request: HttpRequest | None = None, **params: object) -> Context:
    return Context(request or AsyncRequestFactory().get("/"), params, route="builds/<int:build_id>/logs/", cache="default")


def posted(body: bytes, **meta: Any) -> Context:
    return context_of(AsyncRequestFactory().post("/", data=body, content_type="application/json", **meta))


# What the request says


def test_c01_url_values_query_and_headers() -> None:
    request = AsyncRequestFactory().get("/builds/42/?verbose=1&tag=a&tag=b", headers={"X-API-Key": "secret"})
    c = context_of(request, build_id=42)
    assert c.params["build_id"] == 42
    assert c.query["verbose"] == "1"
    assert c.query.getlist("tag") == ["a", "b"]
    assert c.header("X-API-Key") == c.header("x-api-key") == "secret"
    assert c.header("X-Other") is None
    assert c.header("X-Other", "none") == "none"
    assert c.request is request


@pytest.mark.parametrize("factory", [RequestFactory, AsyncRequestFactory])
async def test_c01_json_body(factory: type[Any]) -> None:
    request = factory().post("/", data={"name": "größe", "n": [1, None]}, content_type="application/json")
    c = context_of(request)
    assert await c.json_body() == {"name": "größe", "n": [1, None]}
    assert await c.json_body() == {"name": "größe", "n": [1, None]}
    assert json.loads(request.body) == {"name": "größe", "n": [1, None]}
    assert request.POST == {}


async def test_c01_json_body_after_something_has_read_the_body() -> None:
    c = posted(b"[1]")
    assert c.request.body == b"[1]"
    assert await c.json_body() == [1]
    with pytest.raises(BodyTooLarge, match="over 2 bytes"):
        await c.json_body(limit=2)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"[" * 100_000, b"x"])
async def test_a_body_that_is_no_json_is_a_400(body: bytes) -> None:
    with pytest.raises(BodyNotJSON) as refused:
        await posted(body).json_body()
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"1e999", b'{"a": [-1e999]}', b"1e" + b"9" * 60_000])
async def test_a_number_that_python_has_as_an_infinity_is_a_400(body: bytes) -> None:
    with pytest.raises(BodyNotJSON, match="is too large a number") as refused:
        await posted(body).json_body()
    assert len(str(refused.value)) < 200


HALVES = [r'"\ud800"', r'{"\uDFFF": 1}', r'"\ude00\ud83d"', r'"\ud83d\\\ude00"', r'"\ud83d\ud83d\ude00\ude00"', '"\ud800"']


@pytest.mark.parametrize("text", HALVES)
async def test_half_a_character_is_a_400(text: str) -> None:
    """Else what a handler makes of it could not be sent, and anybody could make it fail."""
    with pytest.raises(BodyNotJSON, match="surrogate|utf-8"):
        await posted(text.encode("utf-8", "surrogatepass")).json_body()


async def test_pairs_and_what_looks_like_one_are_text() -> None:
    body = rb'["\ud83d\ude00\uD83D\uDE00", "\\ud800", "1.7e308", 1.7e308]'
    assert await posted(body).json_body() == ["\U0001f600\U0001f600", r"\ud800", "1.7e308", 1.7e308]


async def test_a_body_over_the_limit_is_a_413_whether_it_says_so_or_not() -> None:
    for meta in ({}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "3"}, {"CONTENT_LENGTH": "10,10"}):
        c = posted(b'"12345678"')
        c.request.META.update(meta)
        with pytest.raises(BodyTooLarge, match="over 9 bytes") as refused:
            await c.json_body(limit=9)
        assert refused.value.status == 413
    assert await posted(b'"12345678"').json_body(limit=10) == "12345678"


async def test_the_limit_is_djangos_unless_given(settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 5
    with pytest.raises(BodyTooLarge, match="over 5 bytes"):
        await posted(b"[1, 2]").json_body()
    assert await posted(b"[1, 2]").json_body(limit=100) == [1, 2]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    assert await posted(b"[1, 2]").json_body() == [1, 2]


def test_the_last_event_id_is_shown_without_the_mark_of_an_end() -> None:
    c = context_of(AsyncRequestFactory().get("/", headers={"Last-Event-ID": "sse.end~e1.17"}))
    assert (c.last_event_id, c.ended) == ("e1.17", True)
    assert (context_of().last_event_id, context_of().ended) == (None, False)


# Values, store, logger


def test_c05_what_a_guard_or_a_middleware_set_is_seen() -> None:
    c = context_of()
    c.request.tenant = "acme"
    assert c.var.tenant == "acme"
    c.var.tenant = "guard"
    assert c.var.tenant == "guard"
    assert c.request.tenant == "acme"


def test_a_value_that_nobody_set_says_how_to_set_it() -> None:
    c = context_of()
    with pytest.raises(AttributeError, match=r"c\.var\.build is not set: set it in a guard \(c\.var\.build = …\)"):
        _ = c.var.build
    assert getattr(c.var, "build", None) is None
    assert not hasattr(c.var, "_stream")


def test_c02_c03_the_store_and_the_logger_are_the_same_on_var() -> None:
    c = context_of()
    assert c.var.kv is c.kv
    assert c.var.logger is c.logger
    assert c.kv.alias == "default"
    for name in ("kv", "logger"):
        with pytest.raises(AttributeError, match=f"c.var.{name} belongs to the stream"):
            setattr(c.var, name, 1)


def test_c03_the_logger_names_the_route(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="django_agent_sse.route")
    context_of().logger.child(build=42).info("started")
    record = vars(records_of(caplog, "django_agent_sse.route")[0])
    assert (record["name"], record["route"], record["build"]) == ("django_agent_sse.route", "builds/<int:build_id>/logs/", 42)


# Answers


def test_c04_json_and_text_answers() -> None:
    c = context_of()
    answer = c.json({"error": "API key required", "at": dt.date(2026, 1, 2), "ü": None}, status=401)
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/json")
    assert answer.content.decode() == '{"error":"API key required","at":"2026-01-02","ü":null}'
    assert c.json([], 202, {"X-A": "1"})["X-A"] == "1"
    text = c.text("nö", 418, {"Retry-After": "5"})
    assert (text.status_code, text["Content-Type"], text["Retry-After"]) == (418, "text/plain; charset=utf-8", "5")
    assert text.content.decode() == "nö"


def test_c04_headers_and_cookies_set_before_the_start_are_on_every_answer() -> None:
    c = context_of()
    c.set_header("X-Build", "1")
    c.set_header("x-build", "42")
    c.set_header("Cache-Control", "private, no-store")
    c.set_cookie("seen", "yes", max_age=60, httponly=True, samesite="Strict")
    stream = StreamingHttpResponse(iter([]), headers={"Cache-Control": "no-cache"})
    c.apply_headers(stream)
    for response in (c.json({}), c.text(""), stream):
        assert response["X-Build"] == "42"
        assert response["Cache-Control"] == "private, no-store"
        assert response.cookies["seen"].OutputString() == c.json({}).cookies["seen"].OutputString()
        assert response.cookies["seen"]["httponly"] is True
    assert stream["Content-Type"].startswith("text/html")
    assert c.json({}, headers={"X-Build": "43"})["X-Build"] == "43"


def test_an_answer_may_have_a_content_type_of_its_own() -> None:
    assert (
        context_of().json({}, headers={"Content-Type": "application/problem+json"})["Content-Type"] == "application/problem+json"
    )


def test_without_headers_a_response_is_left_alone() -> None:
    response = HttpResponse()
    before = dict(response.headers)
    context_of().apply_headers(response)
    assert dict(response.headers) == before


@pytest.mark.parametrize(
    "name",
    [
        "Content-Type",
        "content-encoding",
        "Content-Length",
        "Connection",
        "Transfer-Encoding",
        "Incremental",
        "X-Accel-Buffering",
        "Keep-Alive",
    ],
)
def test_headers_of_the_stream_and_the_server_are_refused(name: str) -> None:
    with pytest.raises(StreamError, match=f"{name} is set by the stream or the server"):
        context_of().set_header(name, "x")


@pytest.mark.parametrize(("name", "value"), [("X-A", "1\r\nX-B: 2"), ("X-A\n", "1")])
def test_a_line_break_in_a_header_is_refused_at_once(name: str, value: str) -> None:
    with pytest.raises(BadHeaderError):
        context_of().set_header(name, value)


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X-Ä", "X\0", "(X)"])
def test_what_is_no_name_of_a_header_is_refused_at_once(name: str) -> None:
    with pytest.raises(StreamError, match="is not the name of a header"):
        context_of().set_header(name, "x")
    with pytest.raises(StreamError, match="is not the name of a header"):
        context_of().json({}, headers={name: "x"})


@pytest.mark.parametrize("control", [chr(code) for code in (0, 1, 8, 11, 12, 27, 31, 127)])
def test_a_control_character_in_a_header_is_refused_at_once(control: str) -> None:
    """A server that is sent one cuts the connection, without an answer."""
    with pytest.raises(StreamError, match="holds no control characters"):
        context_of().set_header("X-A", f"a{control}b")
    with pytest.raises(StreamError, match="holds no control characters"):
        context_of().text("", headers={"X-A": control})
    context_of().set_header("X-A", "a\tb")


@pytest.mark.parametrize("option", ["path", "domain"])
@pytest.mark.parametrize("end", ["\r\nSet-Cookie: b=1", "; Secure", "\0"])
def test_an_option_of_a_cookie_begins_no_other_one_and_no_header(option: str, end: str) -> None:
    with pytest.raises(StreamError, match=f"the cookie's {option} holds"):
        context_of().set_cookie("a", "1", **{option: f"x{end}"})


def test_c04_after_the_start_headers_and_cookies_raise() -> None:
    c = context_of()
    c.started = True
    with pytest.raises(HeadersSent, match=r"c\.set_header\(\) is too late"):
        c.set_header("X-A", "1")
    with pytest.raises(HeadersSent, match=r"c\.set_cookie\(\) is too late"):
        c.set_cookie("a", "1")


# The user


async def no_hops(self: SyncToAsync[Any, Any], *args: Any, **kwargs: Any) -> None:
    raise AssertionError(f"a thread hop for {self.func}")


@pytest.fixture
def no_hop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail on any hop to a thread, and on any thread made."""
    monkeypatch.setattr(SyncToAsync, "__call__", no_hops)
    with threads_begun() as begun:
        yield
    assert begun == []


def through_middleware(request: HttpRequest) -> HttpRequest:
    """Apply the session and authentication middleware as Django does before a view."""

    def get_response(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    SessionMiddleware(get_response).process_request(request)
    AuthenticationMiddleware(get_response).process_request(request)
    return request


def signed_in_request(user: Any, backend: str = AUTH_BACKEND) -> HttpRequest:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = backend
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    request = AsyncRequestFactory().get("/")
    request.COOKIES["sessionid"] = session.session_key
    return through_middleware(request)


@pytest.mark.django_db(transaction=True)
async def test_the_user_of_a_session_is_loaded_once_and_is_an_ordinary_object(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await get_user_model().objects.acreate(username="ada")
    request = await sync_to_async(signed_in_request)(user)
    c = context_of(request)
    await c.load_user()
    assert type(c.user) is get_user_model()
    assert c.user == user
    assert request.user is c.user
    assert c.var.user is c.user
    assert c.user_pk == user.pk
    monkeypatch.setattr(SyncToAsync, "__call__", no_hops)
    await c.load_user()
    assert c.user.username == request.user.get_username() == "ada"


@pytest.mark.django_db(transaction=True)
async def test_a_session_that_does_not_verify_is_anonymous() -> None:
    user = await get_user_model().objects.acreate(username="ada")
    request = await sync_to_async(signed_in_request)(user)
    user.set_password("changed")
    await user.asave()
    c = context_of(request)
    await c.load_user()
    assert not c.user.is_authenticated


class Banning(ModelBackend):
    """As those of projects are that let somebody in no longer, in the method that all pages ask."""

    def get_user(self, user_id: Any) -> Any:
        return None


@pytest.mark.django_db(transaction=True)
async def test_whom_a_back_end_of_the_project_does_not_know_any_more_is_anonymous(settings: Any) -> None:
    user = await get_user_model().objects.acreate(username="ada")
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Banning"]
    request = await sync_to_async(signed_in_request)(user, f"{__name__}.Banning")
    assert await request.auser() == user
    c = context_of(request)
    await c.load_user()
    assert type(c.user) is AnonymousUser
    assert await c.request.auser() is c.request.user is c.user


@pytest.mark.django_db(transaction=True)
async def test_what_asynchronous_middleware_has_put_on_the_user_is_there() -> None:
    request = await sync_to_async(signed_in_request)(await get_user_model().objects.acreate(username="ada"))
    (await request.auser()).is_verified = True
    c = context_of(request)
    await c.load_user()
    assert c.user.is_verified
    assert c.user is request.user


async def test_a_request_without_a_session_cookie_costs_no_thread(no_hop: None) -> None:
    c = context_of(through_middleware(AsyncRequestFactory().get("/")))
    await c.load_user()
    assert isinstance(c.user, AnonymousUser)
    assert type(c.user) is AnonymousUser
    assert c.user_pk is None


async def test_without_authentication_middleware_the_user_is_anonymous(no_hop: None) -> None:
    c = context_of()
    await c.load_user()
    assert type(c.user) is AnonymousUser
    assert not hasattr(c.request, "user")


async def test_without_django_contrib_auth_there_is_no_user(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.auth"]
    c = context_of()
    await c.load_user()
    assert c.user is None
    assert c.user_pk is None


async def test_a_plain_object_on_the_request_is_taken_as_it_is(no_hop: None) -> None:
    c = context_of()
    c.request.user = user = SimpleNamespace(is_authenticated=True, pk=7)
    await c.load_user()
    assert c.user is user
    assert c.user_pk == 7


async def test_a_lazy_user_that_is_evaluated_already_is_unwrapped_without_a_thread(no_hop: None) -> None:
    c = context_of()
    user = SimpleNamespace(is_authenticated=True)
    lazy: Any = SimpleLazyObject(lambda: user)
    assert lazy.is_authenticated
    c.request.user = lazy
    await c.load_user()
    assert c.user is user


@pytest.mark.django_db(transaction=True)
async def test_the_lazy_user_of_a_token_middleware_is_evaluated_in_a_thread_and_not_taken_from_the_session() -> None:
    token_user = await get_user_model().objects.acreate(username="token")
    session_user = await get_user_model().objects.acreate(username="session")
    request = await sync_to_async(signed_in_request)(session_user)
    request.user = SimpleLazyObject(lambda: get_user_model().objects.get(pk=token_user.pk))
    c = context_of(request)
    await c.load_user()
    assert type(c.user) is get_user_model()
    assert c.user == token_user
    assert request.user is c.user


async def test_a_user_that_a_guard_sets_is_seen() -> None:
    c = context_of()
    await c.load_user()
    c.request.user = user = SimpleNamespace(is_authenticated=True, pk=7)
    assert c.user is user


def test_a_user_that_is_not_loaded_says_so() -> None:
    with pytest.raises(AgentSSEError, match=r"await c\.load_user\(\) first"):
        _ = context_of().user


# Weight, and letting go


def test_a_context_is_light_until_it_is_used() -> None:
    c = context_of()
    assert sys.getsizeof(c) < 200
    assert not hasattr(c, "__dict__")


async def test_a_released_context_keeps_what_streams_need_and_says_what_is_gone() -> None:
    c = context_of(AsyncRequestFactory().get("/", headers={"Last-Event-ID": "sse.end~9"}), build_id=42)
    c.request.user = SimpleNamespace(is_authenticated=True, pk=7)
    await c.load_user()
    c.var.tenant = "acme"
    c.release()
    c.release()
    assert (c.params["build_id"], c.user_pk, c.last_event_id, c.ended, c.var.tenant) == (42, 7, "9", True, "acme")
    assert c.var.kv is c.kv
    for read in (lambda: c.request, lambda: c.query, lambda: c.header("Accept"), lambda: c.user):
        with pytest.raises(AgentSSEError, match=r"is gone; this stream is slim .* take slim=True off the route"):
            read()
    with pytest.raises(AttributeError, match=r"slim and has let its request go"):
        _ = c.var.user


async def test_a_context_released_before_its_user_was_loaded_has_no_user() -> None:
    c = context_of()
    c.release()
    assert c.user_pk is None
    with pytest.raises(AgentSSEError, match="is gone"):
        await c.json_body()


def test_the_repr_names_the_route() -> None:
    assert repr(context_of()) == "<Context of 'builds/<int:build_id>/logs/'>"
