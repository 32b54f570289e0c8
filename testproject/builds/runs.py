"""Builds are started, wait their turn, and are cancelled: by any process, for each runs in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from .recipes import Recipe, all_recipes

MANAGE = settings.BASE_DIR / "manage.py"
USUAL_OF = 5
"""Builds of which the usual duration is the median."""
_children: list[subprocess.Popen[bytes]] = []


class TooManyBuilds(Exception):
    """As many builds wait as may."""


def start(recipe: Recipe, user: Any = None) -> Build:
    """Start a build of ``recipe``, or let it wait; return when it is recorded.

    Raises:
        TooManyBuilds: ``settings.BUILDS_WAITING`` wait; nothing was recorded.
    """
    recover()
    with _turn():
        waiting = Build.objects.filter(status=Build.Status.QUEUED).count()
        if waiting >= settings.BUILDS_WAITING:
            raise TooManyBuilds(f"{waiting} builds are waiting. Start this one when some of them are over.")
        build = Build.objects.create(recipe=recipe.name, started_by_id=getattr(user, "pk", None), usual=_usual(recipe.name))
        overview.tell(build)
    go_on()
    return build


def again(build: Build, user: Any = None) -> Build:
    """Start another build of the same recipe.

    Raises:
        TooManyBuilds: See ``start``.
        LookupError: The settings no longer have its recipe, or it had none.
    """
    recipe = all_recipes().get(build.recipe)
    if recipe is None:
        raise LookupError(f"There is no recipe for {build.label!r}.")
    return start(recipe, user)


def begin(recipe: Recipe | None, command: list[str]) -> tuple[Build, int]:
    """Record a build that this process runs at once; return it with its lock."""
    with _turn():
        name = recipe.name if recipe else ""
        build = Build.objects.create(recipe=name, command=command, usual=_usual(name) if recipe else None)
        return build, _enter(build)


def cancel(build_id: int, user: Any = None) -> bool:
    """End a build that waits or runs; ``False`` where it does neither. What it printed stays."""
    by = getattr(user, "pk", None)
    with _turn():
        build = Build.objects.filter(pk=build_id).first()
        if build is None or build.is_over:
            return False
        build.cancelling, build.cancelled_by_id = True, by
        if build.status == Build.Status.QUEUED:
            end(build, Build.Status.CANCELLED, ended_at=timezone.now())
        else:
            build.save(update_fields=["cancelling", "cancelled_by"])
    if not build.is_over and (process := locks.holder(build_id)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    go_on()
    return True


def recover() -> None:
    """Record the end of builds that are over, and start what waits for their places.

    A build is over when ``sse_run`` has published its command's exit, or when its process is gone.
    """
    running = Build.objects.filter(status=Build.Status.RUNNING)
    if not (over := [build.pk for build in running if _is_over(build)]):
        return
    with _turn():
        for build in Build.objects.filter(pk__in=over, status=Build.Status.RUNNING):
            if _is_over(build):
                _record_end(build)
    go_on()


def _is_over(build: Build) -> bool:
    return locks.holder(build.pk) is None or exit_of(build.pk) is not None


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
    end(build, status, exit_code=command.code if command else None, lines=lines, ended_at=ended_at)
    shutil.rmtree(folder_of(build.pk), ignore_errors=True)


def folder_of(build_id: int) -> Path:
    """Where a build may write; it is deleted with the build's end."""
    return Path(settings.STATE) / f"build-{build_id}-files"


def stop_all(seconds: float) -> None:
    """Cancel everything, wait so long for its end, and then kill its processes: ``sse_run`` leaves nothing of theirs."""
    going = Build.objects.filter(status__in=[Build.Status.QUEUED, Build.Status.RUNNING]).order_by("-pk")
    for pk in [*going.values_list("pk", flat=True)]:
        cancel(pk)
    deadline = time.monotonic() + seconds
    running = [*Build.objects.filter(status=Build.Status.RUNNING).values_list("pk", flat=True)]
    while (left := [pk for pk in running if locks.holder(pk) is not None]) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in {*filter(None, map(locks.holder, left)), *(child.pid for child in _children if child.poll() is None)}:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def end(build: Build, status: Build.Status, **values: Any) -> None:
    """Record a build's end, tell everybody, and close its log: all of that or nothing."""
    with transaction.atomic():
        for name, value in {"status": status, "fraction": None, "step": "", **values}.items():
            setattr(build, name, value)
        build.save()
        overview.tell(build)
        topic_of(build.pk).close(str(status))


def go_on() -> None:
    """Start what waits, as long as there is room."""
    while (claimed := _claim()) is not None:
        build, lock = claimed
        _children[:] = [child for child in _children if child.poll() is None]
        command = [sys.executable, str(MANAGE), "run_build", "--claimed", str(build.pk), "--lock", str(lock)]
        try:
            child = subprocess.Popen(
                command,
                cwd="/",
                env={**os.environ, "TESTPROJECT_STATE": str(settings.STATE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[lock],
                start_new_session=True,  # it is not the server's to end
            )
        finally:
            os.close(lock)
        _children.append(child)


def _claim() -> tuple[Build, int] | None:
    with _turn():
        if Build.objects.filter(status=Build.Status.RUNNING).count() >= settings.BUILDS_AT_ONCE:
            return None
        build = Build.objects.filter(status=Build.Status.QUEUED).order_by("pk").first()
        return (build, _enter(build)) if build else None


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
