"""What stands in for a sign-in while the documentation's code runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.decorators import async_only_middleware

ACTS_AS_STAFF = {"x-test-acts-as": "staff"}
"""Headers of a request by somebody who may do everything; nothing asks a database."""


@async_only_middleware
def acting(get_response: Callable[[HttpRequest], Awaitable[Any]]) -> Callable[[HttpRequest], Awaitable[Any]]:
    """Sign the request in where it says so."""

    async def middleware(request: HttpRequest) -> Any:
        if request.headers.get("X-Test-Acts-As"):
            request.user = User(pk=1, username="ada", is_active=True, is_staff=True, is_superuser=True)
        return await get_response(request)

    return middleware
