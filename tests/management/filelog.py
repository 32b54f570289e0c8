"""An event log that crosses processes by one file, for tests of the commands: as slow as it is simple."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable


class FileEventLog(MemoryEventLog):
    crosses_processes = True
    durable = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.path = Path(os.environ["FILE_LOG"])

    @contextmanager
    def _file(self, write: bool) -> Iterator[None]:
        if self.path.with_suffix(".away").exists():
            raise EventLogUnavailable("the file is away")
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                self._topics_by_name = pickle.loads(self.path.read_bytes())
            yield
            if write:
                self.path.with_suffix(".new").write_bytes(pickle.dumps(self._topics_by_name))
                self.path.with_suffix(".new").rename(self.path)


def _locked(name: str, write: bool) -> Callable[..., Any]:
    def method(self: FileEventLog, *args: Any) -> Any:
        with self._file(write):
            return getattr(MemoryEventLog, name)(self, *args)

    return method


for name in ("_append", "_close", "_delete", "_trim"):
    setattr(FileEventLog, name, _locked(name, True))
for name in ("_read_after", "_state", "_heads", "_topics"):
    setattr(FileEventLog, name, _locked(name, False))
