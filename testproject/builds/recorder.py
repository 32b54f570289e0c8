"""Records how far a build is, while ``sse_run`` runs its command."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from django.db import DatabaseError, connection, transaction

from . import overview
from .models import Build
from .progress import Meter

logger = logging.getLogger(__name__)

RECORD_INTERVAL = 0.25
"""Seconds between two records of how far a build is."""
LONGEST = 1000
"""Characters of a line that are kept until it ends; longer ones say nothing of progress."""


class MeteredOutput:
    """The stdout or stderr of ``sse_run``: what the command prints is metered, and printed unless ``quiet``."""

    def __init__(self, out: IO[str], meter: Meter, *, quiet: bool) -> None:
        self._out = out
        self._meter = meter
        self._quiet = quiet
        self._rest = ""

    @property
    def buffer(self) -> MeteredOutput:
        """Takes bytes, as that of a text stream."""
        return self

    def write(self, data: Any) -> int | None:
        """Print a sentence of ``sse_run``, a string, or take what the command printed, bytes."""
        if isinstance(data, str):
            return self._out.write(data)
        written: int | None = len(data)
        if not self._quiet:
            buffer: Any = self._out.buffer  # type: ignore[attr-defined]
            written = getattr(buffer, "raw", buffer).write(data)
        *lines, rest = (self._rest + bytes(data[:written]).decode("utf-8", "replace")).split("\n")
        self._rest = rest[-LONGEST:]
        self._meter.feed(lines)
        return written


@contextmanager
def recorded(build: Build, meter: Meter) -> Iterator[None]:
    """Meanwhile record how far the build is, and tell every page, from a thread: the command does not wait for the database."""
    over = threading.Event()
    thread = threading.Thread(target=_record, args=(build, meter, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _record(build: Build, meter: Meter, over: threading.Event) -> None:
    recorded = meter.progress
    try:
        while not over.wait(RECORD_INTERVAL):
            if meter.progress != recorded:
                recorded = meter.progress
                build.fraction, build.step = recorded.fraction, recorded.step or ""
                _save(build)
    finally:
        connection.close()


def _save(build: Build) -> None:
    try:
        with transaction.atomic():  # whoever records the build's end waits
            running = Build.objects.filter(pk=build.pk, status=Build.Status.RUNNING)
            if running.update(fraction=build.fraction, step=build.step):
                overview.tell(build)
    except DatabaseError:
        logger.exception("the progress of build %d could not be recorded", build.pk)
