"""The project's settings: one dict ``AGENT_SSE``, merged over defaults, read when used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from .exceptions import ConfigurationError
from .runtime.suggestions import suggest
from .wire import MAX_RETRY

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


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting may be: a test, and the same in words."""

    holds: Callable[[Any], bool]
    expected: str


def one_of(*choices: object) -> Rule:
    """Any of these."""
    return Rule(
        lambda value: any(type(value) is type(choice) and value == choice for choice in choices), " or ".join(map(repr, choices))
    )


def _seconds(optional: bool = False) -> Rule:
    def holds(value: Any) -> bool:
        if value is None:
            return optional
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")

    return Rule(holds, f"a number of seconds{' or None' if optional else ''}")


def _whole(lowest: int, optional: bool = False) -> Rule:
    def holds(value: Any) -> bool:
        if value is None:
            return optional
        return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= MAX_RETRY

    return Rule(holds, f"a whole number from {lowest} to {MAX_RETRY}{' or None' if optional else ''}")


RULES: Mapping[str, Rule] = {
    "HEARTBEAT": _seconds(optional=True),
    "RETRY": _whole(0, optional=True),
    "MAX_DURATION": _seconds(optional=True),
    "ON_DISCONNECT": one_of("cancel", "continue"),
    "BUFFER_BYTES": _whole(1),
    "BUFFER_EVENTS": _whole(1),
    "SEND_TIMEOUT": _seconds(optional=True),
    "COMMIT_AFTER": _seconds(),
    "CLOSE_GRACE": _seconds(),
    "THREADS": _whole(1),
    "REQUEST_THREADS": _whole(1),
    "PINNED_THREADS": _whole(1),
}
"""Of the settings that are numbers and words. Who uses ``EVENT_LOG``, ``CACHE`` and ``MONITOR`` knows what these may be."""

SECRETS = ("password", "secret", "token", "credential", "passwd", "pwd")
"""A key that holds one of these has a value that is shown to nobody."""
SHOWN = 300


def shown(value: object) -> str:
    """The ``repr()`` of a value of a setting, for messages: without passwords, whether they have keys or stand in URLs."""
    text = _shown(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _shown(value: object, depth: int = 4) -> str:
    if isinstance(value, Mapping) and depth:
        pairs = (f"{key!r}: {repr('***') if _is_secret(key) else _shown(found, depth - 1)}" for key, found in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple | set | frozenset) and depth:
        items = ", ".join(_shown(found, depth - 1) for found in value)
        return f"[{items}]" if isinstance(value, list) else f"({items})"
    if isinstance(value, bytes):
        return f"b{_shown(value.decode(errors='replace'))}"
    if isinstance(value, str):
        return repr(_without_secrets(value))
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"<{type(value).__qualname__}>"


def _is_secret(key: object) -> bool:
    return any(word in str(key).lower() for word in SECRETS)


def _without_secrets(text: str) -> str:
    """A URL, or what should have been one, without user, password and query. What is no URL has no @ and stays."""
    before, at, after = text.rpartition("@")
    if at:
        scheme, slashes, _ = before.partition("://")
        text = f"{scheme if slashes else ''}{slashes}***@{after}"
    address, mark, query = text.partition("?")
    return f"{address}?***" if mark and "=" in query else text


_instead: dict[str, Any] = {}


def unknown_keys(given: Mapping[str, Any]) -> list[str]:
    """One sentence for each key of ``AGENT_SSE`` that does not exist, with the nearest one that does."""
    return [f"AGENT_SSE[{key!r}] does not exist; {suggest(key, DEFAULTS)}" for key in given if key not in DEFAULTS]


def wrong_values(given: Mapping[str, Any]) -> dict[str, str]:
    """By key, one sentence for each value of ``AGENT_SSE`` that the setting cannot have."""
    return {
        key: f"AGENT_SSE[{key!r}] must be {rule.expected}, not {shown(given[key])}"
        for key, rule in RULES.items()
        if key in given and not rule.holds(given[key])
    }


@functools.cache
def current() -> Mapping[str, Any]:
    """Every value in force: the same object until the settings change.

    Raises:
        ConfigurationError: ``AGENT_SSE`` is no dict, or holds a key that does not exist, or a value that it cannot have.
    """
    given = getattr(settings, "AGENT_SSE", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"AGENT_SSE must be a dict, not {type(given).__name__}")
    if problems := [*unknown_keys(given), *wrong_values(given).values()]:
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
