"""What readers of a run get whose process has died: the parts that it left open are ended, in the protocol's own words, once.

The holder of a lease that is not renewed stands for the process. Whoever looks is a process of its own here, as far as it knows:
it has the log, and nothing of the run but what stands there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections

from django_agent_sse import Event, Topic, produce
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, OPENAI_CHAT, OPENAI_RESPONSES, PLAIN, Wire
from django_agent_sse.eventlog import last_words
from django_agent_sse.eventlog.backend import build_log
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.last_words import LastWords, name_of, words_of
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.produce import Producing
from django_agent_sse.topics.reading import history

from .logs import FOUR, empty_log
from .samples import compact, response_of

NAME = "runs.42"
PATIENCE = 60.0
SHORT = 0.05
LOST = "The run was lost: its process has died, or could not be reached."


@pytest.fixture(params=FOUR)
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(request.param, request) as one:
        yield one


one_log = pytest.mark.parametrize("log", ["memory"], indirect=True)


def parts(*messages: dict[str, Any]) -> list[Event]:
    return [Event(compact(message)) for message in messages]


def numbered(*messages: dict[str, Any]) -> list[Event]:
    return [Event(compact({**message, "sequence_number": at}), event=message["type"]) for at, message in enumerate(messages)]


OPEN: dict[str, tuple[Wire, list[Event], list[dict[str, Any] | str]]] = {
    "AI SDK": (
        AI_SDK,
        parts(
            {"type": "start"},
            {"type": "reasoning-start", "id": "r"},
            {"type": "reasoning-delta", "id": "r", "delta": "hm"},
            {"type": "text-start", "id": "t"},
            *({"type": "text-delta", "id": "t", "delta": delta} for delta in ("Hé", "llo")),
            {"type": "tool-input-start", "toolCallId": "c", "toolName": "search"},
            {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": '{"q'},
        ),
        [
            {"type": "tool-input-error", "toolCallId": "c", "toolName": "search", "input": '{"q', "errorText": LOST},
            {"type": "text-end", "id": "t"},
            {"type": "reasoning-end", "id": "r"},
            {"type": "error", "errorText": LOST},
            {"type": "finish", "finishReason": "error"},
            "[DONE]",
        ],
    ),
    "AG-UI": (
        AG_UI,
        parts(
            {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
            {"type": "STEP_STARTED", "stepName": "one"},
            {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hé"},
            {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "search"},
        ),
        [
            {"type": "TOOL_CALL_END", "toolCallId": "c"},
            {"type": "TEXT_MESSAGE_END", "messageId": "m"},
            {"type": "STEP_FINISHED", "stepName": "one"},
            {"type": "RUN_ERROR", "message": LOST, "code": "lost"},
        ],
    ),
    "Responses": (
        OPENAI_RESPONSES,
        numbered(
            {"type": "response.created", "response": response_of()},
            {"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message", "content": []}},
            {
                "type": "response.content_part.added",
                "item_id": "m",
                "output_index": 0,
                "content_index": 0,
                "part": {"type": "output_text", "text": ""},
            },
            *(
                {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": delta}
                for delta in ("Hé", "llo")
            ),
        ),
        [
            {
                "type": "response.failed",
                "response": response_of(
                    output=[
                        {"id": "m", "type": "message", "content": [{"type": "output_text", "text": "Héllo", "annotations": []}]}
                    ],
                    status="failed",
                    error={"code": "server_error", "message": LOST},
                    incomplete_details=None,
                ),
                "sequence_number": 5,
            }
        ],
    ),
    "chat": (
        OPENAI_CHAT,
        parts({"choices": [{"index": 0, "delta": {"content": "Hé"}, "finish_reason": None}]}),
        [{"error": {"message": LOST, "type": "server_error", "param": None, "code": "lost"}}, "[DONE]"],
    ),
    "plain": (PLAIN, [Event("half")], [{"reason": "lost"}]),
    "said": (AI_SDK, [*parts({"type": "start"}, {"type": "finish"}), Event("[DONE]")], []),
    "nothing yet": (OPENAI_RESPONSES, [], [{"type": "error", "code": "server_error", "message": LOST, "param": None}]),
}


def dead_run(log: EventLog, wire: Wire | None, events: Iterable[Event], last: Any = lambda ending: (), topic: str = NAME) -> None:
    """A run whose process died after these events."""
    begun = Producing(topic, None, 60, last, wire, "r1")
    assert begun._begin(log) is None
    if events := [*events]:
        log.append(topic, events, holder="r1")
    log.renew(topic, "r1", SHORT)
    until("it has run out", lambda: log.lease(topic).expired)  # type: ignore[union-attr]


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return found


def ends(log: EventLog, before: int) -> list[Any]:
    """The messages that the topic ends with, after so many events."""
    found = [event.data for event in [*history(log, NAME)][before:]]
    return [json.loads(data) if data.startswith("{") else data for data in found]


@pytest.mark.parametrize("case", OPEN)
def test_a_lost_run_ends_in_the_words_of_its_wire_by_what_it_had_written(log: EventLog, case: str) -> None:
    wire, events, words = OPEN[case]
    dead_run(log, wire, events)
    assert log.expire(NAME)
    assert not log.expire(NAME)
    found = ends(log, len(events))
    if case == "nothing yet":
        assert found[0].pop("sequence_number") == 0
    assert found == words
    assert log.state(NAME).closed == "lost"


@pytest.mark.parametrize("case", ["AI SDK", "Responses"])
def test_of_many_who_look_at_once_one_says_it(log: EventLog, case: str) -> None:
    wire, events, words = OPEN[case]
    dead_run(log, wire, events)
    logs = [build_log(django_settings.AGENT_SSE["EVENT_LOG"]) for _ in range(8)] if log.crosses_processes else [log] * 8
    done: list[bool] = []

    def look(own: EventLog) -> None:
        try:
            done.append(own.expire(NAME))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=look, args=(own,)) for own in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(done) == [*[False] * 7, True]
    assert ends(log, len(events)) == words


def test_every_door_that_looks_says_it(log: EventLog) -> None:
    """A follower in a coroutine, one in sync code, a question, a stop and the next start."""
    wire, events, words = OPEN["AI SDK"]

    async def follows() -> None:
        assert [event.id async for event in Topic(NAME).follow()]

    def starts() -> None:
        with produce("runs.43", key="chat.7"):
            pass

    for door in (
        lambda: asyncio.run(asyncio.wait_for(follows(), PATIENCE)),
        lambda: [*Topic(NAME).follow()],
        lambda: Topic(NAME).run_state(),
        lambda: Topic(NAME).stop_run(),
        starts,
    ):
        log.clear_all()
        dead_run(log, wire, events)
        log.move_pointer("chat.7", NAME, expect=None)
        door()
        assert ends(log, len(events)) == words, door
        assert log.state(NAME).closed == "lost"


def test_what_the_run_itself_ends_with_comes_first(log: EventLog) -> None:
    wire, events, words = OPEN["AI SDK"]
    dead_run(log, wire, events, lambda ending: [{"type": "data-end", "data": ending}])
    log.expire(NAME)
    assert ends(log, len(events)) == [{"type": "data-end", "data": "lost"}, *words]
    log.clear_all()
    dead_run(log, None, events, lambda ending: ["bye"])
    log.expire(NAME)
    assert ends(log, len(events)) == ["bye"]


def test_who_publishes_without_the_lease_while_it_is_looked_at_is_seen(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words fit what stands before them, to the event."""
    wire, events, _ = OPEN["AI SDK"]
    dead_run(log, wire, events)
    pages = type(log).pages

    def late(self: EventLog, topic: str) -> Any:
        yield from pages(self, topic)
        monkeypatch.undo()
        log.append(NAME, parts({"type": "text-end", "id": "t"}))

    monkeypatch.setattr(type(log), "pages", late)
    assert log.expire(NAME)
    found = ends(log, len(events))
    assert [part["type"] if isinstance(part, dict) else part for part in found] == [
        *("text-end", "tool-input-error", "reasoning-end", "error", "finish", "[DONE]")
    ]


def own_words(ending: RunEnding, events: Iterable[Event]) -> list[Event]:
    return [Event(f"{ending} after {len([*events])}")]


OWN = Wire(name="own", last=own_words)


@one_log
def test_a_wire_of_ones_own_is_asked_where_its_module_is_known(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_run(log, OWN, [Event("1"), Event("2")])
    assert log.expire(NAME)
    assert ends(log, 2) == ["lost after 2"]
    log.clear_all()
    dead_run(log, OWN, [Event("1"), Event("2")])
    monkeypatch.delitem(last_words._known, name_of(own_words))  # as where nobody has imported it
    assert log.expire(NAME)
    assert ends(log, 2) == ["lost after 0"], "what it left at its beginning"


@one_log
def test_words_that_are_no_function_of_a_module_are_those_of_the_beginning(log: EventLog) -> None:
    wire = replace(OWN, last=lambda ending, events: [Event(f"{ending} {len([*events])}")])
    dead_run(log, wire, [Event("1")])
    assert log.expire(NAME)
    assert ends(log, 1) == ["lost 0"]


@one_log
@pytest.mark.parametrize("fault", ["raises", "too large", "unreadable"])
def test_words_that_cannot_be_found_leave_those_of_the_beginning(
    log: EventLog, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dead_run(log, OWN, [Event("1")])

    def wrong(events: Iterable[Event]) -> list[Event]:
        if fault == "raises":
            raise ValueError("a wire's own fault")
        return [Event("x" * 2_000_000)]

    def unreadable(self: EventLog, topic: str) -> Any:
        raise EventLogUnavailable("a row is damaged")

    if fault == "unreadable":
        monkeypatch.setattr(type(log), "pages", unreadable)
    else:
        monkeypatch.setitem(last_words._known, name_of(own_words), (wrong,))
    assert log.expire(NAME)
    assert [record.event.data for record in log.read_after(NAME).records] == ["1", "lost after 0"]
    assert "ends without the words" in caplog.text


def test_a_name_in_the_log_imports_and_calls_nothing_that_is_not_known() -> None:
    for name in (
        "os:system",
        "antigravity:fly",
        "django_agent_sse.nothing:here",
        "django_agent_sse.runs.wire:no_events",
        "",
        "x",
    ):
        assert words_of(name) == ()
    assert "antigravity" not in sys.modules
    assert name_of(own_words) == f"{__name__}:own_words"
    assert [name_of(function) for function in (print, lambda: 0, own_words.__call__, int)] == [""] * 4


def test_last_words_are_kept_as_events() -> None:
    for words in (
        LastWords(),
        LastWords(events=(Event("1 2", event="e"), Event("2")), by="a.b:c", otherwise=(Event("3", retry=4),)),
        LastWords(otherwise=(Event(""),)),
    ):
        assert LastWords.unpacked(words.packed()) == words
