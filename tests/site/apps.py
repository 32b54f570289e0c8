"""The site's app: nothing but what the environment changes in the package's module constants."""

from __future__ import annotations

import os

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Applies ``SITE_QUIET_SECONDS``."""

    name = "tests.site"
    label = "live_site"

    def ready(self) -> None:
        """Shorten the time after which idle connections are closed, and the monitor of a process without streams ends."""
        if quiet := os.environ.get("SITE_QUIET_SECONDS"):
            from django_agent_sse.eventlog import threads as log_threads
            from django_agent_sse.hub import reporter
            from django_agent_sse.streams import workers

            workers.QUIET_SECONDS = log_threads.QUIET_SECONDS = reporter.QUIET = float(quiet)
