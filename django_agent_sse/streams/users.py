"""The user of a request, loaded without a query on the event loop."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from ..exceptions import GuardError


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


def set_user(request: HttpRequest, user: Any) -> Any:
    """Make ``user`` the user of the request, as Django's ``login()`` does, without a session; return it, ``None`` as nobody.

    Raises:
        GuardError: It is not a user, or a lazy one that was not loaded.
    """
    if user is None:
        user = anonymous()
    elif issubclass(type(user), LazyObject):  # isinstance would ask the object behind it
        if user._wrapped is empty:
            raise GuardError(
                "c.user was set to a lazy user that is not loaded, and loading it would query a database on the event loop: "
                "await the user first, as in c.user = await User.objects.aget(…)"
            )
        user = user._wrapped
    if user is not None and (isinstance(user, type) or not hasattr(user, "is_authenticated")):
        raise GuardError(
            f"c.user was set to {type(user).__name__} {user!r:.60}, which has no is_authenticated: set a user of the project, "
            "AnonymousUser() or None; other values go on c.var"
        )

    async def auser() -> Any:
        return user

    request.user = user  # type: ignore[assignment]  # a user model of the project's, or None without django.contrib.auth
    request.auser = auser
    return user
