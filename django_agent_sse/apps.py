"""The app: add ``"django_agent_sse"`` to ``INSTALLED_APPS``."""

from __future__ import annotations

import logging

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AgentSSEConfig(AppConfig):
    """Registers the system checks, listens to Django's signals, and keeps signatures out of gunicorn's access log."""

    name = "django_agent_sse"
    label = "django_agent_sse"
    verbose_name = _("Server-Sent Events")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from .access import django_signals
        from .checks import project
        from .eventlog import backend  # noqa: F401  it notes that this process serves requests, from the first one on
        from .signed_urls import HideSignature
        from .streams import callbacks, server_flags

        project.register()
        django_signals.connect()
        server_flags.look_at_start(callbacks.CLEANUP_SECONDS)
        logging.getLogger("gunicorn.access").addFilter(HideSignature())
