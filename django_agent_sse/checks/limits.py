"""Checks of limits that cannot do what they are there for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core import checks

from .. import conf
from ..exceptions import AgentSSEError
from ..streams.kv import is_per_process
from ..streams.limits import Limits, limits
from .urls import stream_routes

BEHIND_A_PROXY = ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "USE_X_FORWARDED_PORT")
"""Django's settings that only a project behind a proxy has."""
LISTS = ("x-forwarded-for", "forwarded")
"""Headers of proxies that hold one entry for each of them."""


def limits_not_shared() -> Iterator[checks.CheckMessage]:
    """Warn where each process counts for itself what all of them should."""
    bounds, alias = limits(), conf.setting("CACHE")
    on = [name.upper() for name in ("user", "session", "address") if getattr(bounds, name) is not None]
    if on and is_per_process(alias) and any(True for _ in stream_routes()):
        yield checks.Warning(
            f"the limits {', '.join(on)} of AGENT_SSE['LIMITS'] are counted by each process for itself: CACHES[{alias!r}] is "
            f"{settings.CACHES[alias]['BACKEND'].rpartition('.')[2]}, which each has of its own. With several processes a client "
            "may have as many streams in each",
            hint="Point AGENT_SSE['CACHE'] at a cache that processes share (Redis, Memcached, the database, files). Silence this "
            "where one process does everything.",
            id="django_agent_sse.W020",
        )


def proxies_not_said() -> Iterator[checks.CheckMessage]:
    """Warn where clients cannot be told apart, since they come through a proxy that nobody speaks of."""
    bounds = limits()
    behind = [name for name in BEHIND_A_PROXY if getattr(settings, name, None)]
    of_addresses = (bounds.address, bounds.address_connects, bounds.unknown)
    if behind and conf.setting("PROXIES") is None and any(of_addresses):
        yield checks.Warning(
            f"{behind[0]} is set, so clients come through a proxy, and AGENT_SSE['PROXIES'] does not say so: their addresses are "
            "not known, and limits of an address do nothing, or count the proxy's as one client's",
            hint="Set AGENT_SSE['PROXIES'] to the number of your proxies that add to X-Forwarded-For, or to the name of the "
            "header in which yours writes the client's address, whatever the client sent, such as 'X-Real-IP'.",
            id="django_agent_sse.W021",
        )


def proxies_in_a_list() -> Iterator[checks.CheckMessage]:
    """Warn of a header that holds a list, where one that holds an address is meant."""
    name = conf.setting("PROXIES")
    if isinstance(name, str) and name.lower() in LISTS:
        yield checks.Warning(
            f"AGENT_SSE['PROXIES'] names {name}, to which each proxy adds, and which a client may begin: with more than one "
            "entry nobody's address is known, and the limits of an address count the proxy's as one client's",
            hint="Give the number of your proxies that add to X-Forwarded-For, such as 1.",
            id="django_agent_sse.W024",
        )


def limits_without_effect() -> Iterator[checks.CheckMessage]:
    """Warn of a limit that the project has set and that another one always meets first."""
    given = conf.setting("LIMITS")
    for name, value, other, most in _unmet(given if isinstance(given, Mapping) else {}, limits()):
        yield checks.Warning(
            f"{name} is {value}, and is never met: {other} is {most}, and is met before",
            hint="Lower the one, raise the other, or leave it out.",
            id="django_agent_sse.W022",
        )


def _unmet(given: Mapping[str, Any], bounds: Limits) -> Iterator[tuple[str, int, str, int]]:
    pairs = (
        ("SESSION", "USER", bounds.user),
        ("ROUTE", "PROCESS", bounds.process),
        ("ADDRESS_CONNECTS", "CONNECTS", bounds.connects),
        ("UNKNOWN", "REQUEST_THREADS", conf.setting("REQUEST_THREADS")),
    )
    for name, other, most in pairs:
        value = given.get(name)
        if value is not None and most is not None and value > most:
            yield f"AGENT_SSE['LIMITS'][{name!r}]", value, other, most
    if bounds.process is not None:
        for pattern, _, endpoint in stream_routes():
            with contextlib.suppress(AgentSSEError):  # E001 says it
                if (most := endpoint.options().max_streams) is not None and most > bounds.process:
                    yield f"max_streams of the route {pattern.pattern}", most, "AGENT_SSE['LIMITS']['PROCESS']", bounds.process
