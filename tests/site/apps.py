"""The site's app: nothing but what the environment changes in the package's module constants."""

from __future__ import annotations

import gc
import os
from importlib import import_module

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Applies what ``settings.py`` says that is read here."""

    name = "tests.site"
    label = "live_site"

    def ready(self) -> None:
        """Turn the collector off; shorten the time after which connections are closed and a monitor without streams ends.

        And lengthen the time for which a stream waits for the counts that processes share, that in which a process that ends
        writes and sends the ends of its runs and its last report, what it leaves of the time that its server has, and that in
        which a log may be slow before lines are left out.
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
        if ending := os.environ.get("SITE_ENDING"):
            import_module("django_agent_sse.runs.keeper").END_SECONDS = float(ending)
            import_module("django_agent_sse.streams.registry").LAST_EVENTS_SECONDS = float(ending)
            import_module("django_agent_sse.streams.shutdown").WAIT_SECONDS = float(ending)
            import_module("django_agent_sse.contrib.monitor.service").LAST_REPORT_SECONDS = float(ending)
        if left := os.environ.get("SITE_GRACE_LEFT"):
            import_module("django_agent_sse.streams.drain").GRACE_LEFT = float(left)
        if stall := os.environ.get("SITE_STALL"):
            import_module("django_agent_sse.topics.buffered_publisher").STALL_TIMEOUT = float(stall)
