"""What goes on beside a build's command: how far it is is recorded, and somebody may cancel it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from django.db import DatabaseError, connection, transaction

from django_agent_sse.exceptions import EventLogUnavailable

from . import overview
from .log import lines_of
from .models import Build
from .progress import Meter, Progress

logger = logging.getLogger(__name__)

WATCH_INTERVAL = 0.25
"""Seconds between two looks at a build that runs."""
LINES_AT_ONCE = 10_000
"""Lines that are read in one look: a build that prints faster is cancelled as soon as another."""


@contextmanager
def watched(build: Build) -> Iterator[None]:
    """Meanwhile record how far the build is, tell every page, and end it when somebody cancels it.

    A thread does so: the command does not wait for the database. Whoever cancels a build may be another process, on another
    machine too, so it asks the database.
    """
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(build, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(build: Build, over: threading.Event) -> None:
    meter, read = Meter(), 0
    try:
        while not over.wait(WATCH_INTERVAL):
            try:
                build.refresh_from_db(fields=["cancelling"])
                if build.cancelling:
                    os.kill(os.getpid(), signal.SIGTERM)  # sse_run passes it on
                    return
                lines = [*islice(lines_of(build.pk, read), LINES_AT_ONCE)]
                read = lines[-1][0] if lines else read
                if meter.feed(text for _, text in lines):
                    _record(build, meter.progress)
            except (DatabaseError, EventLogUnavailable):
                logger.exception("the progress of build %d could not be recorded", build.pk)
    finally:
        connection.close()


def _record(build: Build, progress: Progress) -> None:
    build.fraction, build.step = progress.fraction, progress.step or ""
    with transaction.atomic():  # whoever records the build's end waits
        running = Build.objects.filter(pk=build.pk, status=Build.Status.RUNNING)
        if running.update(fraction=build.fraction, step=build.step):
            overview.tell(build)
