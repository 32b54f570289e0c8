"""Whether this process runs tests: importing ``django_agent_sse.testing`` says so, as its plugin for pytest does."""

from __future__ import annotations

_testing = False


def set_under_test(testing: bool = True) -> None:
    """Leave nothing behind from now on that is in a test's way; with ``False``, behave as in production again.

    The threads of this process keep no database connection between two calls, so that a test runner can drop its database; the
    monitor reports nothing; and a log in memory may be used though this process has served no request.
    """
    global _testing
    _testing = testing


def under_test() -> bool:
    """Return what was set last."""
    return _testing
