"""Who may see a stream or an asynchronous page of an admin site: whoever that site lets in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.admin import AdminSite, ModelAdmin
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect

from django_agent_sse.exceptions import RouteError
from django_agent_sse.guards import NO_PERMISSION, Guard, named, refused
from django_agent_sse.streams.context import Context

ACTIONS = ("view", "add", "change", "delete")

_View: TypeAlias = Callable[..., Awaitable[HttpResponseBase]]


def admin_required(where: AdminSite | ModelAdmin[Any], action: str = "view") -> Guard:
    """Make a guard that lets in whom an admin site lets in; 401 for anonymous visitors, 403 for other ones, never a redirect.

    The site's own ``has_permission`` decides, and for a ``ModelAdmin`` its ``has_<action>_permission`` too. Both may query.

    Args:
        where: ``self.admin_site``, or a ``ModelAdmin``: ``self`` in its ``get_urls``.
        action: ``"view"``, ``"add"``, ``"change"`` or ``"delete"``, for a ``ModelAdmin``.

    Raises:
        RouteError: ``where`` or ``action`` is something else.
    """
    site = getattr(where, "admin_site", where)
    if not isinstance(site, AdminSite):
        raise RouteError(f"admin_required({where!r}): pass an AdminSite or a ModelAdmin, in get_urls self.admin_site or self")
    if action not in ACTIONS:
        raise RouteError(f"admin_required(…, {action!r}): the action is one of {', '.join(ACTIONS)}")

    def may_see(request: HttpRequest) -> bool:
        return bool(site.has_permission(request)) and (where is site or bool(getattr(where, f"has_{action}_permission")(request)))

    async def guard(c: Context) -> bool | HttpResponseBase:
        return await sync_to_async(may_see)(c.request) or refused(c, NO_PERMISSION)

    return named(guard, f"admin_required({where}, {action!r})")


def admin_view(site: AdminSite, view: _View, *, cacheable: bool = False) -> _View:
    """``site.admin_view(view)`` for an ``async`` view.

    Django's own hands the coroutine to ``never_cache`` as if it were a response, which is a 500 in every version up to 6.1. Here
    the site is asked with its own ``admin_view``, so that ``has_permission``, the redirect to its log-in page and what a custom
    site adds to either hold. A stream wants ``admin_required`` instead: an ``EventSource`` cannot log in.

    Args:
        site: ``self.admin_site`` in a ``ModelAdmin``.
        view: ``async (request, …) -> response``.
        cacheable: Leave out the headers that forbid caching.

    Raises:
        RouteError: ``view`` is not ``async``.
    """
    if not iscoroutinefunction(view):
        raise RouteError(f"admin_view() is for async views: {getattr(view, '__name__', view)!r} wants site.admin_view()")

    async def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        refusal = await sync_to_async(_ask)(site, request)
        return await view(request, *args, **kwargs) if refusal is None else refusal

    wrapped = inner if cacheable else never_cache(inner)
    if not getattr(view, "csrf_exempt", False):
        wrapped = csrf_protect(wrapped)
    return update_wrapper(wrapped, view)


def _ask(site: AdminSite, request: HttpRequest) -> HttpResponseBase | None:
    """Return the site's refusal, ``None`` where it let the request through."""
    granted = HttpResponse()

    def door(request: HttpRequest) -> HttpResponse:
        return granted

    door.csrf_exempt = True  # type: ignore[attr-defined]  # checked around the real view, where the cookie is set too
    answer = site.admin_view(door, cacheable=True)(request)
    return None if answer is granted else answer
