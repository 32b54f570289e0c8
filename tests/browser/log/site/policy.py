"""A strict policy where Django has none of its own (5.2), with the nonce where django-csp puts it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def content_security_policy(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """``default-src 'self'``, and of scripts only those with the nonce."""

    def begin(request: HttpRequest) -> None:
        request.csp_nonce = secrets.token_urlsafe(16)  # type: ignore[attr-defined]

    def end(request: Any, response: HttpResponseBase) -> HttpResponseBase:
        admin = request.path.startswith("/admin/")  # before 6.1 its own scripts have no nonce
        scripts = "'self'" if admin else f"'nonce-{request.csp_nonce}'"
        response.headers["Content-Security-Policy"] = f"default-src 'self'; worker-src 'self'; script-src {scripts}"
        return response

    if iscoroutinefunction(get_response):

        async def policy(request: HttpRequest) -> HttpResponseBase:
            begin(request)
            return end(request, await get_response(request))

        return policy

    def plain_policy(request: HttpRequest) -> HttpResponseBase:
        begin(request)
        return end(request, get_response(request))

    return plain_policy
