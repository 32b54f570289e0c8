"""An event log in memory that finds its topics again when the process was killed: it keeps a journal."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings

from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.records import Appended
from django_agent_sse.wire import Event


class JournalEventLog(MemoryEventLog):
    """Written to a file at each append, read when it is made; epochs and offsets are what they were."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        path = settings.HOME / "journal.jsonl"
        self._journal = None
        for line in path.read_text().splitlines() if path.exists() else ():
            topic, epoch, events, closed = json.loads(line)
            if events:
                self._append(topic, [(Event(data, event=name), size) for name, data, size in events], None, None)
            if closed is not None:
                self._close(topic, closed)
            self._topics_by_name[topic].epoch = epoch
        self._journal = path.open("a")

    def _append(self, topic: str, events: list[tuple[Event, int]], expect: int | None, key: str | None) -> Appended:
        appended = super()._append(topic, events, expect, key)
        self._note(topic, appended.epoch, [(event.event, event.data, size) for event, size in events], None)
        return appended

    def _close(self, topic: str, reason: str) -> bool:
        closed = super()._close(topic, reason)
        self._note(topic, self._topics_by_name[topic].epoch, [], reason)
        return closed

    def _note(self, *entry: object) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()
