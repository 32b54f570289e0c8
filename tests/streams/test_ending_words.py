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


def test_which_endings_abort_announce_and_flush() -> None:
    regular = {Ending.COMPLETED, Ending.TOPIC_CLOSED, Ending.HANDLER_ERROR}
    assert {ending for ending in Ending if not ending.aborts} == regular
    announced = {Ending.COMPLETED, Ending.TOPIC_CLOSED, Ending.REVOKED, Ending.KICKED}
    assert {ending for ending in Ending if ending.announced} == announced
    assert {ending for ending in Ending if not ending.flushes} == {Ending.CLIENT_DISCONNECT, Ending.SLOW_CLIENT}
