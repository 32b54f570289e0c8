"""``AGENT_SSE["MONITOR"]``: what the monitor collects, and what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ... import conf
from ...exceptions import ConfigurationError
from ...streams.client import ClientOptions
from ...streams.options import Switch


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions(ClientOptions):
    """The keys, in small letters.

    Attributes:
        reports: Whether this process tells the others what it has open.
    """

    reports: Switch = True


KEYS = ("REPORTS", *(name.upper() for name in ClientOptions.__dataclass_fields__))


def monitor_options() -> MonitorOptions:
    """Return the options in force.

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
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"AGENT_SSE['MONITOR'] is {conf.shown(given)}; it is a dict with any of {', '.join(KEYS)}")
    for name in given:
        if name not in KEYS:
            near = get_close_matches(str(name).upper(), KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(KEYS)}"
            raise ConfigurationError(f"AGENT_SSE['MONITOR'][{name!r}] does not exist; {hint}")
    return MonitorOptions(**{name.lower(): value for name, value in given.items()})
