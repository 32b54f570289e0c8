"""The log of a build, as ``sse_run`` writes it: its lines, and how its command ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from builds.log import Exit, exit_of, lines_of, topic_of

from django_agent_sse import Event
from django_agent_sse.testing import PublishedLog, fresh_log


@pytest.fixture(autouse=True)
def published() -> Iterator[PublishedLog]:
    with fresh_log() as log:
        yield log


@pytest.mark.parametrize("count", [0, 1, 255, 3000])
def test_line_17_is_the_event_at_offset_17_and_the_exit_is_no_line(count: int) -> None:
    lines = [Event(f"line {number}", event="stderr" if number % 10 == 0 else "stdout") for number in range(1, count + 1)]
    topic_of(1).publish_many([*lines, Event('{"code":0,"signal":null,"seconds":1}', event="exit")])
    kept = [(number, f"line {number}") for number in range(1, count + 1)]
    assert [*lines_of(1)] == kept
    assert [*lines_of(1, after=200)] == kept[200:]


@pytest.mark.parametrize(
    ("data", "reason", "code"),
    [
        ('{"code":0,"signal":null,"seconds":1}', "completed", 0),
        ('{"code":127,"signal":null,"seconds":1}', "failed", 127),
        ('{"code":143,"signal":"SIGTERM","seconds":1}', "cancelled", -15),
    ],
)
def test_the_last_event_of_a_closed_log_is_the_exit(data: str, reason: str, code: int) -> None:
    topic = topic_of(2)
    topic.publish_many([Event("one", event="stdout"), Event(data, event="exit")])
    assert exit_of(2) is None, "sse_run has not ended yet"
    topic.close(reason)
    assert exit_of(2) == Exit(code=code, lines=1, reason=reason)


def test_a_log_that_somebody_else_has_closed_has_no_exit() -> None:
    assert exit_of(3) is None
    topic_of(3).close("by hand")
    assert exit_of(3) is None
    topic_of(4).publish("one", event="stdout")
    topic_of(4).close("by hand")
    assert exit_of(4) is None
