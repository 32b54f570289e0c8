"""The order in which a request is admitted: docs/internals/admission.rst. Each step comes before the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import async_only_middleware

from django_agent_sse import Context, Router, Stream, asgi
from django_agent_sse.streams.admission import IN_SCOPE, Refused, admission
from django_agent_sse.streams.counters import Refusal, counters
from django_agent_sse.streams.registry import registry
from tests.serving import ask, served

STEPS = ("limit", "project", "origin", "route", "method", "guard", "ended", "drained", "place", "handler")
STATUSES = (503, 418, 403, 419, 405, 401, 204, 503, 503, 200)
COUNTED = ("limit_connects", "", "origin", "", "", "guard", "", "overloaded", "limit_process", "")
"""The reason that each step counts a refusal by; those of middleware and methods are no streams that were refused."""


class Steps:
    """Which steps let a request through, and which have seen it."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.seen: list[str] = []

    def stops(self, step: str) -> bool:
        self.seen.append(step)
        return step not in self.open


steps = Steps()


def layer(step: str, status: int) -> Callable[[Any], Any]:
    @async_only_middleware
    def made(get_response: Any) -> Any:
        async def middleware(request: HttpRequest) -> Any:
            return HttpResponse(status=status) if steps.stops(step) else await get_response(request)

        return middleware

    return made


project_layer, route_layer = layer("project", 418), layer("route", 419)


async def guard(c: Context) -> Any:
    return c.json({}, status=401) if steps.stops("guard") else True


async def handler(c: Context, stream: Stream) -> None:
    steps.seen.append("handler")
    await stream.write("hello")


@pytest.mark.parametrize("wrapped", [False, True])
async def test_each_step_comes_before_the_next_one(wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    router.sse("one/", guard, handler, middleware=[route_layer], csrf_exempt=True)
    connects, process = (Refused(reason, "full", 503) for reason in (Refusal.CONNECTS, Refusal.PROCESS))
    admit = admission.admit

    async def place(*given: Any, **about: Any) -> Any:
        return process if steps.stops("place") else await admit(*given, **about)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        application = asgi.wrap(ASGIHandler(), match=lambda scope: True) if wrapped else ASGIHandler()
        del scope[IN_SCOPE]
        await application(scope, receive, send)

    async def status() -> int | None:
        """Ask with everything that a step which is not open turns away."""
        headers = {} if "origin" in steps.open else {"Sec-Fetch-Site": "cross-site", "Cookie": "a=b"}
        method = "GET" if "method" in steps.open else "PUT"
        last = None if "ended" in steps.open else "sse.end~e1.17"
        registry.drain(0 if "drained" in steps.open else 60)
        steps.seen.clear()
        return (await ask("/one/", headers=headers, method=method, last_event_id=last, application=server)).status

    monkeypatch.setattr(admission, "rate_refusal", lambda *_, **about: connects if steps.stops("limit") else None)
    monkeypatch.setattr(admission, "admit", place)
    monkeypatch.setattr(steps, "open", set())
    # Without the wrapper it is Django that calls the route, after the project's middleware.
    first = ("limit", "project") if wrapped else ("project", "limit")
    told = dict(zip(STEPS, zip(STATUSES, COUNTED, strict=True), strict=True))
    found, looked = {}, [*first, "route", "guard", "place", "handler"]
    try:
        with served(router, middleware=[f"{__name__}.project_layer"]):
            for step in (*first, *STEPS[2:]):
                counters.reset()
                found[step] = await status(), "".join(word for counts in counters.copy().values() for word in counts.refused)
                assert steps.seen == looked[: len(steps.seen)], step
                assert step not in looked or steps.seen[-1] == step, "no later step has looked"
                steps.open.add(step)
    finally:
        registry.drain(0)
    assert found == told
