"""The memory that all rings and pages of the process share."""

from __future__ import annotations

import threading


class Budget:
    """The bytes of all rings and pages of the process. Over the limit, the feed that grows gives up its own oldest for it."""

    def __init__(self, limit: int = 67_108_864) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def grow(self, by: int) -> None:
        """Add ``by`` bytes, or take them off. Thread-safe."""
        with self._lock:
            self.used += by

    @property
    def exceeded(self) -> bool:
        return self.used > self.limit


budget = Budget()
