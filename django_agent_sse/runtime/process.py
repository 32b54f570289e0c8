"""What has to happen in a forked child and at the end of the process: the one place where it is registered."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  its own hook is registered first, so that ours run before executors end
import logging
import os
import threading
import weakref
from collections.abc import Callable

logger = logging.getLogger("django_agent_sse")

_Call = Callable[[], object]

_lock = threading.Lock()
_in_child: list[Callable[[], _Call | None]] = []
_at_exit: list[_Call] = []
_before_threads_end: list[_Call] = []


def on_fork(call: _Call) -> None:
    """Call *call* in each child that is forked from now on, in the order of registration.

    A child has none of its parent's threads, and its locks are as they stood at that moment: whatever has a thread, a lock or a
    socket starts over. A bound method is kept by a weak reference, so that registering one keeps no object alive.
    """
    known = weakref.WeakMethod(call) if hasattr(call, "__func__") else lambda: call
    with _lock:
        _in_child[:] = [other for other in _in_child if other() is not None]
        _in_child.append(known)


class PerProcess:
    """What each process has of its own: ``reset()`` begins it when it is made, and anew in a forked child."""

    def __init__(self) -> None:
        self.reset()
        on_fork(self.reset)

    def reset(self) -> None:
        raise NotImplementedError


def on_exit(call: _Call, *, twice: bool = False) -> None:
    """Call *call* when the process ends, the last registered first; ``twice``: also once before, while threads can be had."""
    _at_exit.append(call)
    # What still has to be sent may need a thread, to look up a host. Those end, and others are waited for, when the main thread
    # is through. Python has no public way to come before that: where the private one is missing, the other time is all there is.
    if twice:
        _before_threads_end.append(call)


def _forked() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for known in [*_in_child]:
        call = known()
        if call is not None:
            _guarded(call)


def _ends(calls: list[_Call]) -> None:
    for call in reversed(calls):
        _guarded(call)


def _guarded(call: _Call) -> None:
    try:
        call()
    except Exception:  # one that fails must not keep the others from their turn
        logger.exception("a hook for a fork or the end of the process has failed")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
atexit.register(_ends, _at_exit)
if (_register := getattr(threading, "_register_atexit", None)) is not None:
    _register(_ends, _before_threads_end)
