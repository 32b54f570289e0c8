"""Errors before the first byte: JSON of one shape for programs, the project's pages for whoever asks for HTML."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.core.exceptions import BadRequest, MiddlewareNotUsed, PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, override_settings
from django.urls import include, path

from django_agent_sse import Context, Router, Stream
from django_agent_sse.exceptions import TooManyThreads
from django_agent_sse.streams.error_responses import MESSAGES, TYPES
from tests.serving import Answer, ask, ask_route, connect, served

HERE = __name__
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROGRAMS = ["text/event-stream", "application/json", "*/*", "application/json, text/event-stream", "", "image/png"]
ERRORS = [(Http404, 404), (PermissionDenied, 403), (SuspiciousOperation, 400), (BadRequest, 400), (RuntimeError, 500)]

asked: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    asked.clear()


@pytest.fixture
def signals() -> Iterator[list[Any]]:
    """The requests that ``got_request_exception`` was sent for."""
    seen: list[Any] = []

    def note(request: Any, **about: Any) -> None:
        seen.append(request)

    got_request_exception.connect(note)
    yield seen
    got_request_exception.disconnect(note)


class Watching:
    """Middleware of the project that is told of exceptions."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        asked.append(f"{type(self).__name__}: {error}")
        return None


class Outer(Watching):
    """The one outside."""


class AsyncWatching(Watching):
    """The same, for an async chain."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        from asgiref.sync import markcoroutinefunction

        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        return await self.get_response(request)


class Mending(Watching):
    """It has an answer."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        super().process_exception(request, error)
        return HttpResponse("mended", status=418)


class Unused(Watching):
    """It is not wanted."""

    def __init__(self, get_response: Any) -> None:
        raise MiddlewareNotUsed


def raising(error: Exception, where: str = "handler") -> Router:
    def raise_at(here: str) -> None:
        if where == here:
            raise error

    async def guard(c: Context) -> bool:
        raise_at("guard")
        return True

    def factory(c: Context) -> Any:
        raise_at("factory")

        async def handler(stream: Stream) -> None:
            raise_at("handler")

        return handler

    router = Router()
    router.sse("", factory, guards=[guard])
    return router


def is_refusal(answer: Answer, status: int, message: str | None = None, **more: Any) -> None:
    """It is JSON of the one shape, and holds nothing else."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    told = answer.json()
    found = told["error"].pop("message")
    assert found == (message or found)
    assert found
    assert told == {"error": {"type": TYPES[status], **more}}


# What is raised


@pytest.mark.parametrize(("kind", "status"), ERRORS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("where", ["guard", "factory", "handler"])
@pytest.mark.parametrize("accept", PROGRAMS)
async def test_a_program_reads_an_exception_as_json_that_tells_no_secret(
    where: str, kind: type[Exception], status: int, accept: str
) -> None:
    answer = await ask_route(raising(kind("a secret"), where), headers={"Accept": accept})
    is_refusal(answer, status, MESSAGES[status])
    assert b"secret" not in answer.body


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "application/json, TEXT/HTML;q=0.1", "application/xhtml+xml"])
@pytest.mark.parametrize(("kind", "status"), ERRORS, ids=lambda value: getattr(value, "__name__", value))
async def test_who_asks_for_html_gets_djangos_page(kind: type[Exception], status: int, accept: str) -> None:
    answer = await ask_route(raising(kind("x")), headers={"Accept": accept})
    assert answer.status == status
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(("kind", "status"), ERRORS, ids=lambda value: getattr(value, "__name__", value))
async def test_debug_tells_the_type_and_the_words(kind: type[Exception], status: int) -> None:
    with served(raising(kind("a \x1b[31m secret")), DEBUG=True):
        is_refusal(await ask("/"), status, f"{kind.__name__}: a \\x1b[31m secret")
        page = await ask("/", headers={"Accept": BROWSER})
    assert page.headers["content-type"].startswith("text/html")


# Django's machinery goes on


@pytest.mark.parametrize("accept", ["text/event-stream", BROWSER], ids=["program", "browser"])
@pytest.mark.parametrize("kind", [RuntimeError, Http404])
async def test_the_signal_and_one_log_line_are_as_for_any_view(
    kind: type[Exception], accept: str, signals: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await ask_route(raising(kind("deliberate")), headers={"Accept": accept})
    fatal = kind is RuntimeError
    assert len(signals) == fatal
    (record,) = [one for one in caplog.records if one.name == "django.request"]
    assert record.levelname == ("ERROR" if fatal else "WARNING")
    assert (record.exc_info is not None) == fatal


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("accept", ["text/event-stream", BROWSER], ids=["program", "browser"])
async def test_process_exception_of_the_project_is_asked_once_innermost_first(accept: str, debug: bool) -> None:
    chain = [f"{HERE}.Outer", f"{HERE}.Unused", f"{HERE}.AsyncWatching", f"{HERE}.Watching"]
    with served(raising(RuntimeError("x")), middleware=chain, DEBUG=debug):
        answer = await ask("/", headers={"Accept": accept})
    assert (answer.status, asked) == (500, ["Watching: x", "AsyncWatching: x", "Outer: x"])


@pytest.mark.parametrize("accept", ["text/event-stream", BROWSER], ids=["program", "browser"])
async def test_process_exception_may_answer(accept: str, signals: list[Any]) -> None:
    with served(raising(RuntimeError("x")), middleware=[f"{HERE}.Outer", f"{HERE}.Mending", f"{HERE}.Watching"]):
        answer = await ask("/", headers={"Accept": accept})
    assert (answer.status, answer.body) == (418, b"mended")
    assert (asked, signals) == (["Watching: x", "Mending: x"], [])


@pytest.mark.parametrize("own", [[f"{HERE}.Watching"], [Watching]])
async def test_a_routes_middleware_sees_json_and_the_projects_is_asked_after_it(own: list[Any]) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        raise RuntimeError("x")

    router = Router()
    router.sse("", handler, middleware=own)
    with served(router, middleware=[f"{HERE}.Outer"]):
        is_refusal(await ask("/"), 500)
        assert asked == ["Watching: x", "Outer: x"]
        page = await ask("/", headers={"Accept": BROWSER})
    assert page.headers["content-type"].startswith("text/html")


async def test_a_middleware_of_a_route_that_fails_is_json_too() -> None:
    def broken(get_response: Any) -> Any:
        def middleware(request: HttpRequest) -> Any:
            raise RuntimeError("x")

        return middleware

    router = raising(RuntimeError("never"))
    outer = Router(middleware=[broken])
    outer.include(router)
    is_refusal(await ask_route(outer), 500)


@pytest.mark.parametrize("accept", ["text/event-stream", BROWSER], ids=["program", "browser"])
async def test_djangos_test_client_raises_what_the_view_raised_unless_told_not_to(accept: str) -> None:
    with served(raising(RuntimeError("deliberate"))):
        with pytest.raises(RuntimeError, match="deliberate"):
            await AsyncClient().get("/", headers={"Accept": accept})
        answer = await AsyncClient(raise_request_exception=False).get("/", headers={"Accept": accept})
        assert answer.status_code == 500
    with served(raising(Http404("x"))):
        assert (await AsyncClient().get("/", headers={"Accept": accept})).status_code == 404


async def test_who_wants_exceptions_to_propagate_gets_them() -> None:
    with served(raising(RuntimeError("deliberate")), DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(RuntimeError):
        await connect("/").over()
    gc.collect()


# The project's own handlers


def page_404(request: HttpRequest, exception: Exception) -> HttpResponse:
    asked.append("page")
    return HttpResponse("<h1>Gone</h1>", status=404, headers={"X-Page": "mine"})


def json_500(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": "sorry"}, status=500)


@pytest.fixture
def handlers() -> Iterator[None]:
    urlconf = ModuleType("urlconf")
    lost, failed = raising(Http404("x")), raising(RuntimeError("x"))
    vars(urlconf).update(
        urlpatterns=[path("404/", include(lost.urls)), path("500/", include(failed.urls))],
        handler404=page_404,
        handler500=json_500,
    )
    with override_settings(ROOT_URLCONF=urlconf, MIDDLEWARE=[]):
        yield


@pytest.mark.usefixtures("handlers")
async def test_a_handler_of_the_project_keeps_its_headers_and_its_page_is_for_browsers() -> None:
    answer = await ask("/404/")
    is_refusal(answer, 404)
    page = await ask("/404/", headers={"Accept": BROWSER})
    assert page.body == b"<h1>Gone</h1>"
    assert answer.headers["x-page"] == page.headers["x-page"] == "mine"


@pytest.mark.usefixtures("handlers")
async def test_a_handler_that_answers_json_itself_is_left_alone() -> None:
    assert (await ask("/500/")).json() == {"detail": "sorry"}


# What the package refuses itself


async def test_every_refusal_has_the_one_shape() -> None:
    async def no(c: Context) -> bool:
        return False

    async def reads(c: Context, stream: Stream) -> None:
        await stream.write(await c.json_body(limit=4))

    async def late(c: Context, stream: Stream) -> None:
        raise TooManyThreads("all threads are busy")

    async def follows(c: Context, stream: Stream) -> None:
        await stream.follow("t")

    router = Router()
    router.sse("no/", reads, guards=[no])
    router.sse("body/", reads, methods=["POST"])
    router.sse("busy/", late)
    router.sse("topic/", follows)
    with served(router):
        is_refusal(await ask("/no/"), 403, "forbidden")
        is_refusal(await ask("/no/", headers={"Accept": BROWSER}), 403, "forbidden")
        is_refusal(await ask("/body/", method="POST", body=b"{"), 400)
        is_refusal(await ask("/body/", method="POST", body=b"[1,2,3]"), 413)
        refused = await ask("/body/", method="GET")
        is_refusal(refused, 405, "GET is not one of this route's methods: POST, OPTIONS")
        assert refused.headers["allow"] == "POST, OPTIONS"
        busy = await ask("/busy/")
        is_refusal(busy, 503, "all threads are busy")
        assert int(busy.headers["retry-after"]) > 0
        is_refusal(await ask("/topic/", headers={"Last-Event-ID": "abcdefgh.9"}), 410, reason="epoch")
