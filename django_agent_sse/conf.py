"""The project's settings: one dict ``AGENT_SSE``, merged over defaults, read when used."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from .exceptions import ConfigurationError

DEFAULTS: Mapping[str, Any] = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {}},
    "CACHE": "default",
    "HEARTBEAT": 15,
    "RETRY": 3000,
    "MAX_DURATION": None,
    "ON_DISCONNECT": "cancel",
    "BUFFER_BYTES": 65536,
    "BUFFER_EVENTS": 256,
    "SEND_TIMEOUT": 30,
    "COMMIT_AFTER": 0.25,
    "CLOSE_GRACE": 5,
    "THREADS": 16,
    "REQUEST_THREADS": 64,
    "PINNED_THREADS": 64,
    "ON_CONNECTION": None,
    "MONITOR": {"REPORTS": True, "ADDRESS": "truncated", "USER_AGENT": "truncated", "PROXIES": 0},
}


_instead: dict[str, Any] = {}


def unknown_keys(given: Mapping[str, Any]) -> list[str]:
    """One sentence for each key of ``AGENT_SSE`` that does not exist, with the nearest one that does."""
    return [f"AGENT_SSE[{key!r}] does not exist{_nearest(key)}" for key in given if key not in DEFAULTS]


def _nearest(key: object) -> str:
    near = get_close_matches(str(key), DEFAULTS, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(DEFAULTS)}"


@functools.cache
def current() -> Mapping[str, Any]:
    """Every value in force: the same object until the settings change.

    Raises:
        ConfigurationError: ``AGENT_SSE`` is no dict, or holds a key that does not exist.
    """
    given = getattr(settings, "AGENT_SSE", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"AGENT_SSE must be a dict, not {type(given).__name__}")
    if problems := unknown_keys(given):
        raise ConfigurationError("; ".join(problems))
    return {**DEFAULTS, **_instead, **given}


def setting(name: str) -> Any:
    """One value of ``AGENT_SSE``, or its default."""
    return current()[name]


@contextmanager
def other_default(name: str, value: Any) -> Iterator[None]:
    """Have another default meanwhile, for tests."""
    before = dict(_instead)
    _instead[name] = value
    current.cache_clear()
    try:
        yield
    finally:
        _instead.clear()
        _instead.update(before)
        current.cache_clear()


def _forget(*, setting: str, **_: object) -> None:
    if setting == "AGENT_SSE":
        current.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_agent_sse.conf")
