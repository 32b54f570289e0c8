"""The log of one build: a topic, in which line 17 is the event at offset 17."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from django_agent_sse import Topic, event_log

PREFIX = "builds."
LINES = ("stdout", "stderr")
"""The events that are lines; ``sse_run`` publishes ``exit`` after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a command ended, as ``sse_run`` has published it.

    Attributes:
        code: Its exit code; negative: the signal that ended it.
        lines: Those that it printed.
        reason: What the topic is closed with.
    """

    code: int
    lines: int
    reason: str


def topic_of(build_id: int) -> Topic:
    """The topic of a build's lines, and of nothing else."""
    return Topic(f"{PREFIX}{build_id}")


def exit_of(build_id: int) -> Exit | None:
    """The end of a build's command, once its log is complete."""
    state = topic_of(build_id).state()
    if state.closed is None or not state.top:
        return None
    for record in event_log().read_after(f"{PREFIX}{build_id}", state.top - 1).records:
        if record.event.event == "exit":
            payload = json.loads(record.event.data)
            code = -signal.Signals[payload["signal"]] if payload["signal"] else payload["code"]
            return Exit(code=code, lines=record.offset - 1, reason=state.closed)
    return None


def lines_of(build_id: int, after: int = 0) -> Iterator[tuple[int, str]]:
    """The number and the text of each line that is kept."""
    while records := event_log().read_after(f"{PREFIX}{build_id}", after).records:
        for record in records:
            if record.event.event in LINES:
                yield record.offset, record.event.data
        after = records[-1].offset
