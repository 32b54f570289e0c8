"""What each event loop has of its own, made where it is asked for first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .process import PerProcess

T = TypeVar("T")


class PerLoop(PerProcess, Generic[T]):
    """One object for each event loop of this process; those of loops that are closed are let go when the next one is made.

    Args:
        make: Makes that of a loop, on it.
    """

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], T]) -> None:
        self._make = make
        super().__init__()

    def reset(self) -> None:
        """Forget those of all loops; also after a fork."""
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, T] = {}

    def here(self) -> T:
        """Return that of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            with self._lock:
                others = {other: known for other, known in self._by_loop.items() if not other.is_closed()}
                found = others[loop] = self._make(loop)
                self._by_loop = others
        return found

    def all(self) -> list[T]:
        """Return those of all loops that are not closed."""
        # No lock: a signal handler may interrupt the very thread that holds it.
        return [found for loop, found in self._by_loop.items() if not loop.is_closed()]
