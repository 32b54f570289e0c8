"""Health checks: ``live`` says that this process answers, ``ready`` that it can take streams.

Restart a process that is not *live*; send no requests to one that is not *ready*. A log that is away for a moment makes a process
unready, and must not have it restarted: all clients would come back at once. Neither asks who calls, and neither tells a secret.
"""

from __future__ import annotations

import asyncio
import logging

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path

from ..eventlog.backend import event_log
from ..eventlog.validation import InternalTopic
from ..exceptions import AgentSSEError
from ..streams.registry import registry

logger = logging.getLogger("django_agent_sse.health")

LOG_TIMEOUT = 2.0
"""Seconds within which the event log must answer."""
PROBE = InternalTopic("sse.health.probe")
"""A topic that does not exist: asking where it ends is a question that every log can answer, and that costs it little."""


async def live(request: HttpRequest) -> HttpResponseBase:
    """Answer 200 while the event loop runs. Ask with a time-out: a process that hangs does not answer."""
    return _answer({"status": "live"}, 200)


async def ready(request: HttpRequest) -> HttpResponseBase:
    """Answer 200, or 503 with what is in the way: ``closing``, ``draining`` or ``event_log``."""
    problems = [name for name, true in (("closing", registry.closing), ("draining", registry.draining)) if true]
    if not await _log_answers():
        problems.append("event_log")
    return _answer({"status": "not ready" if problems else "ready", "problems": problems}, 503 if problems else 200)


async def _log_answers() -> bool:
    """Whether the event log answers; why it does not is logged, and not shown."""
    try:
        async with asyncio.timeout(LOG_TIMEOUT):
            await event_log().asummaries([PROBE])
    except TimeoutError:
        logger.warning("not ready: the event log has not answered for %g s", LOG_TIMEOUT)
    except AgentSSEError as error:
        logger.warning("not ready: %s", error)
    else:
        return True
    return False


def _answer(payload: dict[str, object], status: int) -> JsonResponse:
    return JsonResponse(payload, status=status, headers={"Cache-Control": "no-store"})


live.login_required = ready.login_required = False  # type: ignore[attr-defined]
urlpatterns = [path("live/", live, name="sse-live"), path("ready/", ready, name="sse-ready")]
"""``path("health/", include("django_agent_sse.contrib.health"))``."""
