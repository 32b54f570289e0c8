"""The project's settings: one dict ``AGENT_SSE``, merged over defaults, read when used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_type_hints
from urllib.parse import urlsplit

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.encoding import punycode

from .exceptions import ConfigurationError
from .runtime.suggestions import suggest
from .wire import MAX_RETRY


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value may be: a test, and the same in words."""

    holds: Callable[[Any], bool]
    expected: str


def one_of(*choices: object) -> Rule:
    """Return the rule for one of these values."""
    return Rule(
        lambda value: any(type(value) is type(choice) and value == choice for choice in choices), " or ".join(map(repr, choices))
    )


def _whole(lowest: int) -> Rule:
    return Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= MAX_RETRY,
        f"a whole number from {lowest} to {MAX_RETRY}",
    )


def _or_none(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.expected} or None")


def _names_header(text: str) -> bool:
    return len(text) <= LONGEST_HEADER and text.isascii() and text.replace("-", "").isalnum()


LONGEST_HEADER = 64
_SECONDS = Rule(
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"),
    "a number of seconds",
)
_COUNT = _whole(1)
ANY_ORIGIN = "*"
_USUAL_PORTS = {"http": ":80", "https": ":443"}
MOST_SIGNED_SECONDS = 86_400
"""The longest time for which a signed address may be good."""


def _is_origin(value: object) -> bool:
    """Whether a value is an origin as browsers write it; or ``https://*.example.com``, all below a domain; or ``*``."""
    if not isinstance(value, str) or value == ANY_ORIGIN:
        return value == ANY_ORIGIN
    try:
        scheme, host, *rest = urlsplit(value)
    except ValueError:
        return False
    name = host.removeprefix("*.")
    whole = bool(scheme and name) and not any(rest) and value.lower() == f"{scheme}://{host.lower()}"
    return whole and not {*name} & {*"*@ "} and as_origin(value) is not None


def as_origin(value: str) -> str | None:
    """Return an origin as browsers send it: in small letters, ASCII, without the usual port; ``None`` where no name can be so."""
    scheme, mark, host = value.lower().partition("://")
    try:
        return scheme + mark + punycode(host.removesuffix(_USUAL_PORTS.get(scheme, ":")))
    except UnicodeError:
        return None


_ORIGINS = Rule(
    lambda value: value is None or (isinstance(value, list | tuple) and all(map(_is_origin, value))),
    "a list of origins such as 'https://app.example.com', 'https://*.example.com' or '*', or None",
)
_SIGNED_SECONDS = Rule(
    lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SIGNED_SECONDS),
    f"a whole number of seconds from 1 to {MOST_SIGNED_SECONDS}, or None",
)
Origins: TypeAlias = Annotated[Sequence[str] | None, _ORIGINS]
Switch: TypeAlias = Annotated[bool, one_of(True, False)]
SwitchOrNone: TypeAlias = Annotated[bool | None, one_of(None, True, False)]
_PROXIES = Rule(
    lambda value: value is None or (type(value) is int and value >= 0) or (type(value) is str and _names_header(value)),
    "a number of proxies, the name of a header that yours sets, or None",
)
Seconds: TypeAlias = Annotated[float, _SECONDS]
SecondsOrNone: TypeAlias = Annotated[float | None, _or_none(_SECONDS)]
MillisecondsOrNone: TypeAlias = Annotated[int | None, _or_none(_whole(0))]
Count: TypeAlias = Annotated[int, _COUNT]
CountOrNone: TypeAlias = Annotated[int | None, _or_none(_COUNT)]
OnDisconnect: TypeAlias = Annotated[Literal["cancel", "continue"], one_of("cancel", "continue")]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDefaults:
    """The options of a stream that have a default for the whole project, in ``AGENT_SSE`` by their names in capitals.

    Each is declared here and nowhere else: ``DEFAULTS`` and ``RULES`` are made of this class. Times are in seconds, ``retry`` in
    milliseconds.

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
        recheck: After so long, at the latest, the guards of an open stream are asked again; ``None`` or 0 for never.
        cache: The alias in ``CACHES`` behind ``c.kv``.
        origins: Other origins whose pages may read the answers; requests of others that carry cookies are refused. ``None``: none
            is refused, and none is told anything.
        allow_credentials: Pages of these origins may send cookies.
        compress: Compress streams for clients that take gzip: ``True`` for each, ``False`` for none; ``None`` where the handler
            follows topics and anybody may read them: the route has no guards, the request no cookies and no ``Authorization``.
    """

    heartbeat: SecondsOrNone = 15
    retry: MillisecondsOrNone = 3000
    max_duration: SecondsOrNone = None
    on_disconnect: OnDisconnect = "cancel"
    buffer_bytes: Count = 65536
    buffer_events: Count = 256
    send_timeout: SecondsOrNone = 30
    commit_after: Seconds = 0.25
    close_grace: Seconds = 5
    recheck: SecondsOrNone = 60
    cache: str = "default"
    origins: Origins = ()
    allow_credentials: Switch = False
    compress: SwitchOrNone = None


DEFAULTS: Mapping[str, Any] = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {}},
    **{field.name.upper(): field.default for field in fields(StreamDefaults)},
    "THREADS": 16,
    "REQUEST_THREADS": 64,
    "PINNED_THREADS": 64,
    "ON_CONNECTION": None,
    "CAN_FOLLOW": None,
    "RECHECK_ON_SIGNALS": True,
    "SIGNED_MAX_AGE": 60,
    "PROXIES": None,
    "LIMITS": {},
    "DRAIN_SECONDS": 4,
    "RECONNECTS": 200,
    "MONITOR": {"REPORTS": True, "ADDRESS": "truncated", "USER_AGENT": "truncated"},
}


def rules_of(options: type) -> dict[str, Rule]:
    """Return the rules in the annotations of a class, by the names of its attributes."""
    hints = get_type_hints(options, include_extras=True)
    return {name: rule for name, hint in hints.items() for rule in get_args(hint) if isinstance(rule, Rule)}


RULES: Mapping[str, Rule] = {
    **{name.upper(): rule for name, rule in rules_of(StreamDefaults).items()},
    **dict.fromkeys(("THREADS", "REQUEST_THREADS", "PINNED_THREADS"), _COUNT),
    "RECHECK_ON_SIGNALS": one_of(True, False),
    "SIGNED_MAX_AGE": _SIGNED_SECONDS,
    "PROXIES": _PROXIES,
    "DRAIN_SECONDS": _or_none(_SECONDS),
    "RECONNECTS": _or_none(_COUNT),
}
"""Of the settings that are numbers and words. Who uses ``EVENT_LOG``, ``CACHE``, ``LIMITS`` or ``MONITOR`` knows what it is."""

EVERY_PAGE = "origins has '*', and every page of the web could read what its visitors may read here; list the origins one by one"
SECRETS = ("password", "secret", "token", "credential", "passwd", "pwd")
"""The value of a key that contains one of these is never shown."""
SHOWN = 300


def shown(value: object) -> str:
    """Return the ``repr()`` of a setting's value for messages, without passwords, in dicts and in URLs."""
    text = _shown(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _shown(value: object, depth: int = 4) -> str:
    if isinstance(value, Mapping) and depth:
        secret = {key for key in value if any(word in str(key).lower() for word in SECRETS)}
        pairs = (f"{key!r}: {repr('***') if key in secret else _shown(item, depth - 1)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple | set | frozenset) and depth:
        items = ", ".join(_shown(item, depth - 1) for item in value)
        return f"[{items}]" if isinstance(value, list) else f"({items})"
    if isinstance(value, bytes):
        return f"b{_shown(value.decode(errors='replace'))}"
    if isinstance(value, str):
        return repr(_without_secrets(value))
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"<{type(value).__qualname__}>"


def _without_secrets(text: str) -> str:
    """Return a URL without user, password and query. Text without an @ stays as it is, apart from a query."""
    before, at, after = text.rpartition("@")
    if at:
        scheme, slashes, _ = before.partition("://")
        text = f"{scheme if slashes else ''}{slashes}***@{after}"
    address, mark, query = text.partition("?")
    return f"{address}?***" if mark and "=" in query else text


_instead: dict[str, Any] = {}


def unknown_keys(given: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key of ``AGENT_SSE`` that does not exist, with the nearest one that does."""
    return [f"AGENT_SSE[{key!r}] does not exist; {suggest(key, DEFAULTS)}" for key in given if key not in DEFAULTS]


def wrong_values(given: Mapping[str, Any]) -> dict[str, str]:
    """Return, by key, a sentence for each value of ``AGENT_SSE`` that the setting cannot have."""
    wrong = {
        key: f"AGENT_SSE[{key!r}] must be {rule.expected}, not {shown(given[key])}"
        for key, rule in RULES.items()
        if key in given and not rule.holds(given[key])
    }
    if "ORIGINS" not in wrong and ANY_ORIGIN in (given.get("ORIGINS") or ()) and given.get("ALLOW_CREDENTIALS") is True:
        wrong["ALLOW_CREDENTIALS"] = f"AGENT_SSE['ALLOW_CREDENTIALS'] cannot be True: {EVERY_PAGE}"
    return wrong


@functools.cache
def current() -> Mapping[str, Any]:
    """Return all values in force: the same object until the settings change. ``ConfigurationError`` where they cannot be used."""
    given = getattr(settings, "AGENT_SSE", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"AGENT_SSE must be a dict, not {type(given).__name__}")
    if problems := [*unknown_keys(given), *wrong_values(given).values()]:
        raise ConfigurationError("; ".join(problems))
    # Not deeply: whoever uses EVENT_LOG and MONITOR knows what is in them, and what where a part is missing.
    return {**DEFAULTS, **_instead, **given}


def setting(name: str) -> Any:
    """Return one value of ``AGENT_SSE``, or its default."""
    return current()[name]


@contextmanager
def other_default(name: str, value: Any) -> Iterator[None]:
    """Replace a default for a while, for tests."""
    before = dict(_instead)
    _instead[name] = value
    current.cache_clear()
    try:
        yield
    finally:
        _instead.clear()
        _instead.update(before)
        current.cache_clear()


def on_change(call: Callable[[], object], name: str = "AGENT_SSE") -> None:
    """Call ``call`` after each change of a setting, as tests make them; those that ask first are called first."""
    setting_changed.connect(lambda *, setting, **_: setting == name and call(), weak=False)


on_change(current.cache_clear)
