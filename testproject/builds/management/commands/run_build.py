"""``manage.py run_build``: one build in this terminal, seen live by every open page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from builds import runner, runs
from builds.log import Source
from builds.models import Build
from builds.recipes import all_recipes


class Command(BaseCommand):
    help = (
        "Run a recipe, or any command behind --, as a build: it is on the list and in the admin like every other, its log is "
        "followed live there, and it can be cancelled there. Ends with the command's exit code; Ctrl-C cancels it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("recipe", nargs="?", choices=all_recipes(), help="what to build")
        parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="any command instead, as in: -- make test")
        parser.add_argument("--quiet", action="store_true", help="do not print here what it prints")
        parser.add_argument("--claimed", type=int, help=argparse.SUPPRESS)
        parser.add_argument("--hold", type=int, help=argparse.SUPPRESS)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.__class__ = _Parser
        return parser

    def handle(
        self, *args: Any, recipe: str | None, command: list[str], claimed: int | None, hold: int | None, **options: Any
    ) -> None:
        if claimed is not None and hold is not None:
            code = runner.run(Build.objects.get(pk=claimed), hold, _nobody)
        elif bool(recipe) == bool(command):
            raise CommandError(f"Name a recipe ({', '.join(all_recipes())}), or give a command behind --")
        else:
            build, taken = runs.begin(all_recipes()[recipe] if recipe else None, command)
            self.stderr.write(self.style.NOTICE(f"Build {build.pk}: {build.label}"), lambda text: text)
            code = runner.run(build, taken, _nobody if options["quiet"] else self._echo)
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def _echo(self, source: Source, lines: Sequence[str]) -> None:
        out = self.stdout if source == "stdout" else self.stderr
        for line in lines:
            out.write(line, lambda text: text)
        out.flush()


class _Parser(CommandParser):
    """What stands behind ``--`` is the command, whatever it looks like."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        own, command = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
        found = super().parse_args(own, namespace)
        found.command = command
        return found


def _nobody(source: Source, lines: Sequence[str]) -> None:
    """Nobody reads this process's output."""
