"""What all commands of this package share: help that teaches, and a user's mistake is a sentence, never a traceback."""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from ..eventlog.backend import event_log
from ..eventlog.base import EventLog
from ..eventlog.records import TopicState
from ..exceptions import AgentSSEError
from ..runs.state import RunState, run_states
from ..runtime.safe_text import printable
from ..runtime.under_test import under_test

LONGEST = 2000
"""Characters of one sentence on stderr, or of a line about one thing, at most."""
PAGE = 200
"""Names of topics that are asked for at once."""
INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as of every program that a shell runs."""


class SSEParser(CommandParser):
    """Refuses arguments in one line without control characters: a script may have got them from anywhere."""

    def error(self, message: str) -> Any:
        return super().error(printable(message, LONGEST))


class SSECommand(BaseCommand):
    """A command over the event log, or over HTTP.

    Attributes:
        takes: The arguments, as the first line of ``--help`` shows them after the options.
        examples: What ``--help`` ends with: commands to copy, and the exit codes.
        parser_class: Parses what was typed.
    """

    takes: ClassVar[str] = ""
    examples: ClassVar[str] = ""
    parser_class: ClassVar[type[SSEParser]] = SSEParser
    requires_system_checks: Sequence[str] = ()  # type: ignore[assignment]  # a command that runs under cron does one thing

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        self.name = subcommand
        parser = super().create_parser(
            *(prog_name, subcommand),
            formatter_class=_HelpFormatter,
            usage=f"%(prog)s [options] {self.takes}",
            epilog=self.examples,
            **kwargs,
        )
        parser.__class__ = self.parser_class
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run it.

        Raises:
            CommandError: With the sentence of what was refused, safe for a terminal.
        """
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            error.args = (printable(error, LONGEST),)
            raise
        except AgentSSEError as error:
            error.args = (printable(error, LONGEST),)  # --traceback shows it too
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # `| head` has seen enough
            self._forget_stdout()
            return None

    def tell(self, text: str) -> None:
        """Say something about what goes on, on stderr: stdout is for what was asked for.

        Whatever a stream, a server or a log put into ``text``, a terminal gets one line without control characters.
        """
        self.stderr.write(self.style.WARNING(printable(f"{self.name}: {text}", LONGEST)), lambda text: text)  # no error's colour
        self.stderr.flush()

    def _forget_stdout(self) -> None:
        """Python writes what it still holds at its end, and would complain then."""
        try:
            descriptor = self.stdout.fileno()
        except (AttributeError, OSError, ValueError):
            return
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, descriptor)
        os.close(devnull)


def shared_log() -> EventLog:
    """The event log, where a process of a command's own can use it.

    Raises:
        CommandError: It is one of another process, with what to do about it.
        ConfigurationError: ``AGENT_SSE["EVENT_LOG"]`` names none.
    """
    log = event_log()
    if not (log.crosses_processes or under_test()):
        raise CommandError(
            f"{type(log).__name__} keeps its topics in the memory of one process: this command, in a process of its own, neither "
            "sees what the server has nor can add to it. Set AGENT_SSE['EVENT_LOG'] to a log that crosses processes, such as "
            "{'BACKEND': 'django_agent_sse.eventlog.database.DatabaseEventLog'}. (A server's streams can be followed without: "
            "sse_tail http://…)"
        )
    return log


def topics_of(log: EventLog, prefix: str = "", *, internal: bool = False) -> Iterator[tuple[str, TopicState]]:
    """The topics whose names begin so, sorted, with their states; or those of the package's own (``internal``)."""
    names = (name for name in log.internal_topics() if name.startswith(prefix)) if internal else _names(log, prefix)
    for name in names:
        state = log.state(name)
        if state.exists:  # it may have gone meanwhile
            yield name, state


def with_runs(log: EventLog, topics: Iterable[tuple[str, TopicState]]) -> Iterator[tuple[str, TopicState, RunState | None]]:
    """The same topics, each with its run, if one writes it or has. One whose process has died is closed as lost on the way."""
    topics = iter(topics)
    while page := [*islice(topics, PAGE)]:
        runs = run_states(log, [name for name, _ in page])
        for name, state in page:
            run = runs.get(name)
            ended = run is not None and run.ending is not None and state.closed is None
            yield name, log.state(name) if ended else state, run


def _names(log: EventLog, prefix: str) -> Iterator[str]:
    after = ""
    while names := log.topics(prefix, after=after, limit=PAGE):
        yield from names
        after = names[-1]


def several(number: int, thing: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order of options; examples as they are written, paragraphs as wide as the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else textwrap.fill(text, width)
