"""System checks of the origins that routes and django-cors-headers list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from ..conf import ANY_ORIGIN
from ..cross_origin import CrossOrigin, cors_headers_layers
from .urls import stream_routes

_EVERY_PATH = r"^.*$"
"""The default of ``CORS_URLS_REGEX``."""


def cors_headers_beside() -> Iterator[checks.CheckMessage]:
    """Warn where django-cors-headers lets every page send cookies to streams, or answers preflights of what it does not list."""
    layers = cors_headers_layers(tuple(settings.MIDDLEWARE))
    routes = (
        [(str(pattern.pattern), CrossOrigin.of(endpoint.options())) for pattern, _, endpoint in stream_routes()] if layers else []
    )
    if routes and _says("ALLOW_ALL_ORIGINS") and _says("ALLOW_CREDENTIALS"):
        yield checks.Warning(
            "CORS_ALLOW_ALL_ORIGINS and CORS_ALLOW_CREDENTIALS are both True: every page of the web may read the streams of its "
            "visitors, with their cookies",
            hint="List the origins in CORS_ALLOWED_ORIGINS, or leave the paths of streams out with CORS_URLS_REGEX.",
            id="django_agent_sse.W018",
        )
    if _says("ALLOW_ALL_ORIGINS") or (_says("URLS_REGEX") or _EVERY_PATH) != _EVERY_PATH:
        return
    listed = [
        f"{route!r} ({origin})"
        for route, own in routes
        if own is not None
        for origin in (*([ANY_ORIGIN] if own.any else ()), *sorted(own.exact))
        if not any(layer.origin_found_in_white_lists(origin, urlsplit(origin)) for layer in layers)
    ]
    if listed:
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        yield checks.Warning(
            f"django-cors-headers answers preflights for the whole project, and does not list what these routes do: "
            f"{', '.join(listed[:3])}{more}. Pages there can open streams, but cannot send headers or JSON, and stop no run",
            hint="List the origins in CORS_ALLOWED_ORIGINS too, or leave the routes' paths out with CORS_URLS_REGEX.",
            id="django_agent_sse.W019",
        )


def _says(name: str) -> Any:
    return getattr(settings, f"CORS_{name}", None)
