"""Vercel's AI SDK: the UI message stream, version 1, as ``ai`` 6 and 7 read it.

The parts are those of ``ui-message-chunks.ts`` of ``ai``. Its ``processUIMessageStream`` raises at the end of a part that is not
open; its ``DefaultChatTransport`` ends with the response, and ``WorkflowChatTransport`` of ``@ai-sdk/workflow`` asks again for
as long as no ``finish`` has come, with ``?startIndex=`` and the number of parts that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from django.http import HttpRequest

from ...runs.endings import RunEnding
from ...runs.fold import DeltaFold
from ...runs.wire import Wire
from ...wire.event import Event
from .messages import DONE, SENTENCES, Message, count, last_event_id, message, messages

DELTAS = {"text-delta": "delta", "reasoning-delta": "delta", "tool-input-delta": "inputTextDelta"}
"""Where the text of a delta stands, by the type of the part."""
CLOSES_TOOL = {"tool-input-available", "tool-input-error", "tool-output-available", "tool-output-error", "tool-output-denied"}
INTERRUPTED = "other"
"""The reason to finish that a stopped run gives: ``interrupted`` would fit, and ``ai`` 6 refuses it."""


class _Parts:
    """What is open after some events, whether the present step has calls of tools, and what was said of the end."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.open: dict[tuple[str, str], Message] = {}
        self.said: set[str] = set()
        self.calls = False
        self.done = False
        for event in events:
            if event.data == DONE:
                self.done = True
            for part in messages((event,)):
                self._take(part)

    def _take(self, part: Message) -> None:
        kind, id = str(part.get("type")), str(part.get("id", part.get("toolCallId")))
        self.said.add(kind)
        self.calls = kind not in ("start-step", "reset-step") and (self.calls or kind.startswith("tool-"))
        if kind in ("text-start", "reasoning-start", "tool-input-start"):
            self.open[kind.removesuffix("-start"), id] = {**part, "text": ""}
        elif kind in ("text-end", "reasoning-end"):
            self.open.pop((kind.removesuffix("-end"), id), None)
        elif kind in CLOSES_TOOL:
            self.open.pop(("tool-input", id), None)
        elif kind in ("reset-step", "finish-step"):  # `ai` 6 forgets them at the end of a step; 7 has them whole by then
            self.open = {} if kind == "reset-step" else {key: part for key, part in self.open.items() if key[0] == "tool-input"}
        elif kind == "tool-input-delta" and (call := self.open.get(("tool-input", id))):
            call["text"] += part.get("inputTextDelta", "")

    def ends(self, sentence: str, with_input: bool) -> Iterator[Event]:
        """Yield what closes the parts that are open, the newest first."""
        for (kind, id), part in reversed(self.open.items()):
            if kind != "tool-input":
                yield message(type=f"{kind}-end", id=id)
            else:
                yield message(
                    type="tool-input-error",
                    toolCallId=id,
                    toolName=part.get("toolName", ""),
                    input=part["text"] if with_input else "",
                    errorText=sentence,
                    dynamic=part.get("dynamic"),
                    providerExecuted=part.get("providerExecuted"),
                )


def terse(ending: RunEnding, events: Iterable[Event]) -> Iterator[Event]:
    """Return the same as ``last`` without the input of calls that is not whole anyway."""
    return last(ending, events, with_input=False)


def last(ending: RunEnding, events: Iterable[Event], *, with_input: bool = True) -> Iterator[Event]:
    """Close what is open; ``abort`` where it was stopped, ``error`` where it broke; then ``finish`` and ``[DONE]``.

    A page with ``sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls`` would start the next run when one is
    stopped whose last step has calls that are over, so that a step without any is begun there. ``ai`` takes a step into its
    messages with the next part that changes one: here ``finish``, by metadata that add nothing.
    """
    parts = _Parts(events)
    if parts.done:
        return
    sentence = SENTENCES.get(ending, "The input of the call is not whole.")
    yield from parts.ends(sentence, with_input)
    reason: str | None = None
    metadata: Message | None = None
    if ending is RunEnding.STOPPED:
        reason = INTERRUPTED
        if parts.calls and "finish" not in parts.said:
            metadata = {}
            yield message(type="start-step")
        if "abort" not in parts.said:
            yield message(type="abort", reason=sentence)
    elif ending is not RunEnding.FINISHED:
        reason = "error"
        if "error" not in parts.said:
            yield message(type="error", errorText=sentence)
    if "finish" not in parts.said:
        yield message(type="finish", finishReason=reason, messageMetadata=metadata)
    yield Event(DONE)


def position(request: HttpRequest) -> str | int | None:
    """Return the last event id, or the number of parts in ``startIndex``: negative, so many from the newest."""
    return last_event_id(request) or count(request, "startIndex", least=-(2**53))


def text(events: Iterable[Event]) -> str:
    """Return the text of all text parts, without what a step has taken back."""
    deltas: list[str] = []
    step = 0
    for part in messages(events):
        kind = part.get("type")
        if kind == "text-delta":
            deltas.append(str(part.get("delta", "")))
        elif kind == "start-step":
            step = len(deltas)
        elif kind == "reset-step":
            del deltas[step:]
    return "".join(deltas)


def run_headers(run_id: str, path: str) -> dict[str, str]:
    """Name the run for ``WorkflowChatTransport``, for assistant-ui's ``assistant-stream``, and for the others."""
    return {"x-workflow-run-id": run_id, "x-resumable-stream-id": run_id, "Location": path}


def _path(part: Message) -> Sequence[str] | None:
    key = DELTAS.get(str(part.get("type")))
    return None if key is None else (key,)


def is_done(event: Event) -> bool:
    """Whether an event is the end, which ``last`` sends after the error."""
    return event.data == DONE


AI_SDK = Wire(
    name="AI SDK UI message stream",
    headers={"x-vercel-ai-ui-message-stream": "v1"},
    run_headers=run_headers,
    last=last,
    terse=terse,
    position=position,
    tail_header="x-workflow-stream-tail-index",
    ends_whole=is_done,
    text=text,
    fold=DeltaFold(_path, deltas={*DELTAS.values()}),
)
"""Vercel's AI SDK, UI message stream v1: ``useChat``, ``WorkflowChatTransport``, assistant-ui."""
