"""The site's app: nothing but what the environment changes in the package's module constants."""

from __future__ import annotations

import gc
import os

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Applies ``SITE_QUIET_SECONDS``, ``SITE_PATIENCE`` and ``SITE_COLLECT``."""

    name = "tests.site"
    label = "live_site"

    def ready(self) -> None:
        """Turn the collector off; shorten the time after which connections are closed and a monitor without streams ends.

        And lengthen the time for which a stream waits for the counts that processes share.
        """
        if os.environ.get("SITE_COLLECT") == "0":
            gc.disable()
        if quiet := os.environ.get("SITE_QUIET_SECONDS"):
            from django_agent_sse.contrib.monitor import reporter
            from django_agent_sse.runtime import pools as log_threads
            from django_agent_sse.runtime import worker_threads

            worker_threads.IDLE_SECONDS = log_threads.IDLE_SECONDS = reporter.UNUSED_SECONDS = float(quiet)
        if patience := os.environ.get("SITE_PATIENCE"):
            from django_agent_sse.streams import shared_counts

            shared_counts.PATIENCE = float(patience)
