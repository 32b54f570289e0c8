"""How often a server that is away is tried, and what is said meanwhile."""

from __future__ import annotations

import logging

import pytest

from django_agent_sse.runtime.backoff import Backoff, FailureLog

FIRST, LONGEST = 0.05, 5.0
LOGGER = "tests.failures"


def test_tries_become_rare_and_no_two_processes_keep_step() -> None:
    many = [Backoff(FIRST, LONGEST) for _ in range(50)]
    for failures in range(30):
        pauses = [one.next() for one in many]
        most = min(LONGEST, FIRST * 2.0**failures)
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len({*pauses}) > 40, "by chance"
    assert most == LONGEST
    many[0].reset()
    assert many[0].next() <= FIRST


def test_a_server_that_asks_for_a_pause_gets_it_and_jitter_is_bounded() -> None:
    backoff = Backoff(1.0, 8.0, jitter=0.25)
    assert 7 <= backoff.next(at_least=7) <= 7 * 1.25
    assert 0.75 * 6 <= backoff.next(first=3) <= 6, "the second failure, of another first pause"
    exact = Backoff(1.0, 3.0, jitter=0.0)
    assert [exact.next() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    assert all(0 <= pause <= 1 for pause in [Backoff(1.0, 1.0, jitter=1.0).next() for _ in range(20)])


def test_that_it_fails_is_said_once_and_that_this_is_over_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    failures = FailureLog("the server of CACHES['default'] is away", "Nothing is lost.", logger=LOGGER, first=FIRST)
    failures.recovered()
    for number in range(3):
        assert failures.failed(OSError("connection refused")) <= FIRST * 2.0**number
    assert failures.kind == "OSError", "what others may see: the kind, and not the words"
    assert failures.now == "the server of CACHES['default'] is away: OSError"
    failures.recovered()
    assert (failures.kind, failures.now, failures.failures) == (None, "", 0)
    failing, over = caplog.messages
    assert "connection refused" in failing
    assert "Nothing is lost." in failing
    assert over == "works again after 3 failures: the server of CACHES['default'] is away"
    assert failures.failed(OSError()) <= FIRST, "it begins anew"


def test_a_failure_that_nobody_minds_is_not_said_nor_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    for logger, quietly in ((LOGGER, True), (None, False)):
        failures = FailureLog("it fails", "", logger=logger)
        failures.failed(OSError(), quietly=quietly)
        assert failures.now
        failures.recovered()
    assert caplog.messages == []
