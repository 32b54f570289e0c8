"""OpenAI's Responses: named events, each with the next ``sequence_number``, from 0; ``starting_after`` counts them.

The last one is ``response.completed``, ``response.failed`` or ``response.incomplete``, with the whole response as it is then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.http import HttpRequest

from ...encoding import encode_json
from ...runs.endings import RunEnding
from ...runs.fold import DeltaFold, Path
from ...runs.wire import Wire
from ...wire.event import Event
from .messages import SENTENCES, Message, count, last_event_id, messages, plain_headers

TERMINAL = {"response.completed", "response.failed", "response.incomplete", "response.cancelled", "error"}
ITEM_TEXTS = {"function_call": "arguments", "custom_tool_call": "input"}
"""The member of an output item that its deltas fill, by its type."""


STATUS = {None: "in_progress", RunEnding.FINISHED: "incomplete", RunEnding.STOPPED: "cancelled"}
"""What a response is called that has no end of its own, by how its run ended; of all others ``failed``."""


class _Response:
    """A response as far as its events tell."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.response: Message | None = None
        self.items: dict[int, Message] = {}
        self.next = 0
        self.over = False
        for event in messages(events):
            kind, number = str(event.get("type")), event.get("sequence_number")
            self.next = (number if isinstance(number, int) else self.next) + 1
            self.over = self.over or kind in TERMINAL
            if isinstance(event.get("response"), dict):
                self.response = event["response"]
            if isinstance(event.get("output_index"), int):
                self._take(kind, event["output_index"], event)

    def _take(self, kind: str, index: int, event: Message) -> None:
        item = self.items.setdefault(index, {})
        if kind in ("response.output_item.added", "response.output_item.done") and isinstance(event.get("item"), dict):
            self.items[index] = event["item"]
        elif kind in ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"):
            member = ITEM_TEXTS.get(str(item.get("type")), "arguments")
            item[member] = f"{item.get(member) or ''}{event.get('delta', '')}"
        elif kind == "response.content_part.added" and isinstance(event.get("part"), dict):
            self._content(item, event).update(event["part"])
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            member = "text" if kind == "response.output_text.delta" else "refusal"
            content = self._content(item, event)
            content[member] = f"{content.get(member) or ''}{event.get('delta', '')}"

    def _content(self, item: Message, event: Message) -> Message:
        """Return the part of an item's content that an event is about."""
        contents: list[Any] = item.setdefault("content", [])
        index = event.get("content_index")
        if index == len(contents):
            contents.append({"type": "output_text", "text": "", "annotations": []})
        found = contents[index] if isinstance(index, int) and 0 <= index < len(contents) else {}
        return found if isinstance(found, dict) else {}

    @property
    def output(self) -> list[Message]:
        """The output items, those that were not done as incomplete."""
        items = [item for _, item in sorted(self.items.items()) if item.get("type")]
        return [{**item, "status": "incomplete"} if item.get("status") == "in_progress" else item for item in items]

    def ended(self, ending: RunEnding | None) -> Message:
        """Return the response as it is after this ending; while the run goes on, with ``None``."""
        status = STATUS.get(ending, "failed")
        error = {"code": "server_error", "message": _sentence(ending)} if status == "failed" else None
        return {**(self.response or {}), "status": status, "error": error, "incomplete_details": None, "output": self.output}


def _sentence(ending: RunEnding | None) -> str:
    return SENTENCES.get(ending or RunEnding.FINISHED, "The response was not completed.")


def terse(ending: RunEnding, events: Iterable[Event]) -> Iterator[Event]:
    """Return the same as ``last`` without the output, which clients have by its deltas."""
    return last(ending, events, with_output=False)


def last(ending: RunEnding, events: Iterable[Event], *, with_output: bool = True) -> Iterator[Event]:
    """``response.failed`` where it broke, ``response.incomplete`` where it was stopped; ``error`` where there is no response."""
    state = _Response(events)
    if state.over:
        return
    if state.response is None:
        about: Message = {"type": "error", "code": "server_error", "message": _sentence(ending), "param": None}
    else:
        response = state.ended(ending) if with_output else {**state.ended(ending), "output": []}
        about = {"type": "response.incomplete" if ending in STATUS else "response.failed", "response": response}
    yield Event(encode_json({**about, "sequence_number": state.next}), event=about["type"])


def state(ending: RunEnding | None, events: Iterable[Event]) -> Message:
    """Return the response as it is now, as ``responses.retrieve()`` and ``responses.cancel()`` of the client expect it."""
    found = _Response(events)
    if found.response is None:
        return {}
    return found.response if found.over else found.ended(ending)


def position(request: HttpRequest) -> str | int | None:
    """Return the last event id, or how many events the number in ``starting_after`` passes over: from 0, so one more.

    Without it the client may count all the same: ``responses.stream(response_id=…, starting_after=…)`` of ``openai`` asks for
    all with ``stream=true``, and leaves out by itself what it has.
    """
    after = count(request, "starting_after", least=0)
    counted = 0 if request.GET.get("stream") == "true" else None
    return last_event_id(request) or (counted if after is None else after + 1)


def text(events: Iterable[Event]) -> str:
    """Return the output text, as ``response.output_text`` of the client has it."""
    deltas = [event.get("delta") for event in messages(events) if event.get("type") == "response.output_text.delta"]
    return "".join(delta for delta in deltas if isinstance(delta, str))


def _path(event: Message) -> Path | None:
    kind = str(event.get("type"))
    return ("delta",) if kind.startswith("response.") and kind.endswith(".delta") else None


OPENAI_RESPONSES = Wire(
    name="OpenAI Responses",
    run_headers=plain_headers,
    last=last,
    terse=terse,
    position=position,
    numbered=True,
    state=state,
    text=text,
    fold=DeltaFold(_path, deltas=("delta",), numbers=("sequence_number",), strings=("obfuscation",)),
)
"""OpenAI's Responses, with ``starting_after``."""
