"""The user of a request, loaded: as every page has it, and without blocking an event loop."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty


async def loaded_user(request: HttpRequest) -> tuple[Any, Any]:
    """Return what is on the request as its user, and the user that it stands for; without one both are nobody.

    A request without a session cookie costs no query and no thread.
    """
    user: Any = getattr(request, "user", empty)
    if user is empty:
        user = anonymous()
    given = user
    # One may be in another: middleware that adds to a user, as django-hijack's, wraps it once more.
    while issubclass(type(user), LazyObject):  # isinstance would ask the object behind it
        djangos = getattr(user.__dict__.get("_setupfunc"), "__module__", "") == "django.contrib.auth.middleware"
        if user._wrapped is not empty:
            user = user._wrapped
        elif djangos and not getattr(getattr(request, "session", None), "session_key", None):  # nobody, which costs no thread
            user = await request.auser()
        else:
            # Not request.auser(): that passes over a back end's own get_user(), and would let in whom it refuses.
            await sync_to_async(user._setup)()
            user = user._wrapped
            if djangos and vars(request).get("_acached_user") == user:  # with what asynchronous middleware has put on it
                user = vars(request)["_acached_user"]
    return given, user


def anonymous() -> Any:
    """Nobody, as ``django.contrib.auth`` has it; ``None`` without that app."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()
