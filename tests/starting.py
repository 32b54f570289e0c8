"""The threads that a piece of code starts, in tests that count them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def threads_begun() -> Iterator[list[threading.Thread]]:
    """Those that this thread starts meanwhile: others of the process may start some, too."""
    begun: list[threading.Thread] = []
    own, start = threading.current_thread(), threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        if threading.current_thread() is own:
            begun.append(thread)
        start(thread)

    threading.Thread.start = noted  # type: ignore[method-assign]
    try:
        yield begun
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
