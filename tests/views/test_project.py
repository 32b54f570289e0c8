"""A route among a project's settings: ``ATOMIC_REQUESTS``, ``LoginRequiredMiddleware``, WSGI, Django's test clients."""

from __future__ import annotations

import asyncio
import copy
import gc
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator, sync_and_async_middleware

from django_agent_sse import Context, Router, SSEView, Stream
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.streams.response import SSEResponse
from tests.inprocess import eventually
from tests.records import records_of
from tests.serving import ask, served
from tests.views import urlconf

SIGN_IN = f"{__name__}.sign_in"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@sync_and_async_middleware
def sign_in(get_response: Any) -> Any:
    """Whoever sends ``X-User`` is signed in, without a database."""

    def enter(request: Any) -> Any:
        name = request.headers.get("X-User")
        request.user = User(pk=1, username=name) if name else AnonymousUser()
        return request

    if asyncio.iscoroutinefunction(get_response):

        async def middleware(request: Any) -> Any:
            return await get_response(enter(request))

    else:

        def middleware(request: Any) -> Any:
            return get_response(enter(request))

    return middleware


class StricterLogin(LoginRequiredMiddleware):
    """A project's own."""


async def hello(c: Context, stream: Stream) -> None:
    await stream.write(f"hello {c.user}")


@login_not_required
async def public(c: Context, stream: Stream) -> None:
    await stream.write("public")


class Hello(SSEView):
    async def handle(self, c: Context, stream: Stream) -> None:
        await hello(c, stream)


@method_decorator(login_not_required, name="dispatch")
class Public(SSEView):
    async def handle(self, c: Context, stream: Stream) -> None:
        await public(c, stream)


router = Router()
router.sse("hello/", hello)
router.sse("public/", public)
router.sse("public-view/", Public, name="public-view")
router.sse("view/", Hello, name="view")


async def test_a_stream_is_exempt_from_atomic_requests_on_every_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connections.settings, "replica", copy.deepcopy(connections.settings["default"]))

    async def ordinary(request: Any) -> HttpResponse:
        return HttpResponse("never")

    with served([*router.urls, path("own/", Hello.as_view()), path("ordinary/", ordinary)]):
        for url in ("/hello/", "/view/", "/own/"):
            assert (await ask(url)).data == ["hello AnonymousUser"]
        assert (await ask("/ordinary/")).status == 500, "Django refuses async views: the setting is in force"


# LoginRequiredMiddleware


@pytest.mark.parametrize("middleware", [LOGIN_REQUIRED, f"{__name__}.StricterLogin"])
@pytest.mark.parametrize("url", ["/hello/", "/view/"])
async def test_where_every_view_wants_a_login_a_stream_answers_401_itself(middleware: str, url: str) -> None:
    with served(router, middleware=[SIGN_IN, middleware]):
        answer = await ask(url)
        assert answer.status == 401
        assert "www-authenticate" in answer.headers
        assert "location" not in answer.headers
        assert (await ask(url, headers={"X-User": "ada"})).data == ["hello ada"]
        assert (await ask(url, method="HEAD")).status == 401


@pytest.mark.parametrize("url", ["/public/", "/public-view/"])
async def test_login_not_required_is_heeded_on_a_handler_and_on_a_view(url: str) -> None:
    with served(router, middleware=[SIGN_IN, LOGIN_REQUIRED]):
        assert (await ask(url)).data == ["public"]


async def test_login_not_required_is_heeded_above_the_route_too() -> None:
    late = Router()

    @login_not_required
    @late.sse("")
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("public")

    with served(late, middleware=[SIGN_IN, LOGIN_REQUIRED]):
        assert (await ask("/")).data == ["public"]


async def test_login_not_required_is_heeded_on_the_code_of_runs_below_and_above_the_route() -> None:
    runs = Router()

    @runs.run("closed/")
    async def closed(c: Context, run: AsyncRun) -> None:
        await run.write("closed")

    @runs.run("below/")
    @login_not_required
    async def below(c: Context, run: AsyncRun) -> None:
        await run.write("public")

    @login_not_required
    @runs.run("above/")
    async def above(c: Context, run: AsyncRun) -> None:
        await run.write("public")

    with served(runs, middleware=[SIGN_IN, LOGIN_REQUIRED]):
        statuses = {url: (await ask(url, method="POST", body=b"{}")).status for url in ("/closed/", "/below/", "/above/")}
        assert statuses == {"/closed/": 401, "/below/": 200, "/above/": 200}


async def test_without_that_middleware_a_stream_is_open_to_all() -> None:
    with served(router, middleware=[SIGN_IN]):
        assert (await ask("/hello/")).data == ["hello AnonymousUser"]


async def test_that_middleware_on_one_route_does_not_fail_open() -> None:
    guarded = Router(middleware=[LOGIN_REQUIRED])
    guarded.sse("", hello)
    with served(guarded, middleware=[SIGN_IN]):
        answer = await ask("/")
        assert answer.status in (401, 403)
        assert (await ask("/", headers={"X-User": "ada"})).data == ["hello ada"]


# WSGI


ACCEPTS = ("text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "text/event-stream")


def test_wsgi_gets_a_500_and_the_log_the_reason_that_names_a_command_with_the_projects_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = []

    async def guard(c: Context) -> bool:
        asked.append("guard")
        return True

    guarded = Router(guards=[guard])
    guarded.sse("", hello)
    with served(guarded, ASGI_APPLICATION="shop.asgi.application"), caplog.at_level("WARNING"):
        page, program, stream = (Client().get("/", headers={"Accept": accept}) for accept in ACCEPTS)
    assert {page.status_code, program.status_code, stream.status_code} == {500}
    assert page["Content-Type"].startswith("text/html")
    for response in (page, program, stream):
        assert "uvicorn shop.asgi:application" in response.text
        assert "daphne" in response.text
    for response in (program, stream):
        assert response["Content-Type"] == "application/json"
        assert response.json()["error"]["type"] == "internal_server_error"
        assert response.json()["error"]["message"].startswith("this project is served by WSGI, and streams need ASGI")
    assert asked == []
    own = records_of(caplog)
    assert [(record.levelname, record.name) for record in own] == [("ERROR", "django_agent_sse.stream")] * 3
    said = own[0].getMessage()
    assert said.startswith("/ cannot be streamed: this project is served by WSGI, and streams need ASGI")
    assert "`uvicorn shop.asgi:application`" in said


def test_without_asgi_application_the_page_guesses_it_from_the_urlconf(settings: Any) -> None:
    settings.ASGI_APPLICATION = None
    settings.ROOT_URLCONF = "tests.views.urlconf"
    assert "uvicorn tests.views.asgi:application" in Client().get("/").text


def test_a_project_whose_urlconf_is_in_no_package_has_its_application_beside_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urls_of_a_flat_project", urlconf)
    settings.ASGI_APPLICATION = None
    settings.ROOT_URLCONF = "urls_of_a_flat_project"
    assert "uvicorn asgi:application" in Client().get("/").text


@pytest.mark.parametrize(
    "templates", [[], [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]], ids=["none", "own only"]
)
def test_the_page_does_not_hang_on_the_projects_templates(templates: Any) -> None:
    with served(router, TEMPLATES=templates):
        assert "uvicorn" in Client().get("/hello/").text


@pytest.mark.parametrize("method", ["head", "options", "post"])
def test_wsgi_gets_it_for_every_method(method: str) -> None:
    with served(router):
        assert getattr(Client(), method)("/hello/").status_code == 500


# Django's test clients


async def test_the_async_client_reads_a_stream_to_its_end() -> None:
    with served(router):
        response = await AsyncClient().get("/hello/", headers={"Accept": "text/event-stream"})
        assert response.status_code == 200
        assert response.streaming
        assert response.is_async
        assert isinstance(response, SSEResponse)
        body = b"".join([part async for part in response])
    assert body.startswith(b"retry: 3000\ndata: hello AnonymousUser\n\nevent: sse.end\n")


async def test_the_async_client_gets_refusals_as_they_are() -> None:
    with served(router, middleware=[SIGN_IN, LOGIN_REQUIRED]):
        response = await AsyncClient().get("/hello/")
        assert (response.status_code, response.json()) == (
            401,
            {"error": {"type": "unauthorized", "message": "authentication required"}},
        )


@pytest.mark.parametrize("way", ["close", "drop", "stop reading"])
async def test_a_stream_that_the_async_client_does_not_read_to_the_end_is_over(way: str) -> None:
    over = []

    async def endless(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: over.append(stream.ending))
        await stream.write("first")
        await stream.wait_closed()

    routes = Router()
    routes.sse("", endless)
    with served(routes):
        response = await AsyncClient().get("/")
        if way == "close":
            response.close()
        elif way == "stop reading":
            parts = aiter(response)
            assert await anext(parts) == b"retry: 3000\ndata: first\n\n"
            await parts.aclose()
            del parts
        del response
        gc.collect()
        await eventually("the stream is over", lambda: over)
    assert over == ["client_disconnect"]


async def test_what_a_middleware_wraps_around_the_content_is_streamed() -> None:
    @sync_and_async_middleware
    def shouting(get_response: Any) -> Any:
        async def middleware(request: Any) -> Any:
            response = await get_response(request)

            async def louder(content: Any) -> Any:
                async for part in content:
                    yield part.upper()

            response.streaming_content = louder(response.streaming_content)
            return response

        return middleware

    routes = Router(middleware=[shouting])
    routes.sse("", hello)
    with served(routes):
        assert (await ask("/")).body == b"RETRY: 3000\nDATA: HELLO ANONYMOUSUSER\n\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("method", "renewed"), [("HEAD", False), ("GET", False), ("POST", True)])
async def test_what_a_page_asks_for_by_itself_is_no_activity(method: str, renewed: bool) -> None:
    """The end of an idle session stays where it is, for as long as a page is open."""
    router = Router()
    router.sse("look/", hello, name="look", methods=["GET", "POST"], csrf_exempt=True)
    store = SessionStore()
    store["x"] = 1
    await store.asave()
    await Session.objects.aupdate(expire_date=datetime(2126, 1, 1, tzinfo=UTC))
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={store.session_key}"}
    with served(router, middleware=[SESSIONS], SESSION_SAVE_EVERY_REQUEST=True):
        assert (await ask("/look/", method=method, headers=cookie)).status == 200
        assert ((await Session.objects.aget()).expire_date.year != 2126) is renewed


@pytest.mark.django_db(transaction=True)
async def test_what_a_request_for_a_stream_changes_in_the_session_is_saved() -> None:
    async def counts(c: Context) -> bool:
        await c.request.session.aset("seen", 2)
        return True

    router = Router()
    router.sse("look/", hello, name="look", guards=[counts])
    store = SessionStore()
    store["x"] = 1
    await store.asave()
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={store.session_key}"}
    with served(router, middleware=[SESSIONS], SESSION_SAVE_EVERY_REQUEST=True):
        assert (await ask("/look/", headers=cookie)).status == 200
    assert (await Session.objects.aget()).get_decoded() == {"x": 1, "seen": 2}
