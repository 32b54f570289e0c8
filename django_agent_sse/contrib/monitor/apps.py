"""The app: add ``"django_agent_sse.contrib.monitor"`` to ``INSTALLED_APPS``, beside ``"django_agent_sse"``."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MonitorConfig(AppConfig):
    """Has reporting start with the first request or stream, and lets the rest of the package see all processes."""

    name = "django_agent_sse.contrib.monitor"
    label = "agent_sse_monitor"
    verbose_name = _("Server-Sent Events: monitor")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.core.signals import request_started

        from django_agent_sse.streams import snapshot
        from django_agent_sse.streams.counters import counters
        from django_agent_sse.streams.registry import registry

        from .cluster import cluster_view
        from .service import monitor

        if monitor.begin not in counters.on_opened:
            counters.on_opened += (monitor.begin,)
        if monitor not in registry.companions:
            registry.companions.append(monitor)
        request_started.connect(monitor.first_request)
        snapshot.install(cluster_view)
