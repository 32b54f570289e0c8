"""The monitor's system check: its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from ... import conf
from ...exceptions import AgentSSEError
from .options import monitor_options


def register() -> None:
    """Make ``manage.py check`` run it."""
    checks.register(check_options, "django_agent_sse")


def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """``AGENT_SSE["MONITOR"]``."""
    return list(_wrong_options())


def _wrong_options() -> Iterator[checks.CheckMessage]:
    try:
        conf.current()
    except AgentSSEError:  # the core's own check says it
        return
    try:
        monitor_options()
    except AgentSSEError as error:
        yield checks.Error(
            f"AGENT_SSE cannot be used: {error}",
            hint="The documentation's page reference/settings names every key, its default and its unit.",
            id="django_agent_sse.E001",
        )
