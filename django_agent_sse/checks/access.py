"""System checks of what takes access away, and of signed addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.core import checks

from .. import conf
from ..eventlog.backend import build_log
from ..exceptions import AgentSSEError
from ..signed_urls import signed_required
from .urls import stream_routes


def access_not_shared() -> Iterator[checks.CheckMessage]:
    """Warn where a log-out in one process ends no stream in another one."""
    try:
        shared = build_log(conf.setting("EVENT_LOG")).crosses_processes
    except AgentSSEError:  # E001 and E005 say it
        return
    if not shared and any(True for _ in stream_routes()):
        yield checks.Warning(
            "the event log, on which processes tell each other who has lost access, is the memory of one process: a log-out, "
            "close_streams() and revoke_signed_urls() reach the streams of their own process only; others go on until their "
            "guards are asked again, and signed addresses until they expire",
            hint="Keep topics in the database or in Redis, with AGENT_SSE['EVENT_LOG']. Silence this where one process does "
            "everything.",
            id="django_agent_sse.W016",
        )


def signed_urls_off() -> Iterator[checks.CheckMessage]:
    """Warn of routes that take signed addresses, where none is made or taken."""
    if conf.setting("SIGNED_MAX_AGE") is not None:
        return
    takes = []
    for pattern, _, endpoint in stream_routes():
        with contextlib.suppress(AgentSSEError):  # E001 says it
            if endpoint.options().signed or signed_required in endpoint.guards:
                takes.append(repr(str(pattern.pattern)))
    if takes:
        yield checks.Warning(
            f"AGENT_SSE['SIGNED_MAX_AGE'] is None, which switches signed addresses off, and these routes take them: "
            f"{', '.join(takes[:3])}{f' and {len(takes) - 3} more' if len(takes) > 3 else ''}. Whoever comes with one is refused",
            hint="Give SIGNED_MAX_AGE seconds, or take signed=True and signed_required off the routes.",
            id="django_agent_sse.W017",
        )
