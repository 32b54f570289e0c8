"""``router.sse()``: as a decorator and as a call, names, methods, paths, and what it refuses while the project is loaded."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from django.urls import NoReverseMatch, include, path, reverse

from django_agent_sse import Context, Router, SSEView, Stream
from django_agent_sse.exceptions import RouteError
from tests.serving import ask_route, served


async def hello(c: Context, stream: Stream) -> None:
    await stream.write("hello")


async def test_as_a_decorator_it_returns_the_handler_unchanged() -> None:
    router = Router()
    decorated = router.sse("")(hello)
    assert decorated is hello
    assert (await ask_route(router)).data == ["hello"]


async def test_c05_as_a_call_it_takes_the_path_and_the_handler() -> None:
    router = Router()
    assert router.sse("", hello) is hello
    assert (await ask_route(router)).data == ["hello"]


async def test_c05_as_a_call_it_takes_any_number_of_guards_before_the_handler() -> None:
    asked = []

    async def first(c: Context) -> bool:
        asked.append("first")
        return True

    async def second(c: Context) -> Any:
        asked.append("second")
        return bool(c.header("X-API-Key")) or c.json({"error": "API key required"}, status=401)

    async def third(c: Context) -> bool:
        asked.append("third")
        return True

    router = Router()
    router.sse("", first, second, hello, guards=[third])
    refused = await ask_route(router)
    assert (refused.status, refused.json()) == (401, {"error": "API key required"})
    assert asked == ["first", "second"]
    allowed = await ask_route(router, headers={"X-API-Key": "any"})
    assert (allowed.status, allowed.data) == (200, ["hello"])
    assert asked == ["first", "second", "first", "second", "third"]


async def test_one_handler_may_stand_on_two_routes() -> None:
    router = Router()
    router.sse("a/", router.sse("b/", hello))
    assert (await ask_route(router, "/a/")).data == ["hello"]
    assert (await ask_route(router, "/b/")).data == ["hello"]


# Names


def test_a_route_is_reversed_by_its_name_and_its_values() -> None:
    router = Router()
    router.sse("builds/<int:build_id>/logs/", hello, name="build-logs")
    with served(router):
        assert reverse("build-logs", kwargs={"build_id": 7}) == "/builds/7/logs/"


def test_a_route_without_a_name_has_its_handlers() -> None:
    class Watch(SSEView):
        async def handle(self, c: Context, stream: Stream) -> None: ...

    class Callable:
        async def __call__(self, c: Context, stream: Stream) -> None: ...

    router = Router()
    router.sse("a/", hello)
    router.sse("b/", Watch)
    router.sse("c/", Callable())
    with served(router):
        assert [reverse(name) for name in ("hello", "Watch", "Callable")] == ["/a/", "/b/", "/c/"]


def test_a_routers_app_name_is_a_namespace() -> None:
    router = Router(app_name="builds")
    router.sse("logs/", hello, name="logs")
    with served([path("api/", include(router.urls))]):
        assert reverse("builds:logs") == "/api/logs/"
        with pytest.raises(NoReverseMatch):
            reverse("logs")


def test_an_app_name_may_be_given_an_instance_namespace() -> None:
    router = Router("builds")
    router.sse("logs/", hello, name="logs")
    with served([path("a/", include(router.urls, namespace="one")), path("b/", include(router.urls, namespace="two"))]):
        assert [reverse("one:logs"), reverse("two:logs")] == ["/a/logs/", "/b/logs/"]


# Methods


async def test_a_route_answers_the_methods_it_is_given() -> None:
    router = Router()
    router.sse("", hello, methods=["post", "PUT"])
    assert (await ask_route(router, method="PUT")).data == ["hello"]
    refused = await ask_route(router, method="GET")
    assert (refused.status, refused.headers["allow"]) == (405, "POST, PUT, OPTIONS")


@pytest.mark.parametrize("methods", ["POST", [], ()])
def test_methods_that_are_no_list_of_some_are_refused(methods: Any) -> None:
    with pytest.raises(RouteError, match=r"methods must be a list such as \['GET', 'POST'\]"):
        Router().sse("", hello, methods=methods)


# Paths


async def test_a_leading_slash_is_dropped() -> None:
    router = Router()
    router.sse("/builds/", hello)
    assert (await ask_route(router, "/builds/")).data == ["hello"]


@pytest.mark.parametrize("route", ["builds/:id", "/builds/:id/logs", ":id"])
def test_a_colon_parameter_is_refused_with_a_hint(route: str) -> None:
    with pytest.raises(RouteError, match=r"Django writes <id> or <int:id>"):
        Router().sse(route, hello)


def test_a_colon_parameter_in_a_prefix_is_refused_too() -> None:
    with pytest.raises(RouteError, match=r"<team> or <int:team>"):
        Router().include(Router(), prefix="teams/:team/")


async def test_a_colon_that_begins_no_parameter_is_an_ordinary_character() -> None:
    router = Router()
    router.sse("builds/<path:name>/urn:x/", hello)
    assert (await ask_route(router, "/builds/a/b/urn:x/")).data == ["hello"]


@pytest.mark.parametrize("route", [42, None, b"x/"])
def test_a_path_that_is_no_text_is_refused(route: Any) -> None:
    with pytest.raises(RouteError, match="path is text"):
        Router().sse(route, hello)


def test_a_forgotten_path_is_refused_at_once() -> None:
    """``@router.sse`` without parentheses would else swallow the handler and never serve it."""
    with pytest.raises(RouteError, match="path is text"):
        Router().sse(hello)  # type: ignore[arg-type]


@pytest.mark.parametrize("handler", [42, None, "views.logs"])
def test_a_handler_that_cannot_be_called_is_refused(handler: Any) -> None:
    with pytest.raises(RouteError, match="is not a handler"):
        Router().sse("x/", handler)


# Options


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("heartbeet", "did you mean 'heartbeat'"),
        ("max_durations", "did you mean 'max_duration'"),
        ("xyzzy", "there are heartbeat"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_the_nearest(name: str, hint: str) -> None:
    given: Any = {name: 1}
    with pytest.raises(RouteError, match=hint):
        Router(**given)
    with pytest.raises(RouteError, match=hint):
        Router().sse("", hello, **given)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"heartbeat": "15"}, "heartbeat must be"),
        ({"heartbeat": -1}, "heartbeat must be"),
        ({"heartbeat": True}, "heartbeat must be"),
        ({"heartbeat": float("nan")}, "heartbeat must be"),
        ({"retry": -1}, "retry must be"),
        ({"retry": 1.5}, "retry must be"),
        ({"max_duration": "1h"}, "max_duration must be"),
        ({"on_disconnect": "stop"}, "on_disconnect must be 'cancel' or 'continue'"),
        ({"buffer_bytes": 0}, "buffer_bytes must be"),
        ({"buffer_events": None}, "buffer_events must be"),
        ({"send_timeout": -2}, "send_timeout must be"),
        ({"commit_after": None}, "commit_after must be"),
        ({"close_grace": "5"}, "close_grace must be"),
        ({"cache": "no-such-cache"}, "cache"),
        ({"control_events": "yes"}, "control_events must be"),
        ({"final_on_error": 1}, "final_on_error must be"),
        ({"slim": "no"}, "slim must be"),
        ({"on_error": "log it"}, "on_error"),
    ],
    ids=repr,
)
def test_an_option_value_that_cannot_work_is_refused_where_the_route_is_written(given: Any, hint: str) -> None:
    with pytest.raises(RouteError, match=hint):
        Router().sse("", hello, **given)


def test_a_routers_option_value_is_refused_with_the_first_route_at_the_latest() -> None:
    with pytest.raises(RouteError, match="heartbeat must be"):
        Router(heartbeat="15").sse("", hello)


@pytest.mark.parametrize("name", ["guards", "middleware"])
@pytest.mark.parametrize("value", [hello, "django.middleware.gzip.GZipMiddleware"], ids=["a function", "a text"])
def test_guards_and_middleware_that_are_no_list_are_refused(name: str, value: Any) -> None:
    given: Any = {name: value}
    with pytest.raises(RouteError, match="given as a list"):
        Router().sse("", hello, **given)
    with pytest.raises(RouteError, match="given as a list"):
        Router(**given).sse("", hello)


async def test_a_partial_of_a_handler_is_a_handler() -> None:
    async def greet(c: Context, stream: Stream, *, greeting: str) -> None:
        await stream.write(greeting)

    router = Router()
    router.sse("", functools.partial(greet, greeting="good morning"), name="greet")
    assert (await ask_route(router)).data == ["good morning"]
