"""What is no guard is refused where the route is written; a guard that goes wrong later lets nobody through."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth import decorators
from django.urls import path

from django_agent_sse import Context, Router, SSEView, Stream, api_key, permission_required
from django_agent_sse.exceptions import GuardError, RouteError
from tests.records import records_of
from tests.serving import Routes, ask_route

ran: list[str] = []


async def fine(c: Context, stream: Stream) -> None:
    ran.append("handler")
    await stream.write("fine")


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


async def failure(caplog: pytest.LogCaptureFixture, routes: Routes) -> BaseException:
    """What a request fails with: the handler has not run, and the client is told nothing of it."""
    answer = await ask_route(routes)
    assert answer.status == 500
    assert ran == []
    error_info = records_of(caplog, "django")[-1].exc_info
    assert error_info is not None
    assert error_info[1] is not None
    assert str(error_info[1]).encode() not in answer.body
    return error_info[1]


async def guard(c: Context) -> bool:
    return True


def sync_guard(c: Context) -> bool:
    return True


async def guard_without_context() -> bool:
    return True


class GuardClass:
    async def __call__(self, c: Context) -> bool:
        return True


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (decorators.login_required, r"login_required is a view decorator of Django.*django_agent_sse\.guards"),
        (decorators.permission_required, r"view decorator of Django"),
        (sync_guard, r"sync_guard is not async; write async def sync_guard\(c\)"),
        (guard_without_context, r"called with one argument, the context c"),
        (GuardClass, r"GuardClass is a class.*an instance"),
        (permission_required, r"makes a guard: call it"),
        (api_key, r"makes a guard: call it"),
        (42, r"cannot be called"),
        ([guard], r"cannot be called"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_a_guard_is_refused_where_the_route_is_written(wrong: Any, hint: str) -> None:
    with pytest.raises(RouteError, match=hint):
        Router().sse("", wrong, fine)
    with pytest.raises(RouteError, match=hint):
        Router().sse("", fine, guards=[wrong])
    with pytest.raises(RouteError, match=hint):
        Router(guards=[wrong]).sse("", fine)
    with pytest.raises(RouteError, match=hint):
        type("Guarded", (SSEView,), {"handle": staticmethod(fine), "guards": [wrong]}).as_view()


def test_a_router_that_is_included_under_a_wrong_guard_is_refused_with_the_urlconf() -> None:
    inner, outer = Router(), Router(guards=[sync_guard])
    inner.sse("", fine)
    outer.include(inner)
    with pytest.raises(RouteError, match="sync_guard is not async"):
        _ = outer.urls


def test_handler_and_guard_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(RouteError, match="one argument, the context c"):
        Router().sse("", fine, guard)


# At the first request, failing closed


async def forgets_to_return(c: Context) -> None: ...


async def returns_a_key(c: Context) -> str:
    return "key"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (forgets_to_return, r"forgets_to_return returned None.*return True to let the request through"),
        (returns_a_key, r"returns_a_key returned str; return True, False or a response"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_guard_that_returns_something_else_refuses(caplog: pytest.LogCaptureFixture, wrong: Any, hint: str) -> None:
    router = Router()
    router.sse("", wrong, fine)
    error = await failure(caplog, router)
    assert isinstance(error, GuardError)
    assert re.search(hint, str(error))


async def test_a_guard_that_raises_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(c: Context) -> bool:
        raise KeyError("deliberate")

    router = Router()
    router.sse("", broken, fine)
    assert isinstance(await failure(caplog, router), KeyError)


async def test_authorize_without_a_return_refuses(caplog: pytest.LogCaptureFixture) -> None:
    class Forgetful(SSEView):
        async def authorize(self, c: Context) -> bool:  # type: ignore[empty-body]
            ...

        async def handle(self, c: Context, stream: Stream) -> None:
            ran.append("handler")

    error = await failure(caplog, [path("", Forgetful.as_view())])
    assert isinstance(error, GuardError)
    assert "authorize returned None" in str(error)


def test_a_sync_authorize_is_refused() -> None:
    class Sync(SSEView):
        def authorize(self, c: Context) -> bool:  # type: ignore[override]
            return True

        async def handle(self, c: Context, stream: Stream) -> None: ...

    with pytest.raises(RouteError, match=r"authorize.*async"):
        Sync.as_view()
