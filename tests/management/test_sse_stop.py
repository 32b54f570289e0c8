"""``manage.py sse_stop``: ask a run to stop."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_agent_sse import Topic, event_log


def stopped(*words: str) -> str:
    """What the command prints."""
    out = StringIO()
    call_command("sse_stop", *words, stdout=out)
    return out.getvalue()


def test_a_run_is_asked_to_stop_as_often_as_one_likes_until_it_is_over(sse_log: Any) -> None:
    log = event_log()
    log.acquire("runs.1", "one", 30)
    for words in (("runs.1",), ("runs.1", "one")):
        assert stopped(*words) == "asked the run one of runs.1 to stop\n"
    assert log.lease("runs.1").stop
    log.close("runs.1", "stopped", holder="one")
    assert stopped("runs.1") == "the run one of runs.1 is over: stopped\n"


def test_another_run_than_was_meant_goes_on(sse_log: Any) -> None:
    log = event_log()
    log.acquire("runs.1", "new", 30)
    with pytest.raises(CommandError, match=r"is written by the run 'new', not by 'old'. Nothing was stopped"):
        stopped("runs.1", "old")
    assert not log.lease("runs.1").stop


def test_where_there_is_no_run_nothing_is_left_behind(sse_log: Any) -> None:
    Topic("plain").publish("x")
    for topic in ("plain", "nothing"):
        with pytest.raises(CommandError, match=f"no run has written the topic '{topic}'"):
            stopped(topic)
    assert event_log().topics() == ["plain"]
