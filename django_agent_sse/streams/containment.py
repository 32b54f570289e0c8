"""One bad handler ends one stream: exits and other exceptions of a project's code, before they reach a server or an event loop.

A ``SystemExit`` in a task ends the loop, and with it every stream of the process; ``argparse`` in code that a handler calls is
enough. Only what the process itself is told, by a signal, may end it.
"""

from __future__ import annotations

import asyncio

from ..exceptions import CodeExited
from .registry import registry


def contained(error: BaseException, code: str) -> Exception:
    """The error to report for what a project's code raised: itself, or ``CodeExited`` for what would end more than that code.

    Args:
        error: What was raised; no ``CancelledError`` of ours.
        code: Whose it was, for the message: ``"the handler of builds/"``.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    outside = CodeExited(
        f"{code} raised {type(error).__name__}({', '.join(map(repr, error.args))}), which ends this stream only; "
        "raise an ordinary exception, or catch it where the code that exits is called"
    )
    outside.__cause__ = error
    return outside


def ends_process(error: BaseException, task: asyncio.Task[object] | None) -> bool:
    """Whether an exception is not the code's own: Ctrl-C, or the end of a coroutine that nobody will finish.

    Args:
        error: What came out of a project's code.
        task: The task that the code was called in.
    """
    if isinstance(error, KeyboardInterrupt):
        return registry.closing  # the handler of SIGINT has been here
    return isinstance(error, GeneratorExit) and _current_task() is not task


def heed_cancel(task: asyncio.Task[object]) -> bool:
    """Take a task's cancellation as done, so that it may await again; whether there was one."""
    cancelled = task.cancelling() > 0
    while task.cancelling():
        task.uncancel()
    return cancelled


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
