"""The user of a request, loaded without a query on the event loop."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.http import HttpRequest
from django.utils.functional import empty


def anonymous() -> Any:
    """Nobody, as ``django.contrib.auth`` has it; ``None`` without that app."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


async def evaluated(request: HttpRequest, lazy: Any) -> Any:
    """The object behind a lazy user, without a query on the event loop."""
    if lazy._wrapped is empty:
        loader = lazy.__dict__.get("_setupfunc")
        # Only of Django's own lazy user is request.auser() the asynchronous twin; a token middleware's user is another one.
        if getattr(loader, "__module__", "") == "django.contrib.auth.middleware" and hasattr(request, "auser"):
            return await request.auser()
        await sync_to_async(lazy._setup)()
    return lazy._wrapped
