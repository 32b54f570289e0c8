"""What a router gives to its routes, what ``include()`` hands on, and who has the last word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, reverse
from django.utils.decorators import sync_and_async_middleware, sync_only_middleware

from django_agent_sse import Context, Router, SSEView, Stream
from django_agent_sse.exceptions import RouteError
from tests.records import records_of
from tests.serving import ask_route, served


async def tell(c: Context, stream: Stream) -> None:
    """Tell the steps that were taken before."""
    await stream.write(" ".join(c.request.steps))


def guard(name: str, verdict: Any = True) -> Any:
    """A guard that leaves its name."""

    async def asked(c: Context) -> Any:
        step(c.request, name)
        return verdict

    return asked


def step(request: Any, name: str) -> None:
    request.steps = [*getattr(request, "steps", []), name]


def sync_layer(name: str) -> Any:
    """A sync-only middleware that leaves its name."""

    @sync_only_middleware
    def factory(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        def middleware(request: HttpRequest) -> HttpResponse:
            step(request, name)
            response = get_response(request)
            response.headers[f"X-{name}"] = "sync"
            return response

        return middleware

    return factory


def layer(name: str, answer: HttpResponse | None = None) -> Any:
    """A middleware that leaves its name, or answers itself."""

    @sync_and_async_middleware
    def factory(get_response: Any) -> Any:
        assert iscoroutinefunction(get_response), "async all the way down, where nothing sync-only is above"

        async def middleware(request: HttpRequest) -> Any:
            step(request, name)
            if answer is not None:
                return answer
            response = await get_response(request)
            response.headers[f"X-{name}"] = "async"
            return response

        return middleware

    return factory


async def test_guards_are_asked_router_then_route_then_view_then_authorize() -> None:
    class Told(SSEView):
        guards = (guard("view"),)

        async def authorize(self, c: Context) -> bool:
            step(c.request, "authorize")
            return True

        async def handle(self, c: Context, stream: Stream) -> None:
            await tell(c, stream)

    router = Router(guards=[guard("router")])
    router.sse("", guard("call"), Told, guards=[guard("route")])
    assert (await ask_route(router)).data == ["router call route view authorize"]


async def test_c05_middleware_of_router_and_route_run_in_order_before_the_guards() -> None:
    router = Router(middleware=[layer("router")], guards=[guard("guard")])
    router.sse("", tell, middleware=[layer("one"), layer("two")])
    answer = await ask_route(router)
    assert answer.data == ["router one two guard"]
    assert [answer.headers[f"x-{name}"] for name in ("router", "one", "two")] == ["async"] * 3


async def test_c05_a_sync_middleware_works_and_the_stream_is_still_a_stream() -> None:
    router = Router()
    router.sse("", tell, middleware=[sync_layer("outer"), sync_layer("inner")])
    answer = await ask_route(router)
    assert answer.data == ["outer inner"]
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-outer"] == answer.headers["x-inner"] == "sync"


async def test_c05_middleware_may_answer_instead() -> None:
    router = Router(guards=[guard("never asked", verdict=False)])
    router.sse("", tell, middleware=[layer("outer"), layer("inner", answer=HttpResponse("no", status=418))])
    answer = await ask_route(router)
    assert (answer.status, answer.body, answer.headers["x-outer"]) == (418, b"no", "async")


async def test_c05_a27_what_middleware_sets_on_the_request_is_seen_as_c_var() -> None:
    async def say(c: Context, stream: Stream) -> None:
        await stream.write(c.var.steps)

    router = Router(middleware=[layer("set")])
    router.sse("", say)
    assert (await ask_route(router)).data == ['["set"]']


async def test_c05_middleware_is_found_by_its_dotted_path() -> None:
    router = Router()
    router.sse("", tell, guards=[guard("x")], middleware=["django.middleware.locale.LocaleMiddleware"])
    assert "content-language" in (await ask_route(router)).headers


async def test_middleware_that_cannot_be_imported_lets_nobody_through(caplog: pytest.LogCaptureFixture) -> None:
    router = Router()
    router.sse("", tell, middleware=["no.such.Middleware"])
    assert (await ask_route(router)).status == 500
    error_info = records_of(caplog, "django")[-1].exc_info
    assert error_info is not None
    assert isinstance(error_info[1], RouteError)
    assert "middleware 'no.such.Middleware' cannot be imported" in str(error_info[1])


# Options


async def retry_of(router: Router) -> int:
    """The reconnection time that a stream of the route tells: an option that is seen on the wire."""
    body = (await ask_route(router)).body
    (line,) = (line for line in body.split(b"\n") if line.startswith(b"retry: "))
    return int(line.removeprefix(b"retry: "))


async def one(c: Context, stream: Stream) -> None:
    await stream.write(1)


class Plain(SSEView):
    async def handle(self, c: Context, stream: Stream) -> None:
        await stream.write(1)


class Chosen(Plain):
    retry = 4444


class Heir(Chosen):
    pass


async def test_a_routers_option_is_its_routes_default() -> None:
    router = Router(retry=2222)
    router.sse("", one)
    assert await retry_of(router) == 2222


async def test_a_routes_option_overrides_its_routers() -> None:
    router = Router(retry=2222)
    router.sse("", one, retry=3333)
    assert await retry_of(router) == 3333


@pytest.mark.parametrize(("view", "expected"), [(Plain, 2222), (Chosen, 4444), (Heir, 4444)])
async def test_a_views_attribute_overrides_the_routers_default_also_an_inherited_one(view: Any, expected: int) -> None:
    router = Router(retry=2222)
    router.sse("", view)
    assert await retry_of(router) == expected


@pytest.mark.parametrize("view", [Plain, Chosen, Heir])
async def test_what_is_written_at_the_route_overrides_the_views_attribute_as_in_as_view(view: Any) -> None:
    router = Router(retry=2222)
    router.sse("", view, retry=3333)
    assert await retry_of(router) == 3333


async def test_a_views_methods_hold_on_a_route_that_names_none() -> None:
    class Posted(Plain):
        methods = ("POST",)
        csrf_exempt = True

    router = Router()
    router.sse("", Posted)
    assert (await ask_route(router, method="POST")).data == ["1"]


async def test_on_error_of_the_route_comes_before_the_routers() -> None:
    def hook(name: str) -> Any:
        async def on_error(c: Context, stream: Stream, exception: BaseException) -> None:
            await stream.write(name)

        return on_error

    async def fail(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        raise RuntimeError("deliberate")

    router = Router(on_error=hook("router"))
    router.sse("a/", fail)
    router.sse("b/", fail, on_error=hook("route"))
    assert (await ask_route(router, "/a/", broken_off=True)).data == ["begun", "router"]
    assert (await ask_route(router, "/b/", broken_off=True)).data == ["begun", "route"]


async def test_on_error_may_be_a_method_of_the_view() -> None:
    class Failing(SSEView):
        farewell = "sorry"

        async def handle(self, c: Context, stream: Stream) -> None:
            await stream.write("begun")
            raise RuntimeError("deliberate")

        async def on_error(self, c: Context, stream: Stream, exception: BaseException) -> None:  # type: ignore[override]
            await stream.write(self.farewell)

    router = Router()
    router.sse("a/", Failing)
    routes = [path("", include(router.urls)), path("b/", Failing.as_view())]
    assert (await ask_route(routes, "/b/", broken_off=True)).data == ["begun", "sorry"]
    assert (await ask_route(routes, "/a/", broken_off=True)).data == ["begun", "sorry"]


# include()


async def test_included_routes_stand_under_the_prefix_inside_guards_middleware_and_options() -> None:
    inner = Router(guards=[guard("inner")], middleware=[layer("in")], retry=1111)
    inner.sse("logs/", tell, guards=[guard("route")])
    outer = Router(guards=[guard("outer")], middleware=[layer("out")], retry=2222, heartbeat=3)
    outer.include(inner, prefix="/builds/")
    answer = await ask_route(outer, "/builds/logs/")
    assert answer.data == ["out in outer inner route"]
    assert b"retry: 1111\n" in answer.body


async def test_an_outer_guard_closes_every_included_route() -> None:
    innermost, inner, outer = Router(), Router(), Router(guards=[guard("shut", verdict=False)])
    outer.include(inner, "a/")
    inner.include(innermost, "b/")
    innermost.sse("c/", tell)  # added after it was included
    assert (await ask_route(outer, "/a/b/c/")).status == 403
    assert (await ask_route(innermost, "/c/")).status == 500, "served on its own it has only its own guards: none, and no steps"


async def test_one_router_may_be_included_twice_and_keeps_its_own_defaults() -> None:
    inner, outer = Router(), Router()
    inner.sse("x/", tell)
    guarded = Router(guards=[guard("guarded")])
    guarded.include(inner)
    outer.include(guarded, "a/")
    outer.include(inner, "b/")
    assert (await ask_route(outer, "/a/x/")).data == ["guarded"]
    assert (await ask_route(outer, "/b/x/")).status == 500, "nobody left a step"


def test_names_and_namespaces_nest() -> None:
    inner, outer = Router(app_name="inner"), Router(app_name="outer")
    inner.sse("logs/<int:n>/", tell, name="logs")
    outer.include(inner, "in/")
    with served([path("api/", include(outer.urls))]):
        assert reverse("outer:inner:logs", kwargs={"n": 3}) == "/api/in/logs/3/"


@pytest.mark.parametrize("other", [[], "app.urls", None], ids=repr)
def test_only_a_router_can_be_included(other: Any) -> None:
    with pytest.raises(RouteError, match="Router"):
        Router().include(other)


def test_a_router_cannot_be_included_in_itself() -> None:
    inner, outer = Router(), Router()
    outer.include(inner)
    with pytest.raises(RouteError, match="itself"):
        outer.include(outer)
    with pytest.raises(RouteError, match="itself"):
        inner.include(outer)
