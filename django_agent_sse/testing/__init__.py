"""For the tests of projects that stream.

- ``SSEClient``: asks the project's ASGI application in this process, and reads streams without ever hanging
- ``ClientStream``: one response that it got
- ``StreamTimeout``: what it raises instead of hanging
- ``fresh_log``, ``PublishedLog``: an event log of a test's own, and what was published to it
- ``SSETestMixin``: the same for ``TestCase``; pytest has the fixture ``sse_log``
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..runtime.under_test import set_under_test

set_under_test()

_HOMES = {
    "ClientStream": "client",
    "PublishedLog": "log",
    "SSEClient": "client",
    "SSETestMixin": "log",
    "StreamTimeout": "client",
    "fresh_log": "log",
}

__all__ = ["ClientStream", "PublishedLog", "SSEClient", "SSETestMixin", "StreamTimeout", "fresh_log"]

if TYPE_CHECKING:
    from .client import ClientStream, SSEClient, StreamTimeout
    from .log import PublishedLog, SSETestMixin, fresh_log


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
