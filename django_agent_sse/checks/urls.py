"""The routes of a project, as system checks look at them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver


def routes() -> Iterator[tuple[URLPattern, frozenset[str]]]:
    """Yield every route, with the names that its URL captures, also in the ``include()`` around it."""
    if getattr(settings, "ROOT_URLCONF", None):
        yield from _routes(get_resolver(), frozenset())


def stream_routes() -> Iterator[tuple[URLPattern, frozenset[str], Any]]:
    """Yield every route of a stream, likewise, with its endpoint."""
    for pattern, names in routes():
        if endpoint := view_options(pattern).get("_endpoint"):
            yield pattern, names, endpoint


def view_options(pattern: URLPattern) -> dict[str, Any]:
    """Return what a class-based view's ``as_view()`` got."""
    return getattr(pattern.callback, "view_initkwargs", {})


def _routes(resolver: URLResolver, captured: frozenset[str]) -> Iterator[tuple[URLPattern, frozenset[str]]]:
    for pattern in resolver.url_patterns:
        defaults = pattern.default_kwargs if isinstance(pattern, URLResolver) else pattern.default_args
        names = captured.union(pattern.pattern.regex.groupindex, defaults)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern, names)
        else:
            yield pattern, names
