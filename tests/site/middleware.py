"""Middleware of the kind that projects write: plain functions, most of them sync only."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.utils.deprecation import MiddlewareMixin

GetResponse = Callable[[HttpRequest], HttpResponseBase]


@sync_only_middleware
def sync_stamp(get_response: GetResponse) -> GetResponse:
    """Set ``request.stamp`` on the way in and an ``X-Stamp`` header on the way out."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.stamp = "stamped"  # type: ignore[attr-defined]
        response = get_response(request)
        response["X-Stamp"] = "stamped"
        return response

    return middleware


@sync_only_middleware
def wrap_content(get_response: GetResponse) -> GetResponse:
    """Put an async generator around streamed content, as measuring and filtering middleware does."""

    async def passed_on(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in content:
            yield part

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if response.streaming:
            response.streaming_content = passed_on(response.streaming_content)  # type: ignore[attr-defined]
        return response

    return middleware


@async_only_middleware
def cors(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Let pages of every origin read what this site answers, but send no header of their own."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await get_response(request)
        if origin := request.headers.get("Origin"):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Agent-SSE-Session"
            patch_vary_headers(response, ["Origin"])
        return response

    return middleware


class SlowWayOut(MiddlewareMixin):
    """Take 0.3 s with the response, as a project's own class does: a client may leave meanwhile."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if "slow" in request.GET:
            time.sleep(0.3)
        return response
