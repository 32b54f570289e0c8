"""``manage.py run_build``: one build in this terminal, seen live by every open page."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, transaction

from builds import overview, runs
from builds.log import lines_of, topic_of
from builds.models import Build
from builds.progress import Meter, Progress
from builds.recipes import all_recipes
from django_agent_sse.exceptions import EventLogUnavailable

logger = logging.getLogger("builds")

KILL_AFTER = "2s"
"""What a cancelled build, and what a build leaves behind, gets to end by itself."""
WATCH_INTERVAL = 0.25
"""Seconds between two looks at a build that runs."""
LINES_AT_ONCE = 10_000
"""Lines that are read in one look: a build that prints faster is cancelled as soon as another."""


class Command(BaseCommand):
    help = (
        "Run a recipe, or any command after --, as a build, with sse_run: it is on the list and in the admin like every other, "
        "its log is followed live there, and it can be cancelled there. Ends with the command's exit code; Ctrl-C cancels it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("recipe", nargs="?", choices=all_recipes(), help="what to build")
        parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="any command instead, as in: -- make test")
        parser.add_argument("--quiet", action="store_true", help="do not print here what it prints")
        parser.add_argument("--claimed", type=int, help=argparse.SUPPRESS)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.__class__ = _Parser
        return parser

    def handle(self, *args: Any, recipe: str | None, command: list[str], claimed: int | None, **options: Any) -> None:
        if claimed is not None:
            build = Build.objects.get(pk=claimed)
        elif bool(recipe) == bool(command):
            raise CommandError(f"Name a recipe ({', '.join(all_recipes())}), or give a command after --")
        else:
            build = runs.begin(recipe or "", command)
            self.stderr.write(self.style.NOTICE(f"Build {build.pk}: {build.label}"), lambda text: text)
        try:
            if not build.cancelling:
                self._run(build, ["--quiet"] if options["quiet"] else [])
        except KeyboardInterrupt:  # before sse_run has taken the signals over
            Build.objects.filter(pk=build.pk).update(cancelling=True)
            raise
        finally:
            runs.recover(ended=build.pk)

    def _run(self, build: Build, options: list[str]) -> None:
        """Run the build's command to its end; ``SystemExit`` with its exit code, if that is not 0."""
        folder = runs.folder_of(build.pk)
        folder.mkdir()
        recipe = all_recipes()[build.recipe] if build.recipe else None
        command, cwd = (recipe.command(folder), str(recipe.cwd)) if recipe else (build.command, os.curdir)
        arguments = [topic_of(build.pk).name, f"--kill-after={KILL_AFTER}", *options, "--", *command]
        with contextlib.chdir(cwd), _environment(), _watched(build):
            call_command("sse_run", *arguments, stdout=sys.stdout, stderr=sys.stderr)


@contextlib.contextmanager
def _watched(build: Build) -> Iterator[None]:
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


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What the command inherits: this process's environment without its Django, output as UTF-8, without colours."""
    before = dict(os.environ)
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    os.environ.update(PYTHONIOENCODING="utf-8", NO_COLOR="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Parser(CommandParser):
    """What stands after ``--`` is the command, whatever it looks like."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        split = arguments.index("--") if "--" in arguments else len(arguments)
        parsed = super().parse_args(arguments[:split], namespace)
        parsed.command = arguments[split + 1 :]
        return parsed
