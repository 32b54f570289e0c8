"""``AGENT_SSE["MONITOR"]``: what the monitor collects, and what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

from ... import conf
from ...exceptions import ConfigurationError

Shown = Literal["truncated", "full", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """The keys, in small letters.

    Attributes:
        reports: Whether this process tells the others what it has open.
        address: The client's address: ``truncated`` to its network, ``full`` or ``off``.
        user_agent: The client's program: its name and system (``truncated``), the whole header (``full``), or ``off``.
        proxies: Proxies of yours before the server: so many entries of ``X-Forwarded-For``, from the right, are theirs.
    """

    reports: bool = True
    address: Shown = "truncated"
    user_agent: Shown = "truncated"
    proxies: int = 0

    def __post_init__(self) -> None:
        if type(self.reports) is not bool:
            raise _wrong("REPORTS", self.reports, "True or False")
        for name in ("address", "user_agent"):
            if getattr(self, name) not in get_args(Shown):
                raise _wrong(name.upper(), getattr(self, name), " or ".join(map(repr, get_args(Shown))))
        if type(self.proxies) is not int or self.proxies < 0:
            raise _wrong("PROXIES", self.proxies, "a whole number from 0")


def monitor_options() -> MonitorOptions:
    """The options in force.

    Raises:
        ConfigurationError: A key or a value that does not exist.
    """
    global _made
    given = conf.setting("MONITOR")
    if _made is None or _made[0] is not given:
        _made = given, _options(given)
    return _made[1]


_made: tuple[Any, MonitorOptions] | None = None


def _options(given: Any) -> MonitorOptions:
    known = [name.upper() for name in MonitorOptions.__slots__]
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"AGENT_SSE['MONITOR'] is {conf.shown(given)}; it is a dict with any of {', '.join(known)}")
    for name in given:
        if name not in known:
            near = get_close_matches(str(name).upper(), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ConfigurationError(f"AGENT_SSE['MONITOR'][{name!r}] does not exist; {hint}")
    return MonitorOptions(**{name.lower(): value for name, value in given.items()})


def _wrong(name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"AGENT_SSE['MONITOR'][{name!r}] is {conf.shown(value)}; it is {expected}")
