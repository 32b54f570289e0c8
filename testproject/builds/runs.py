"""Builds are started, wait their turn, and are cancelled: by any process, for each runs in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone

from . import locks, overview
from .log import exit_of, topic_of
from .models import Build
from .recipes import all_recipes

MANAGE = settings.BASE_DIR / "manage.py"
USUAL_OF = 5
"""Builds of which the usual duration is the median."""
_children: list[subprocess.Popen[bytes]] = []


class CannotStart(Exception):
    """As many builds wait as may, or there is no such recipe; nothing was recorded."""


def start(recipe: str, user: Any = None, *, label: str = "") -> Build:
    """Start a build of the recipe with this name, or let it wait; return when it is recorded.

    Raises:
        CannotStart: ``settings.BUILDS_WAITING`` wait, or the settings have no such recipe (no more, if it was ``label``).
    """
    if recipe not in all_recipes():
        raise CannotStart(f"There is no recipe for {label or recipe!r}.")
    recover()
    with _turn():
        waiting = Build.objects.filter(status=Build.Status.QUEUED).count()
        if waiting >= settings.BUILDS_WAITING:
            raise CannotStart(f"{waiting} builds are waiting. Start this one when some of them are over.")
        build = Build.objects.create(recipe=recipe, started_by_id=getattr(user, "pk", None), usual=_usual(recipe))
        overview.tell(build)
    _go_on()
    return build


def begin(recipe: str, command: list[str]) -> Build:
    """Record a build that this process runs at once: of a recipe, or of a command."""
    with _turn():
        build = Build.objects.create(recipe=recipe, command=command, usual=_usual(recipe) if recipe else None)
        _enter(build)
    return build


def cancel(build_id: int, user: Any = None) -> bool:
    """End a build that waits, or ask the process that runs it to; ``False`` where it is over. What it printed stays."""
    with _turn():
        build = Build.objects.filter(pk=build_id).first()
        if build is None or build.is_over:
            return False
        build.cancelling, build.cancelled_by_id = True, getattr(user, "pk", None)
        if build.status == Build.Status.QUEUED:
            _end(build, Build.Status.CANCELLED, ended_at=timezone.now())
        else:
            build.save(update_fields=["cancelling", "cancelled_by"])
    return True


def recover(ended: int = 0) -> None:
    """Record the end of builds that are over, and start what waits for their places.

    A build is over when ``sse_run`` has published its command's exit, when its process is gone, or says so by ``ended``.
    """

    def is_over(build: Build) -> bool:
        return build.pk == ended or not locks.is_held(build.pk) or exit_of(build.pk) is not None

    running = Build.objects.filter(status=Build.Status.RUNNING)
    if any(map(is_over, running)):
        with _turn():
            for build in filter(is_over, running.all()):  # asked again: another process may have been first
                _record_end(build)
        _go_on()


def _record_end(build: Build) -> None:
    command = exit_of(build.pk)
    if build.cancelling or (command and command.reason == "cancelled"):
        status = Build.Status.CANCELLED
    elif command is None:
        status = Build.Status.LOST
    else:
        status = Build.Status.FAILED if command.code else Build.Status.PASSED
    ended_at = None if status == Build.Status.LOST else timezone.now()  # when it was lost, nobody knows
    lines = command.lines if command else topic_of(build.pk).state().top
    _end(build, status, exit_code=command.code if command else None, lines=lines, ended_at=ended_at)
    shutil.rmtree(folder_of(build.pk), ignore_errors=True)
    locks.file_of(build.pk).unlink(missing_ok=True)


def folder_of(build_id: int) -> Path:
    """Where a build may write; it is deleted with the build's end."""
    return Path(settings.STATE) / f"build-{build_id}-files"


def stop_all(seconds: float) -> None:
    """Cancel everything, wait so long for its end, and then kill its processes: ``sse_run`` leaves nothing of theirs."""
    going = Build.objects.filter(status__in=[Build.Status.QUEUED, Build.Status.RUNNING]).order_by("-pk")
    for pk in [*going.values_list("pk", flat=True)]:
        cancel(pk)
    deadline = time.monotonic() + seconds
    while any(child.poll() is None for child in _children) and time.monotonic() < deadline:
        time.sleep(0.02)
    for child in _children:
        child.kill()
        child.wait()


def _end(build: Build, status: Build.Status, **values: Any) -> None:
    """Record a build's end, tell everybody, and close its log: all of that or nothing."""
    with transaction.atomic():
        for name, value in {"status": status, "fraction": None, "step": "", **values}.items():
            setattr(build, name, value)
        build.save()
        overview.tell(build)
        topic_of(build.pk).close(str(status))


def _go_on() -> None:
    """Start what waits, as long as there is room."""
    while (claimed := _claim()) is not None:
        build_id, lock = claimed
        try:
            child = subprocess.Popen(
                [sys.executable, str(MANAGE), "run_build", "--quiet", "--claimed", str(build_id)],
                cwd="/",
                env={**os.environ, "TESTPROJECT_STATE": str(settings.STATE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[lock],
                start_new_session=True,  # it is not the server's to end
            )
        finally:
            os.close(lock)
        _children[:] = [child, *(other for other in _children if other.poll() is None)]


def _claim() -> tuple[int, int] | None:
    with _turn():
        if Build.objects.filter(status=Build.Status.RUNNING).count() >= settings.BUILDS_AT_ONCE:
            return None
        build = Build.objects.filter(status=Build.Status.QUEUED).order_by("pk").first()
        return (build.pk, _enter(build)) if build else None


def _enter(build: Build) -> int:
    lock = locks.take(build.pk)
    build.status, build.started_at = Build.Status.RUNNING, timezone.now()
    build.save(update_fields=["status", "started_at"])
    overview.tell(build)
    return lock


@contextmanager
def _turn() -> Iterator[None]:
    """One process at a time. The row that is locked exists in every database of the project."""
    with transaction.atomic():
        ContentType.objects.select_for_update().get(app_label="builds", model="build")
        yield


def _usual(recipe: str) -> float | None:
    passed = Build.objects.filter(recipe=recipe, status=Build.Status.PASSED)[:USUAL_OF]
    durations = [build.duration for build in passed if build.duration is not None]
    return median(durations) if durations else None
