"""The options of a route: the project's ``AGENT_SSE``, overridden per router, route and view."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings

from .. import conf
from ..conf import one_of
from ..exceptions import ConfigurationError, RouteError
from ..runtime.suggestions import suggest

_OWN = {
    "control_events": one_of(None, True, False),
    "final_on_error": one_of(True, False),
    "slim": one_of(True, False),
    "pinned": one_of(True, False),
}
"""What the options of a route that are no settings may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How the streams of one route behave. Times in seconds, ``retry`` in milliseconds.

    Attributes:
        heartbeat: Silence after which a comment is sent; ``None`` or 0 for none.
        retry: The reconnection time that the first event of a stream tells the client; ``None`` for none.
        max_duration: After so long a stream ends (``max_duration``) and the client reconnects; ``None`` for never.
        on_disconnect: ``"cancel"`` the handler when the client leaves, or let it ``"continue"``.
        buffer_bytes: Bytes that wait for the client before an awaited write waits too.
        buffer_events: Events, likewise.
        send_timeout: A client that takes nothing for so long is ``slow_client``; ``None`` for never.
        commit_after: How long a handler may take to its first verb before the response begins without it.
        close_grace: How long a handler's code may run on after ``close()``.
        cache: The alias in ``CACHES`` behind ``c.kv``.
        control_events: Send ``sse.end``, ``sse.error`` and so on; ``None``: to a GET whose Accept names text/event-stream.
        final_on_error: A handler's error is final: a client that reconnects after it gets 204.
        slim: Let go of the request (META, session, headers) while streaming; ``c.request`` is gone then.
        pinned: Keep the request's thread and its database connections, as middleware left them, for as long as the stream lives.
    """

    heartbeat: float | None
    retry: int | None
    max_duration: float | None
    on_disconnect: Literal["cancel", "continue"]
    buffer_bytes: int
    buffer_events: int
    send_timeout: float | None
    commit_after: float
    close_grace: float
    cache: str
    control_events: bool | None = None
    final_on_error: bool = False
    slim: bool = False
    pinned: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> StreamOptions:
        """The project's options with ``given`` over them.

        Raises:
            RouteError: A value that the option cannot take.
            ConfigurationError: ``AGENT_SSE`` has one that the setting cannot have.
        """
        project = {name: conf.setting(name.upper()) for name in PROJECT_WIDE}
        for name, value in given.items():
            rule = _OWN.get(name) or conf.RULES.get(name.upper())
            if rule is not None and not rule.holds(value):
                raise RouteError(f"{name} must be {rule.expected}, not {conf.shown(value)}")
        options = cls(**{**project, **given})
        if not isinstance(options.cache, str) or options.cache not in settings.CACHES:
            about = f"one of CACHES ({', '.join(settings.CACHES)}), not {conf.shown(options.cache)}"
            if "cache" in given:
                raise RouteError(f"cache must be {about}")
            raise ConfigurationError(f"AGENT_SSE['CACHE'] must be {about}")
        return options

    @property
    def visit_interval(self) -> float | None:
        """How often the clock must look at a stream; ``None``: never."""
        times = [time for time in (self.heartbeat, self.max_duration, self.send_timeout) if time]
        return min(times, default=None)


NAMES = tuple(field.name for field in dataclasses.fields(StreamOptions))
PROJECT_WIDE = tuple(field.name for field in dataclasses.fields(StreamOptions) if field.default is dataclasses.MISSING)


def check_names(given: Mapping[str, Any]) -> None:
    """Refuse an option that does not exist.

    Raises:
        RouteError: With the nearest one that does.
    """
    for name in given:
        if name not in NAMES:
            raise RouteError(f"a stream has no option {name!r}; {suggest(name, NAMES)}")
