"""The options of a stream: the project's ``AGENT_SSE``, overridden per router, route and view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from django.conf import settings

from .. import conf
from ..conf import (
    ANY_ORIGIN,
    EVERY_PAGE,
    Count,
    CountOrNone,
    MillisecondsOrNone,
    OnDisconnect,
    Origins,
    Seconds,
    SecondsOrNone,
    StreamDefaults,
    Switch,
    SwitchOrNone,
    rules_of,
)
from ..exceptions import ConfigurationError, RouteError
from ..runtime.suggestions import suggest
from .slow_clients import first_look


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions(StreamDefaults):
    """How the streams of one route behave: what ``StreamDefaults`` has, and what has no default for the whole project.

    Attributes:
        control_events: Send ``sse.end``, ``sse.error`` and so on; ``None``: to a GET whose Accept names text/event-stream.
        final_on_error: A handler's error is final: a client that reconnects after it gets 204.
        slim: Let go of the request (META, session, headers) while streaming; ``c.request`` is gone then.
        pinned: Keep the request's thread and its database connections, as middleware left them, for as long as the stream lives.
        signed: Take addresses made by ``signed_url()``, for clients without headers or cookies: the user whose address it is.
        max_streams: How many streams of this route a process has open at a time; ``None``: as ``AGENT_SSE["LIMITS"]`` says.
    """

    control_events: SwitchOrNone = None
    final_on_error: Switch = False
    slim: Switch = False
    pinned: Switch = False
    signed: Switch = False
    max_streams: CountOrNone = None

    @classmethod
    def of(cls, overrides: Mapping[str, Any]) -> StreamOptions:
        """Return the project's options with ``overrides`` over them.

        Raises:
            RouteError: A value that the option cannot take.
            ConfigurationError: ``AGENT_SSE`` has one that the setting cannot have.
        """
        project = {name: conf.setting(name.upper()) for name in PROJECT_WIDE}
        for name, value in overrides.items():
            rule = _RULES.get(name)
            if rule is not None and not rule.holds(value):
                raise RouteError(f"{name} must be {rule.expected}, not {conf.shown(value)}")
        options = cls(**{**project, **overrides})
        if options.allow_credentials and ANY_ORIGIN in (options.origins or ()):
            raise RouteError(f"allow_credentials cannot be True: {EVERY_PAGE}")
        if not isinstance(options.cache, str) or options.cache not in settings.CACHES:
            about = f"one of CACHES ({', '.join(settings.CACHES)}), not {conf.shown(options.cache)}"
            if "cache" in overrides:
                raise RouteError(f"cache must be {about}")
            raise ConfigurationError(f"AGENT_SSE['CACHE'] must be {about}")
        return options

    @property
    def visit_interval(self) -> float | None:
        """Seconds between two looks of the clock at a stream; ``None`` for no looks."""
        times = (self.heartbeat, self.max_duration, self.send_timeout and first_look(self.send_timeout))
        return min((time for time in times if time), default=None)


class StreamKeywords(TypedDict, total=False):
    """``StreamOptions`` as keyword arguments, for editors and type checkers: no tool can read them out of the class."""

    heartbeat: SecondsOrNone
    retry: MillisecondsOrNone
    max_duration: SecondsOrNone
    on_disconnect: OnDisconnect
    buffer_bytes: Count
    buffer_events: Count
    send_timeout: SecondsOrNone
    commit_after: Seconds
    close_grace: Seconds
    recheck: SecondsOrNone
    cache: str
    origins: Origins
    allow_credentials: Switch
    compress: SwitchOrNone
    control_events: SwitchOrNone
    final_on_error: Switch
    slim: Switch
    pinned: Switch
    signed: Switch
    max_streams: CountOrNone


NAMES = tuple(field.name for field in fields(StreamOptions))
PROJECT_WIDE = tuple(field.name for field in fields(StreamDefaults))
_RULES = rules_of(StreamOptions)


def check_names(overrides: Mapping[str, Any]) -> None:
    """Raise ``RouteError`` for an option that does not exist, with the nearest one that does."""
    for name in overrides:
        if name not in NAMES:
            raise RouteError(f"a stream has no option {name!r}; {suggest(name, NAMES)}")
