"""A check of routes that serve runs."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks

from .. import conf
from ..eventlog.backend import build_log
from ..exceptions import AgentSSEError
from ..run_views import RunView
from .urls import stream_routes


def runs_not_shared() -> Iterator[checks.CheckMessage]:
    """Warn of runs whose log is that of one process."""
    views = ((str(pattern.pattern), getattr(pattern.callback, "view_class", None)) for pattern, _, _ in stream_routes())
    found = [path for path, view in views if isinstance(view, type) and issubclass(view, RunView) and "sse_run" not in path]
    try:
        shared = not found or build_log(conf.setting("EVENT_LOG")).crosses_processes
    except AgentSSEError:  # E001 and E005 say it
        return
    if not shared:
        yield checks.Warning(
            f"the runs of {', '.join(map(repr, found[:3]))} are kept in the memory of one process: a reload, or a stop, that "
            "reaches another one finds nothing, and two runs may have one key",
            hint="Keep topics in the database or in Redis, with AGENT_SSE['EVENT_LOG']. Silence this where one process does "
            "everything.",
            id="django_agent_sse.W015",
        )
