"""Sphinx: ``python -m sphinx -W -b html docs docs/_build/html``."""

from __future__ import annotations

import django
from django.conf import settings
from sphinx.application import Sphinx

import django_agent_sse
from django_agent_sse import logs, signed_urls
from django_agent_sse.runtime import worker_threads
from django_agent_sse.streams import (
    buffer,
    callbacks,
    departures,
    kv,
    last_event_id,
    reporting,
    shared_counts,
    slow_clients,
    transport,
)
from django_agent_sse.wire import MAX_RETRY

OURS = ("django_agent_sse", "django_agent_sse.contrib.monitor")
CONTRIB = ("admin", "auth", "contenttypes", "messages", "sessions")
settings.configure(INSTALLED_APPS=[*(f"django.contrib.{app}" for app in CONTRIB), *OURS])
django.setup()

project = "django-agent-sse"
author = "The django-agent-sse developers"
project_copyright = "The django-agent-sse developers"
version = release = django_agent_sse.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "any"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"django-agent-sse {release}"

# Numbers that the pages name, from the code.
_NUMBERS = {
    "cleanup_seconds": callbacks.CLEANUP_SECONDS,
    "limits_lease": shared_counts.LEASE,
    "limits_places": shared_counts.PLACES,
    "limits_patience": shared_counts.PATIENCE,
    "clocks_differ": signed_urls.CLOCKS_DIFFER,
    "closing_limit": departures.CLOSING_LIMIT,
    "closing_timeout": departures.CLOSING_TIMEOUT,
    "lowest_rate": slow_clients.LOWEST_RATE,
    "kv_key_length": kv.MAX_KEY_LENGTH,
    "last_retry_seconds": reporting.LAST_RETRY / 1000,
    "max_count": logs.MAX_COUNT,
    "max_id_bytes": last_event_id.MAX_BYTES,
    "max_retry": MAX_RETRY,
    "overflow": buffer.OVERFLOW,
    "quiet_seconds": worker_threads.IDLE_SECONDS,
    "stuck_seconds": transport.STUCK_SECONDS,
}
rst_prolog = "\n".join(
    f".. |{name}| replace:: {number if isinstance(number, int) else format(number, 'g')}" for name, number in _NUMBERS.items()
)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _keep_sentence, priority=400)  # before napoleon


def _keep_sentence(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Napoleon takes ``Words: text`` at the start of a property's docstring for its type."""
    if what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)
