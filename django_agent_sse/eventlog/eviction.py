"""Eviction of topics beyond ``MAX_TOPICS``: how long those stay that are followed, and how it is reported."""

from __future__ import annotations

import logging
import threading
import time

from ..runtime.process import on_exit, on_fork
from ..runtime.safe_text import without_run_id
from ..wire.event import RESERVED

logger = logging.getLogger("django_agent_sse.eventlog")

FOLLOWED_FOR = 180.0
"""Seconds for which a topic is kept after a process has noted that it is followed there."""
NOTE_EVERY = 60.0
"""Seconds between two notes of a topic that goes on being followed: twice may fail before a topic is at risk."""
DELETED_FOR = 86_400.0
"""Seconds for which it is known that somebody deleted a topic. A topic that is gone for no known reason was lost or evicted."""
FIRST_REPORT = 1.0
"""Seconds after the first eviction until it is logged, with all that came since."""
NEXT_REPORT = 60.0
"""Seconds between two such lines, at least."""
SHOWN = 3


class Evictions:
    """Logs evictions: one line with a count for each burst of them."""

    def __init__(self) -> None:
        self._forget()
        on_fork(self._forget)

    def _forget(self) -> None:
        """Start over, as after a fork, which copies no timer."""
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._told_at = -NEXT_REPORT
        self._count = 0
        self._first: list[str] = []
        self._most = 0.0

    def count(self, topic: str, most: float) -> None:
        with self._lock:
            self._count += 1
            self._most = most
            if len(self._first) < SHOWN:
                self._first.append(topic)
            if self._timer is None:
                wait = max(FIRST_REPORT, NEXT_REPORT - (time.monotonic() - self._told_at))
                self._timer = threading.Timer(wait, self.tell)
                self._timer.daemon = True
                try:
                    self._timer.start()
                except RuntimeError:  # the interpreter ends
                    self._timer = None

    def reset(self) -> None:
        """Forget what was counted without logging it. For tests."""
        timer = self._timer
        self._forget()
        if timer is not None:
            timer.cancel()

    def tell(self) -> None:
        with self._lock:
            count, first, self._count, self._first = self._count, self._first, 0, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._told_at = time.monotonic()
        if count:
            names = ", ".join(map(repr, map(without_run_id, first))) + (", …" if count > len(first) else "")
            logger.warning(
                "MAX_TOPICS (%d) is reached: evicted %d %s to make room for new ones (%s). Their events are gone; whoever "
                "follows them is told (sse.gap). Delete topics that are no longer needed, or raise MAX_TOPICS",
                self._most,
                count,
                "topic" if count == 1 else "topics",
                names,
            )


evictions = Evictions()
on_exit(evictions.tell)  # a command that ends at once has its line too


def is_internal(topic: str) -> bool:
    """Return whether a topic is the package's own, which is not evicted and does not count towards ``MAX_TOPICS``."""
    return topic.startswith(RESERVED)
