"""``manage.py sse_stop``: ask a run to stop."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ...runs.state import stop_run
from ...runtime.safe_text import printable
from ..arguments import topic
from ..command import SSECommand, shared_log


class Command(SSECommand):
    help = (
        "Ask the run that writes a topic to stop, in whatever process it works. What it has written stays, and its readers see "
        "that it was stopped. Its code has a few seconds to clean up."
    )
    takes = "TOPIC [RUN]"
    examples = """examples:
  manage.py sse_stop runs.42  the run that writes runs.42 now
  manage.py sse_stop runs.42 run_Jx0nT1cUq3yQ4n9p
                              this one only, not one that has begun since

sse_topics shows which runs there are.

exit codes:
  0    it was asked to, or is over already
  1    there is no such run, or the event log cannot be reached
  2    wrong arguments
  130  Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("topic", metavar="TOPIC", type=topic, help="the topic that it writes")
        parser.add_argument("run", metavar="RUN", nargs="?", help="its id; without it, whichever writes the topic now")

    def handle(self, *args: Any, topic: str, run: str | None, **options: Any) -> None:
        found = stop_run(shared_log(), topic, run)
        about = f"the run {printable(found.id)} of {printable(topic)}"
        asked = f"asked {about} to stop"
        self.stdout.write(asked if found.ending is None else f"{about} is over: {printable(found.ending)}")
