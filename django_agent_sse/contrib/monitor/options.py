"""``AGENT_SSE["MONITOR"]``: what the monitor collects, and what it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig
from django.core import checks

from ... import conf
from ...exceptions import AgentSSEError, ConfigurationError
from ...runtime.suggestions import suggest
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
    values = conf.setting("MONITOR")
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"AGENT_SSE['MONITOR'] is {conf.shown(values)}; it is a dict with any of {', '.join(KEYS)}")
    for name in values:
        if name not in KEYS:
            raise ConfigurationError(f"AGENT_SSE['MONITOR'][{name!r}] does not exist; {suggest(str(name).upper(), KEYS)}")
    return MonitorOptions(**{name.lower(): value for name, value in values.items()})


def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check ``AGENT_SSE["MONITOR"]``, for ``manage.py check``."""
    try:
        conf.current()
    except AgentSSEError:  # the core's own check says it
        return []
    try:
        monitor_options()
    except AgentSSEError as error:
        return [
            checks.Error(
                f"AGENT_SSE cannot be used: {error}",
                hint="The documentation's page reference/settings names every key, its default and its unit.",
                id="django_agent_sse.E001",
            )
        ]
    return []
