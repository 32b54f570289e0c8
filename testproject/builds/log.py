"""The log of one build: a topic, in which line 17 is the event at offset 17."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass

from django_agent_sse import Topic, event_log

PREFIX = "builds."
LINES = ("stdout", "stderr")
"""The events that are lines; ``sse_run`` publishes ``exit`` behind them."""


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


def exit_of(build_id: int) -> Exit | None:
    """The end of a build's command, once its log is complete."""
    topic = topic_of(build_id)
    state = topic.state()
    if state.closed is None or not state.top:
        return None
    (*_, last) = event_log().read_after(topic.name, state.top - 1).records or [None]
    if last is None or last.event.event != "exit":
        return None
    payload = json.loads(last.event.data)
    code = -signal.Signals[payload["signal"]] if payload["signal"] else payload["code"]
    return Exit(code=code, lines=last.offset - 1, reason=state.closed)


def topic_of(build_id: int) -> Topic:
    """The topic of a build's lines, and of nothing else."""
    return Topic(f"{PREFIX}{build_id}")


async def lines_of(topic: str) -> AsyncIterator[tuple[int, str]]:
    """The number and the text of each line that is kept."""
    log, after = event_log(), 0
    while records := (await log.aread_after(topic, after)).records:
        for record in records:
            if record.event.event in LINES:
                yield record.offset, record.event.data
        after = records[-1].offset
