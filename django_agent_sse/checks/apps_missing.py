"""System checks about an app of the package that a project uses and has not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.template.autoreload import get_template_directories

from .urls import routes, view_options

MONITOR = "django_agent_sse.contrib.monitor"
_PAGES = re.compile(r"(?:agent_sse_monitor|django_agent_sse)[_/]livestreams")
"""What an address or the name of a URL of the monitor's pages holds, of today or from when they were the core's."""
MAX_TEMPLATES = 2_000
"""Templates that are searched at most: a check must not hold up each start of ``runserver``."""


def no_monitor() -> Iterator[checks.CheckMessage]:
    """Warn of a project that configures the monitor, or leads to its pages, without its app."""
    if not apps.is_installed(MONITOR) and (use := _use_of_the_monitor()):
        yield checks.Warning(
            f"{use}, and {MONITOR!r} is not installed: nobody collects what streams do, and there is no such page",
            hint=f"Add {MONITOR!r} to INSTALLED_APPS and run `manage.py migrate`, or take that out.",
            id="django_agent_sse.W014",
        )


def _use_of_the_monitor() -> str:
    given = getattr(settings, "AGENT_SSE", {})
    if isinstance(given, Mapping) and "MONITOR" in given:
        return "AGENT_SSE['MONITOR'] is set"
    for pattern, _ in routes():
        if any(_PAGES.search(str(view_options(pattern).get(name, ""))) for name in ("pattern_name", "url")):  # a RedirectView
            return f"the route {str(pattern.pattern)!r} redirects to a page of the monitor"
    folders = (folder for folder in sorted(get_template_directories()) if not folder.is_relative_to(_OURS))
    for template in islice(chain.from_iterable(folder.rglob("*.html") for folder in folders), MAX_TEMPLATES):
        if _PAGES.search(template.read_text(errors="replace")):
            return f"the template {template} links to a page of the monitor"
    return ""


_OURS = Path(__file__).resolve().parents[1]
