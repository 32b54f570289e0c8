"""``build_chain``: Django's middleware around one route, as Django puts it around all."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth.middleware import AuthenticationMiddleware, LoginRequiredMiddleware
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied
from django.core.signals import got_request_exception
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory
from django.urls import ResolverMatch
from django.utils.decorators import async_only_middleware, sync_and_async_middleware, sync_only_middleware
from django.utils.deprecation import MiddlewareMixin

from django_agent_sse.exceptions import RouteError
from django_agent_sse.middleware import build_chain
from django_agent_sse.views import SSEView
from tests.ids import plain

Trace = list[Any]


def request_with(trace: Trace) -> Any:
    request = AsyncRequestFactory().get("/")
    request.trace = trace
    return request


async def view(request: Any) -> HttpResponse:
    request.trace.append("view")
    return HttpResponse("ok")


async def ask(*middleware: Any, get_response: Any = view) -> tuple[Any, Trace]:
    request = request_with([])
    response = await build_chain(get_response, middleware)(request)
    return response, request.trace


@sync_only_middleware
def sync_function(get_response: Callable[[Any], HttpResponse]) -> Callable[[Any], HttpResponse]:
    def middleware(request: Any) -> HttpResponse:
        request.trace.append("sync in")
        response = get_response(request)
        request.trace.append("sync out")
        return response

    return middleware


@async_only_middleware
def async_function(get_response: Any) -> Any:
    async def middleware(request: Any) -> HttpResponse:
        request.trace.append("async in")
        response: HttpResponse = await get_response(request)
        request.trace.append("async out")
        return response

    return middleware


@sync_and_async_middleware
def either_function(get_response: Any) -> Any:
    if iscoroutinefunction(get_response):

        async def middleware(request: Any) -> HttpResponse:
            request.trace.append("either, async")
            response: HttpResponse = await get_response(request)
            return response
    else:

        def middleware(request: Any) -> HttpResponse:
            request.trace.append("either, sync")
            response: HttpResponse = get_response(request)
            return response

    return middleware


class Mixin(MiddlewareMixin):
    def process_request(self, request: Any) -> None:
        request.trace.append("mixin request")

    def process_response(self, request: Any, response: HttpResponse) -> HttpResponse:
        request.trace.append("mixin response")
        return response


class SyncClass:
    """As the first page of Django's documentation on middleware has it: sync only."""

    def __init__(self, get_response: Callable[[Any], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        request.trace.append(type(self).__name__)
        return self.get_response(request)


class AsyncClass:
    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> HttpResponse:
        request.trace.append(type(self).__name__)
        response: HttpResponse = await self.get_response(request)
        return response


# The chain


async def test_c05_middleware_runs_in_order_around_the_view() -> None:
    _, trace = await ask(async_function, sync_function)
    assert trace == ["async in", "sync in", "view", "sync out", "async out"]
    _, trace = await ask(sync_function, async_function)
    assert trace == ["sync in", "async in", "view", "async out", "sync out"]


@pytest.mark.parametrize(
    ("middleware", "seen"),
    [
        (sync_function, ["sync in", "view", "sync out"]),
        (async_function, ["async in", "view", "async out"]),
        (either_function, ["either, async", "view"]),
        (Mixin, ["mixin request", "view", "mixin response"]),
        (SyncClass, ["SyncClass", "view"]),
        (AsyncClass, ["AsyncClass", "view"]),
        (f"{__name__}.Mixin", ["mixin request", "view", "mixin response"]),
        (f"{__name__}.sync_function", ["sync in", "view", "sync out"]),
    ],
    ids=plain,
)
async def test_c05_every_kind_of_middleware(middleware: Any, seen: Trace) -> None:
    response, trace = await ask(middleware)
    assert (response.content, trace) == (b"ok", seen)


async def test_a_long_mixed_chain_keeps_its_order() -> None:
    _, trace = await ask(Mixin, sync_function, AsyncClass, SyncClass, either_function, async_function)
    assert trace == [
        *("mixin request", "sync in", "AsyncClass", "SyncClass"),
        *("either, async", "async in", "view", "async out", "sync out", "mixin response"),
    ]


async def test_middleware_that_can_do_both_does_as_the_layer_below() -> None:
    _, trace = await ask(either_function, async_function)
    assert trace[0] == "either, async"
    _, trace = await ask(either_function, sync_function)
    assert trace[0] == "either, sync"


async def test_without_middleware_the_view_is_left_alone() -> None:
    assert build_chain(view, []) is view
    assert build_chain(view, ()) is view


async def test_c05_middleware_may_answer_instead_of_the_view() -> None:
    class Closed(SyncClass):
        def __call__(self, request: Any) -> HttpResponse:
            return HttpResponse("closed", status=503)

    response, trace = await ask(async_function, Closed, sync_function)
    assert (response.status_code, trace) == (503, ["async in", "async out"])


async def test_a_sync_middleware_runs_in_a_thread_and_the_view_on_the_loop() -> None:
    async def on_the_loop(request: Any) -> HttpResponse:
        request.trace.append((threading.current_thread(), asyncio.get_running_loop()))
        return HttpResponse()

    class Here(SyncClass):
        def __call__(self, request: Any) -> HttpResponse:
            request.trace.append(threading.current_thread())
            return self.get_response(request)

    _, trace = await ask(Here, get_response=on_the_loop)
    assert trace[0] is not threading.current_thread()
    assert trace[1] == (threading.current_thread(), asyncio.get_running_loop())


async def test_one_chain_serves_many_requests_at_once() -> None:
    chain = build_chain(view, [sync_function, async_function])
    requests = [request_with([]) for _ in range(20)]
    await asyncio.gather(*(chain(request) for request in requests))
    assert {tuple(request.trace) for request in requests} == {("sync in", "async in", "view", "async out", "sync out")}


async def test_a_stream_passes_through_unread() -> None:
    async def events() -> Any:
        yield b"data: 1\n\n"

    async def streaming(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(events(), content_type="text/event-stream")

    response, _ = await ask(Mixin, sync_function, get_response=streaming)
    assert [chunk async for chunk in response] == [b"data: 1\n\n"]


async def test_a_cancelled_request_cancels_the_view() -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def waiting(request: Any) -> HttpResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    task = asyncio.create_task(ask(async_function, Mixin, get_response=waiting))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()


# Hooks


class Hooks(SyncClass):
    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        request.trace.append(("process_view", type(self).__name__, view, args, kwargs))
        return None

    def process_exception(self, request: Any, error: Exception) -> HttpResponse | None:
        request.trace.append(("process_exception", type(self).__name__, str(error)))
        return None


class Inner(Hooks):
    pass


class AsyncHooks(AsyncClass):
    async def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        request.trace.append("async process_view")

    async def process_exception(self, request: Any, error: Exception) -> HttpResponse:
        return HttpResponse(f"mended: {error}")


async def broken(request: Any) -> HttpResponse:
    raise ValueError("broken")


async def test_process_view_sees_what_the_url_resolved_to_outermost_first() -> None:
    request = request_with([])
    request.resolver_match = ResolverMatch(view, (), {"build_id": 42})
    await build_chain(view, [Hooks, AsyncHooks, Inner])(request)
    assert request.trace == [
        *("Hooks", "AsyncHooks", "Inner"),
        ("process_view", "Hooks", view, (), {"build_id": 42}),
        "async process_view",
        ("process_view", "Inner", view, (), {"build_id": 42}),
        "view",
    ]


async def test_process_view_may_answer_instead_of_the_view() -> None:
    class Closed(SyncClass):
        def process_view(self, *args: Any) -> HttpResponse:
            return HttpResponse("closed", status=503)

    response, trace = await ask(sync_function, Closed, Inner)
    assert response.status_code == 503
    assert trace == ["sync in", "Closed", "Inner", "sync out"]


async def test_login_required_middleware_works_on_one_route() -> None:
    from django.contrib.sessions.middleware import SessionMiddleware

    response, trace = await ask(SessionMiddleware, AuthenticationMiddleware, LoginRequiredMiddleware)
    assert (response.status_code, trace) == (302, [])


async def test_process_exception_is_asked_innermost_first_and_may_answer() -> None:
    response, trace = await ask(AsyncHooks, Hooks, Inner, get_response=broken)
    assert response.content == b"mended: broken"
    assert [entry[1] for entry in trace if entry[0] == "process_exception"] == ["Inner", "Hooks"]


@pytest.mark.parametrize(("error", "status"), [(ValueError("x"), 500), (Http404(), 404), (PermissionDenied(), 403)])
async def test_an_error_that_nobody_answers_becomes_djangos_response_below_the_middleware(error: Exception, status: int) -> None:
    signals: list[Any] = []

    def on_error(**kwargs: Any) -> None:
        signals.append(kwargs["sender"])

    async def raising(request: Any) -> HttpResponse:
        raise error

    got_request_exception.connect(on_error)
    try:
        response, trace = await ask(sync_function, Hooks, get_response=raising)
    finally:
        got_request_exception.disconnect(on_error)
    assert response.status_code == status
    assert trace[-1] == "sync out"
    assert len(signals) == (status == 500)


async def test_an_error_in_a_middleware_is_a_response_to_the_one_above() -> None:
    class Broken(SyncClass):
        def __call__(self, request: Any) -> HttpResponse:
            raise ValueError("broken")

    response, trace = await ask(async_function, Broken)
    assert (response.status_code, trace) == (500, ["async in", "async out"])


async def test_process_template_response_may_change_the_template_before_it_is_rendered() -> None:
    class Titled(SyncClass):
        def process_template_response(self, request: Any, response: TemplateResponse) -> TemplateResponse:
            response.context_data = {**(response.context_data or {}), "title": "Builds"}
            return response

    class Counted(AsyncClass):
        async def process_template_response(self, request: Any, response: TemplateResponse) -> TemplateResponse:
            response.context_data = {**(response.context_data or {}), "count": 3}
            return response

    template = engines["django"].from_string("{{ title }}: {{ count }}")

    async def templated(request: HttpRequest) -> TemplateResponse:
        return TemplateResponse(request, template)

    response, _ = await ask(Titled, Counted, get_response=templated)
    assert response.is_rendered
    assert response.content == b"Builds: 3"


async def test_an_error_while_rendering_goes_to_process_exception() -> None:
    template = engines["django"].from_string("{% include missing %}")

    async def templated(request: HttpRequest) -> TemplateResponse:
        return TemplateResponse(request, template)

    response, _ = await ask(AsyncHooks, get_response=templated)
    assert response.content.startswith(b"mended")


async def test_process_template_response_must_return_the_response() -> None:
    class Forgetful(SyncClass):
        def process_template_response(self, request: Any, response: TemplateResponse) -> None:
            pass

    raised: list[str] = []

    async def templated(request: HttpRequest) -> TemplateResponse:
        return TemplateResponse(request, engines["django"].from_string("x"))

    def on_error(**kwargs: Any) -> None:
        raised.append(str(sys.exc_info()[1]))

    got_request_exception.connect(on_error)
    try:
        response, _ = await ask(Forgetful, get_response=templated)
    finally:
        got_request_exception.disconnect(on_error)
    assert response.status_code == 500
    assert raised == ["a process_template_response of the route's middleware returned None; return the response"]


# Wrong use


async def test_middleware_that_is_not_used_is_left_out() -> None:
    class Unused(SyncClass):
        def __init__(self, get_response: Any) -> None:
            raise MiddlewareNotUsed("off in this project")

    response, trace = await ask(Unused, sync_function, Unused)
    assert (response.status_code, trace) == (200, ["sync in", "view", "sync out"])
    response, trace = await ask(Unused)
    assert (response.status_code, trace) == (200, ["view"])


async def async_guard(c: Any) -> bool:
    return True


class Nothing(SyncClass):
    sync_capable = async_capable = False


def factory_of_nothing(get_response: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("nowhere.Middleware", "'nowhere.Middleware' cannot be imported"),
        ("django.middleware.gzip.Nope", "cannot be imported"),
        (5, "5 is not a middleware class, factory or dotted path"),
        (async_guard, r"async_guard is an async function; a guard goes into guards=\[…\]"),
        (Nothing, "one of them must be True"),
        (factory_of_nothing, "factory_of_nothing made None instead"),
    ],
    ids=plain,
)
def test_what_is_no_middleware_is_refused_with_a_hint(wrong: Any, hint: str) -> None:
    with pytest.raises(RouteError, match=hint):
        build_chain(view, [wrong])


@pytest.mark.parametrize("wrong", ["django.middleware.gzip.GZipMiddleware", Mixin])
def test_middleware_is_given_as_a_list(wrong: Any) -> None:
    class Fine(SSEView):
        async def handle(self, c: Any, stream: Any) -> None: ...

    with pytest.raises(RouteError, match=r"given as a list: middleware=\["):
        Fine.as_view(middleware=wrong)


async def test_a_middleware_that_returns_nothing_is_named() -> None:
    class Forgetful(SyncClass):
        def __call__(self, request: Any) -> Any:
            self.get_response(request)

    with pytest.raises(RouteError, match=r"Forgetful\) answered with None; each must return the response"):
        await ask(Forgetful)
