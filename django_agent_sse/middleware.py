"""Ordinary Django middleware around one route.

What Django does with ``MIDDLEWARE`` for every request, this does with ``middleware=[…]`` for one route: the same classes and
factories, sync or async, in the same order, with ``process_view``, ``process_exception`` and ``process_template_response``. As
there, each layer gets a response from the layer below and never an exception.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from .exceptions import RouteError
from .guards import name_of
from .streams.error_responses import answering, as_async, exception_hooks

GetResponse: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
Middleware: TypeAlias = "str | Callable[..., Any]"

logger = logging.getLogger("django_agent_sse.middleware")


def build_chain(get_response: GetResponse, middleware: Sequence[Middleware]) -> GetResponse:
    """Wrap a view in middleware, the first of them outermost.

    A sync-only middleware is called in a thread, and calls the rest of the chain from there: it costs that thread for as long as
    the *view* runs, not while the response streams.

    Args:
        get_response: Answers a request. It may raise: ``process_exception`` sees it, then it becomes Django's error response.
        middleware: Classes, factories or dotted paths, as in ``MIDDLEWARE``.

    Raises:
        RouteError: Something in ``middleware`` cannot be imported or is not a middleware.
    """
    if not middleware:  # its exceptions reach Django's own handler
        return get_response
    view = _View(get_response)
    handler: Callable[[HttpRequest], Any] = answering(view.respond)
    is_async = True
    # From the inside out, as Django does: each factory gets what is below it, adapted to how it runs.
    for entry in reversed(middleware):
        factory = _factory(entry)
        wants_async = _wants_async(factory, is_async)
        below = handler if wants_async is is_async else async_to_sync(handler) if is_async else sync_to_async(handler)
        try:
            layer = factory(below)
        except MiddlewareNotUsed as reason:
            logger.debug("%s is not used: %s", name_of(entry), reason)
            continue
        if not callable(layer):
            raise RouteError(f"middleware {name_of(entry)} made {layer!r} instead of something that answers a request")
        view.add(layer)
        handler, is_async = answering(layer), wants_async
    top = handler if is_async else sync_to_async(handler)
    names = ", ".join(map(name_of, middleware))

    async def chain(request: HttpRequest) -> HttpResponseBase:
        response = await top(request)
        if not isinstance(response, HttpResponseBase):
            raise RouteError(
                f"the route's middleware ({names}) answered with {response!r}; each must return the response it got, or its own"
            )
        return response

    return chain


class _View:
    """The innermost layer: the view, and the hooks that middleware has around it."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._view_hooks: list[Callable[..., Awaitable[Any]]] = []
        self._template_hooks: list[Callable[..., Awaitable[Any]]] = []
        self._exception_hooks: list[Callable[..., Awaitable[Any]]] = []

    def add(self, layer: object) -> None:
        """Take a layer's hooks; layers come from the innermost to the outermost."""
        if hook := getattr(layer, "process_view", None):
            self._view_hooks.insert(0, as_async(hook))
        if hook := getattr(layer, "process_template_response", None):
            self._template_hooks.append(as_async(hook))
        if hook := getattr(layer, "process_exception", None):
            self._exception_hooks.append(as_async(hook))

    async def respond(self, request: HttpRequest) -> HttpResponseBase:
        response: Any = await self._ask_view_hooks(request)
        if response is None:
            response = await self._or_handled(request, self._get_response(request))
        if callable(getattr(response, "render", None)):
            for hook in self._template_hooks:
                response = await hook(request, response)
                if response is None:
                    raise RouteError("a process_template_response of the route's middleware returned None; return the response")
            response = await self._or_handled(request, as_async(response.render)())
        return cast(HttpResponseBase, response)

    async def _ask_view_hooks(self, request: HttpRequest) -> HttpResponseBase | None:
        match = request.resolver_match
        view, args, kwargs = (match.func, match.args, match.kwargs) if match else (self._get_response, (), {})
        # Hooks are told of the URLconf's view, not of this chain: CSRF and the like look at its attributes.
        for hook in self._view_hooks:
            if response := await hook(request, view, args, kwargs):
                return cast(HttpResponseBase, response)
        return None

    async def _or_handled(self, request: HttpRequest, answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        try:
            return await answer
        except Exception as error:
            # The project's hooks too: Django would call them for an exception of the view, and this chain makes a response of it.
            for hook in (*self._exception_hooks, *exception_hooks(tuple(settings.MIDDLEWARE))):
                if response := await hook(request, error):
                    return cast(HttpResponseBase, response)
            raise


def _factory(entry: Middleware) -> Callable[..., Any]:
    factory: Any = entry
    if isinstance(entry, str):
        try:
            factory = import_string(entry)
        except ImportError as error:
            raise RouteError(f"middleware {entry!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise RouteError(f"middleware {name_of(entry)} is not a middleware class, factory or dotted path")
    if iscoroutinefunction(factory):
        raise RouteError(
            f"{name_of(entry)} is an async function; a guard goes into guards=[…], a middleware factory is a plain function"
        )
    return cast("Callable[..., Any]", factory)


def _wants_async(factory: object, below_is_async: bool) -> bool:
    """Return whether a middleware runs async here: as the layer below does if it can, since each change costs a thread hop."""
    can_sync, can_async = getattr(factory, "sync_capable", True), getattr(factory, "async_capable", False)
    if not can_sync and not can_async:
        raise RouteError(
            f"middleware {name_of(factory)} sets both sync_capable and async_capable to False: one of them must be True"
        )
    return can_async if below_is_async or not can_sync else False
