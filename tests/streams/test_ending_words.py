"""The words of an end, and what each means."""

from __future__ import annotations

from django_agent_sse.streams.endings import Ending


def test_an_ending_is_its_word() -> None:
    assert Ending.COMPLETED == "completed"
    assert f"{Ending.SLOW_CLIENT}" == "slow_client"
    assert [str(ending) for ending in Ending] == [
        "completed",
        "topic_closed",
        "handler_error",
        "client_disconnect",
        "slow_client",
        "max_duration",
        "shutdown",
        "revoked",
        "kicked",
    ]
