"""How often a server that is away is tried, and what is said meanwhile."""

from __future__ import annotations

import logging

import pytest

from django_agent_sse.runtime.backoff import FIRST, LONGEST, Retrying


def test_tries_become_rare_and_no_two_processes_keep_step() -> None:
    many = [Retrying("the server") for _ in range(50)]
    for failures in range(30):
        pauses = [one.failed(OSError("away")) for one in many]
        most = min(LONGEST, FIRST * 2.0**failures)
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len({*pauses}) > 40, "by chance"
    assert most == LONGEST
    many[0].over()
    assert many[0].failed(OSError("away")) <= FIRST


def test_that_it_fails_is_said_once_and_that_this_is_over_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_agent_sse.notify")
    one = Retrying("CACHES['default']")
    one.over()
    for _ in range(3):
        one.failed(OSError("connection refused"))
    assert one.why == "OSError", "what others may see: the kind, and not the words"
    one.over()
    assert one.why is None
    failing, over = caplog.messages
    assert "CACHES['default']" in failing
    assert "connection refused" in failing
    assert over == "the doorbells of CACHES['default'] come in again, after 3 failures"
