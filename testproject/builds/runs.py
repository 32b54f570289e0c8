"""Builds are started, wait their turn, and are cancelled: by any process, for each runs in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone

from . import holds, overview
from .log import topic_of
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
        LookupError: Settings know the recipe no more, or there was none.
    """
    recipe = all_recipes().get(build.recipe)
    if recipe is None:
        raise LookupError(f"There is no recipe for {build.label!r}.")
    return start(recipe, user)


def begin(recipe: Recipe | None, command: list[str]) -> tuple[Build, int]:
    """A build that runs in this process, and does not wait; with its hold."""
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
    if not build.is_over and (process := holds.holder(build_id)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    go_on()
    return True


def recover() -> None:
    """Record as lost what runs according to the database and nowhere else, and let others have its place."""
    running = Build.objects.filter(status=Build.Status.RUNNING).values_list("pk", flat=True)
    if not (gone := [pk for pk in running if holds.holder(pk) is None]):
        return
    with _turn():  # whoever has recorded an end has done so by now
        for build in Build.objects.filter(pk__in=gone, status=Build.Status.RUNNING):
            if holds.holder(build.pk) is None:
                end(build, Build.Status.LOST)  # when it ended, nobody knows
    go_on()


def stop_all(seconds: float) -> None:
    """Cancel everything, and give it so long to end; then its processes are killed, and end what they have started."""
    going = Build.objects.filter(status__in=[Build.Status.QUEUED, Build.Status.RUNNING]).order_by("-pk")
    for pk in [*going.values_list("pk", flat=True)]:
        cancel(pk)
    deadline = time.monotonic() + seconds
    running = [*Build.objects.filter(status=Build.Status.RUNNING).values_list("pk", flat=True)]
    while (left := [pk for pk in running if holds.holder(pk) is not None]) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in {*filter(None, map(holds.holder, left)), *(child.pid for child in _children if child.poll() is None)}:
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
        build, hold = claimed
        _children[:] = [child for child in _children if child.poll() is None]
        command = [sys.executable, str(MANAGE), "run_build", "--claimed", str(build.pk), "--hold", str(hold)]
        try:
            child = subprocess.Popen(
                command,
                cwd="/",
                env={**os.environ, "TESTPROJECT_STATE": str(settings.STATE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[hold],
                start_new_session=True,  # it is not the server's to end
            )
        finally:
            os.close(hold)
        _children.append(child)


def _claim() -> tuple[Build, int] | None:
    with _turn():
        if Build.objects.filter(status=Build.Status.RUNNING).count() >= settings.BUILDS_AT_ONCE:
            return None
        build = Build.objects.filter(status=Build.Status.QUEUED).order_by("pk").first()
        return (build, _enter(build)) if build else None


def _enter(build: Build) -> int:
    hold = holds.take(build.pk)
    build.status, build.started_at = Build.Status.RUNNING, timezone.now()
    build.save(update_fields=["status", "started_at"])
    overview.tell(build)
    return hold


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
