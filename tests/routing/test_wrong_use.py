"""Wrong use instructs: at import where it can be known, else at the first request, and no request gets through."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth import decorators

from django_agent_sse import Context, Router, SSEView, Stream, api_key, staff_required
from django_agent_sse.checks.project import wrong_routes
from django_agent_sse.exceptions import RouteError
from tests.ids import plain
from tests.records import records_of
from tests.serving import ask_route, served

ran: list[str] = []


async def fine(c: Context, stream: Stream) -> None:
    ran.append("handler")
    await stream.write("fine")


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


async def complaint(caplog: pytest.LogCaptureFixture, handler: Any, route: str = "", url: str = "/") -> str:
    """What a route says of its handler: at import, or else with the first request, whose client is told nothing of it."""
    router = Router()
    try:
        router.sse(route, handler)
    except RouteError as error:
        return str(error)
    answer = await ask_route(router, url)
    assert answer.status == 500
    assert ran == []
    error_info = records_of(caplog, "django")[-1].exc_info
    assert error_info is not None
    assert isinstance(error_info[1], RouteError)
    assert str(error_info[1]).encode() not in answer.body
    return str(error_info[1])


# At import


def sync_with_stream(c: Context, stream: Stream) -> None: ...


async def nothing() -> None: ...


async def generator_with_stream(c: Context, stream: Stream) -> AsyncIterator[str]:
    yield ""


async def stream_last(c: Context, build_id: int, stream: Stream) -> None: ...


async def misspelt(c: Context, stream: Stream, bild_id: int) -> None: ...


async def misspelt_by_name(c: Context, stream: Stream, *, bild_id: int) -> None: ...


def factory_misspelt_by_name(c: Context, *, bild_id: int) -> Any: ...


class SyncView(SSEView):
    def handle(self, c: Context, stream: Stream, build_id: int) -> None: ...


class BareView(SSEView):
    async def handle(self) -> None: ...


class MisspeltView(SSEView):
    async def handle(self, c: Context, stream: Stream, bild_id: int) -> None: ...


class SyncObject:
    def __call__(self, c: Context, stream: Stream) -> None: ...


@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        (sync_with_stream, r"sync_with_stream is a plain function that takes a stream.*write `async def`"),
        (SyncObject(), r"SyncObject.*write `async def`"),
        (SyncView, r"handle.*write `async def`"),
        (nothing, r"nothing takes no arguments; a handler is a factory"),
        (BareView, r"handle takes no arguments; a handler is"),
        (generator_with_stream, r"generator.*needs no stream"),
        (stream_last, r"stands second, after the context"),
        (misspelt, r"bild_id.*captures build_id"),
        (misspelt_by_name, r"bild_id.*captures build_id"),
        (factory_misspelt_by_name, r"bild_id.*captures build_id"),
        (MisspeltView, r"bild_id.*captures build_id"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_handler_that_does_not_fit_is_refused(handler: Any, hint: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where an ``include()`` around the route might still capture a name, the first request says it."""
    assert re.search(hint, await complaint(caplog, handler, "<int:build_id>/", "/7/"))


@pytest.mark.parametrize("handler", [sync_with_stream, nothing, generator_with_stream, SyncView, BareView, SyncObject()])
def test_what_no_url_could_mend_is_refused_at_import(handler: Any) -> None:
    with pytest.raises(RouteError):
        Router().sse("", handler)


@pytest.mark.parametrize("view", [SyncView, BareView, SSEView])
def test_as_view_refuses_likewise(view: type[SSEView]) -> None:
    with pytest.raises(RouteError, match=r"handler"):
        view.as_view()


def test_an_attribute_that_a_view_does_not_have_is_refused_by_name() -> None:
    class Fine(SSEView):
        async def handle(self, c: Context, stream: Stream) -> None: ...

    with pytest.raises(TypeError, match="heartbeet"):
        Fine.as_view(heartbeet=1)
    with pytest.raises(RouteError, match="heartbeat must be"):
        Fine.as_view(heartbeat="often")


@pytest.mark.parametrize("methods", ["GET", b"GET", {"GET": 1}, 5, [5], [""], []], ids=plain)
def test_methods_are_given_as_a_list(methods: Any) -> None:
    with pytest.raises(RouteError, match="methods must be a list"):
        Router().sse("", fine, methods=methods)


@pytest.mark.parametrize("what", ["guards", "middleware"])
@pytest.mark.parametrize("given", ["x", b"x", {"a": 1}, None, 5, staff_required], ids=plain)
def test_guards_and_middleware_are_given_as_lists(what: str, given: Any) -> None:
    for refused in (lambda: Router(**{what: given}), lambda: Router().sse("", fine, **{what: given})):
        with pytest.raises(RouteError, match=f"{what} must be given as a list"):
            refused()


@pytest.mark.parametrize("keys", [None, 5, [None], b"key", [], "", " "], ids=plain)
def test_keys_that_are_none(keys: Any) -> None:
    with pytest.raises(RouteError, match="api_key"):
        api_key(keys)


def test_routes_of_topics_without_a_name_have_one_each() -> None:
    router = Router()
    for path, topics in (("a/<int:id>/", ["builds.{id}"]), ("b/", ["news"]), ("c/", ["news", "more"]), ("d/<slug:x>/", ["{x}"])):
        router.topic(path, *topics)
    router.topic("e/", "news", name="own")
    router.log("f/", "lines")
    router.log("g/", "lines")
    assert [pattern.name for pattern in router.urls] == [
        *("builds-id", "news", "news-2", "x", "own"),
        *("log", "log-range", "log-raw", "log-2", "log-2-range", "log-2-raw"),
    ]


def test_a_list_of_topics_is_no_topic() -> None:
    with pytest.raises(RouteError, match=r"follow\(\) takes names of topics, not list: write follow\(\*names\)"):
        Router().topic("", ["a", "b"])  # type: ignore[arg-type]


def test_e004_names_a_route_as_it_was_written() -> None:
    router = Router()
    router.topic("builds/", "builds.{id}")
    router.log("log/", "lines.{id}")
    with served(router):
        messages = [message.msg for message in wrong_routes()]
    assert len(messages) == 4
    assert messages[0] == (
        "the route builds/ cannot be served: router.topic('builds.{id}') takes id, but the URL captures nothing; each {field} of "
        "a topic's name is something that the route's path captures, as <int:id>"
    )
    assert all("router.log('lines.{id}') takes id" in message for message in messages[1:])


# At the first request, failing closed


async def two_unknown(c: Context, stream: Stream, build_id: int) -> None: ...


def sync_by_another_name(c: Context, out: Stream) -> None:
    ran.append("handler")


async def test_two_parameters_that_nothing_captures(caplog: pytest.LogCaptureFixture) -> None:
    assert "two_unknown takes stream, build_id, but the URL captures nothing" in await complaint(caplog, two_unknown)


async def test_a_sync_handler_whose_stream_has_another_name(caplog: pytest.LogCaptureFixture) -> None:
    assert re.search(
        r"sync_by_another_name is a plain function.*write `async def`", await complaint(caplog, sync_by_another_name)
    )


def returns_none(c: Context) -> None: ...


async def async_returns_none(c: Context) -> None: ...


def returns_text(c: Context) -> str:
    return "hello"


def returns_a_plain_function(c: Context) -> Any:
    def handler(stream: Stream) -> None: ...

    return handler


@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        (returns_none, r"returns_none returned None, and nothing that takes a stream; a handler is"),
        (async_returns_none, r"async_returns_none returned None.*a handler is"),
        (returns_text, r"returns_text returned 'hello'.*a handler is"),
        (returns_a_plain_function, r"returns_a_plain_function returned is a plain function; write `async def handler\(stream\)`"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_factory_that_returns_no_handler(caplog: pytest.LogCaptureFixture, handler: Any, hint: str) -> None:
    assert re.search(hint, await complaint(caplog, handler))


async def test_a_view_decorator_of_django_around_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    assert "guard" in await complaint(caplog, decorators.login_required(fine))
