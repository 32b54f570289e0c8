"""What is told of a stream's end, all of it in one place: for ``test_endings``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.streams.endings import Ending
from tests.inprocess import Diary, eventually

REGULAR = ["finally", "on_end"]
ABORTED = ["on_abort", "cancelled", "finally", "on_end"]


class Life:
    """A handler that says hello and stays, and what is told of its end."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.diary = Diary()
        self.signals: list[dict[str, Any]] = []
        self.caplog = caplog
        self.ids: list[str | None] = []

    def note_signal(self, *, stream: Stream, **told: Any) -> None:
        self.signals.append(told)

    async def stay(self, c: Context, stream: Stream) -> None:
        self.ids.append(c.last_event_id)
        async with self.diary.of(stream):
            await stream.write("hello", id="e.1")
            await asyncio.Event().wait()

    async def must_be(self, ending: Ending, steps: list[str], events: int = 1) -> None:
        """The word is everywhere the same, and the steps were these."""
        await eventually("the signal is sent", lambda: self.signals)
        assert self.diary == steps
        assert self.diary.stream.ending is ending
        assert self.diary.stream.closed
        assert self.diary.stream.aborted is ("on_abort" in steps)
        (signal,) = self.signals
        (record,) = [one for one in self.caplog.records if one.getMessage().startswith("stream closed")]
        assert record.levelno == logging.INFO
        assert record.name == "django_agent_sse.stream"
        assert record.route == "stream/<int:number>/"  # type: ignore[attr-defined]
        logged = {name: getattr(record, name) for name in ("ending", "duration", "events", "bytes")}
        assert {name: signal[name] for name in logged} == logged
        assert logged["ending"] == str(ending)
        assert logged["events"] == events
        assert logged["duration"] >= 0
