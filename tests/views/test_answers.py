"""What a route answers when it does not stream: methods, HEAD, the end, bodies that cannot be used, errors."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.urls import path

from django_agent_sse import Context, Router, SSEView, Stream
from tests.serving import ask, ask_route, served

STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",
    "incremental": "?1",
    "content-encoding": "identity",
}

ran: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


async def require_key(c: Context) -> Any:
    ran.append("guard")
    return c.header("X-API-Key") == "right" or c.json({"error": "API key required"}, status=401)


async def noted(c: Context, stream: Stream) -> None:
    ran.append("handler")
    await stream.write("fine")


def noted_factory(c: Context) -> Any:
    ran.append("factory")

    async def handler(stream: Stream) -> None:
        await noted(c, stream)

    return handler


def routed(handler: Any = noted, **about: Any) -> Router:
    router = Router()
    router.sse("", handler, **about)
    return router


async def test_a_stream_has_exactly_its_headers() -> None:
    answer = await ask_route(routed())
    told = {**answer.headers}
    assert re.fullmatch(r"[\w-]{16}\.[\w-]{16}", told.pop("agent-sse-session"))
    assert (answer.status, told) == (200, STREAM_HEADERS)


# Methods


@pytest.mark.parametrize(
    ("methods", "allow"),
    [(["GET"], "GET, HEAD, OPTIONS"), (["POST"], "POST, OPTIONS"), (["get", "POST", "GET"], "GET, POST, HEAD, OPTIONS")],
)
async def test_options_and_405_tell_the_methods_and_ask_no_guard(methods: list[str], allow: str) -> None:
    router = routed(methods=methods, guards=[require_key])
    options = await ask_route(router, method="OPTIONS")
    assert (options.status, options.headers["allow"], options.body) == (200, allow, b"")
    refused = await ask_route(router, method="DELETE")
    assert (refused.status, refused.headers["allow"]) == (405, allow)
    assert ran == []


@pytest.mark.parametrize("handler", [noted, noted_factory])
async def test_k07_head_answers_the_headers_after_the_guards_and_runs_nothing(handler: Any) -> None:
    router = routed(handler, guards=[require_key])
    assert (await ask_route(router, method="HEAD")).status == 401
    answer = await ask_route(router, method="HEAD", headers={"X-API-Key": "right"})
    assert (answer.status, answer.body) == (200, b"")
    assert {name: answer.headers[name] for name in STREAM_HEADERS} == STREAM_HEADERS
    assert ran == ["guard", "guard"]


async def test_head_of_a_route_without_get_is_405() -> None:
    assert (await ask_route(routed(methods=["POST"]), method="HEAD")).status == 405


# A finished stream stays finished


@pytest.mark.parametrize("handler", [noted, noted_factory])
@pytest.mark.parametrize("way", [{"headers": {"Last-Event-ID": "sse.end~7"}}, {"url": "/?last_event_id=sse.end~7"}])
async def test_who_had_the_end_gets_204_after_the_guards(handler: Any, way: dict[str, Any]) -> None:
    router = routed(handler, guards=[require_key])
    headers = way.get("headers", {})
    url = way.get("url", "/")
    assert (await ask_route(router, url, headers=headers)).status == 401
    answer = await ask_route(router, url, headers={**headers, "X-API-Key": "right"})
    assert (answer.status, answer.body) == (204, b"")
    assert "no-store" in answer.headers["cache-control"]
    assert ran == ["guard", "guard"]


@pytest.mark.parametrize("last_id", ["7", "sse.endless", "sse.position", "", "x" * 600])
async def test_any_other_last_id_streams(last_id: str) -> None:
    assert (await ask_route(routed(), headers={"Last-Event-ID": last_id})).data == ["fine"]


async def test_head_comes_before_the_end() -> None:
    answer = await ask_route(routed(), method="HEAD", headers={"Last-Event-ID": "sse.end~7"})
    assert answer.status == 200


# Bodies


async def reads_the_body(c: Context, stream: Stream) -> None:
    await stream.write(await c.json_body(limit=16))


def reads_the_body_first(c: Context) -> Any:
    async def factory() -> Any:
        body = await c.json_body(limit=16)

        async def handler(stream: Stream) -> None:
            await stream.write(body)

        return handler

    return factory()


async def guards_the_body(c: Context) -> bool:
    return bool(await c.json_body(limit=16))


BODIES = pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"\xff", 400), (b'"' + b"x" * 20 + b'"', 413), (b"[1]", 200)])
READERS = pytest.mark.parametrize(
    "about",
    [{"handler": reads_the_body}, {"handler": reads_the_body_first}, {"handler": reads_the_body, "guards": [guards_the_body]}],
    ids=["in the handler", "in the factory", "in a guard"],
)


@BODIES
@READERS
async def test_a_body_that_cannot_be_used_is_answered_as_json(about: Any, body: bytes, status: int) -> None:
    answer = await ask_route(routed(**about, methods=["POST"]), method="POST", body=body)
    assert answer.status == status
    if status == 200:
        assert answer.data == ["[1]"]
    else:
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json()) == ["error"]


async def test_after_the_first_write_a_bad_body_is_an_error_of_the_handler() -> None:
    async def late(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        await c.json_body()

    answer = await ask_route(routed(late, methods=["POST"]), method="POST", body=b"{", broken_off=True)
    assert (answer.status, answer.data) == (200, ["begun"])


# What is raised before the response begins


@pytest.mark.parametrize(
    ("error", "status"),
    [(Http404(), 404), (PermissionDenied(), 403), (SuspiciousOperation(), 400), (RuntimeError("deliberate"), 500)],
    ids=["404", "403", "400", "500"],
)
@pytest.mark.parametrize("where", ["guard", "factory", "handler"])
async def test_an_error_before_the_first_write_is_an_ordinary_response(where: str, error: Exception, status: int) -> None:
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

    answer = await ask_route(routed(factory, guards=[guard]))
    assert answer.status == status
    assert answer.headers["content-type"] != "text/event-stream"
    assert b"deliberate" not in answer.body


# Answers of guards


async def test_a_guard_may_answer_anything_and_c04_headers_set_before_are_on_it() -> None:
    async def elsewhere(c: Context) -> Any:
        c.set_header("X-Why", "moved")
        c.set_cookie("seen", "1")
        return HttpResponseRedirect("/elsewhere/")

    answer = await ask_route(routed(guards=[elsewhere]))
    assert (answer.status, answer.headers["location"], answer.headers["x-why"]) == (302, "/elsewhere/", "moved")
    assert answer.headers["set-cookie"].startswith("seen=1")


@pytest.mark.parametrize("url", ["/", "/?last_event_id=sse.end~1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_c04_headers_that_a_guard_set_are_on_every_answer(url: str, method: str) -> None:
    async def marks(c: Context) -> bool:
        c.set_header("X-Marked", "yes")
        c.set_header("Cache-Control", "no-store")
        return True

    answer = await ask_route(routed(guards=[marks]), url, method=method)
    assert (answer.headers["x-marked"], answer.headers["cache-control"]) == ("yes", "no-store")


async def test_c04_headers_that_a_handler_set_before_its_first_write_are_on_the_stream() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        c.set_header("X-Build", "7")
        await stream.write("x")

    assert (await ask_route(routed(handler))).headers["x-build"] == "7"


async def test_refusals_of_the_body_keep_the_headers_set_before() -> None:
    async def marks(c: Context) -> bool:
        c.set_header("X-Marked", "yes")
        return True

    answer = await ask_route(routed(reads_the_body, guards=[marks], methods=["POST"]), method="POST", body=b"{")
    assert (answer.status, answer.headers["x-marked"]) == (400, "yes")


async def test_the_route_stands_in_the_context_as_its_pattern() -> None:
    class Told(SSEView):
        async def handle(self, c: Context, stream: Stream, n: int) -> Any:
            return HttpResponse(json.dumps({"route": c.route, "params": dict(c.params)}))

    with served([path("builds/<int:n>/", Told.as_view())]):
        assert (await ask("/builds/3/")).json() == {"route": "builds/<int:n>/", "params": {"n": 3}}
