"""A topic of any events in the log viewer: lines as they are, what else there is with its name before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from django_agent_sse.logs import log_views, part_of_log
from django_agent_sse.routing import Router
from django_agent_sse.wire import Event
from django_agent_sse.wire.event import FITS
from django_agent_sse.wire.log_lines import LEVELS, is_line

NAMED = "\x1b[36m{name}\x1b[0m {data}"
"""The name in a colour of the terminal, which the viewer knows."""
AGAIN = 300.0
"""Seconds after which the stream begins anew, and whoever looks is asked for the permissions again."""


def as_line(event: Event) -> Event:
    """What the viewer shows of an event."""
    if is_line(event):
        return event if event.event in ("stdout", "stderr", *LEVELS) else Event(event.data, event="stdout")
    data = event.data
    if len(data) > FITS // 2:  # with the name, and its colour, it might be too large for a stream
        data = f"{data[: FITS // 2]}… [cut: the event has {len(data):,} characters]"
    return Event(NAMED.format(name=event.event, data=data), event="stdout")


def topic_log_router(topic: Callable[..., Awaitable[str]], guards: Sequence[Any]) -> Router:
    """The viewer's three addresses, below ``""``."""
    router = Router(guards=guards, max_duration=AGAIN)
    for part, view in log_views(topic, as_line).items():
        name = "django_agent_sse_logtopic_log" + (f"-{part}" if part else "")
        options: dict[str, Any] = {"control_events": False} if part == "raw" else {}
        router.sse(part_of_log("", part), view, name=name, **options)
    return router
