"""AG-UI 1.0: the events of ``@ag-ui/core``, in the order that ``verifyEvents`` of ``@ag-ui/client`` demands.

Every part that was begun is ended before the run; nothing comes after ``RUN_ERROR``; a run that was stopped is finished with the
outcome ``cancelled``. Parts that are sent as ``…_CHUNK`` events are ended by the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from django.http import HttpRequest

from ...runs.endings import RunEnding
from ...runs.fold import DeltaFold
from ...runs.wire import Wire
from ...wire.event import Event
from .messages import SENTENCES, Message, last_event_id, message, messages, plain_headers

PAIRS = {
    "TEXT_MESSAGE_START": ("TEXT_MESSAGE_END", "messageId"),
    "TOOL_CALL_START": ("TOOL_CALL_END", "toolCallId"),
    "REASONING_START": ("REASONING_END", "messageId"),
    "REASONING_MESSAGE_START": ("REASONING_MESSAGE_END", "messageId"),
    "STEP_STARTED": ("STEP_FINISHED", "stepName"),
    "SUBAGENT_STARTED": ("SUBAGENT_FINISHED", "subagentRunId"),
}
"""What ends a part, and the member that names it."""
ENDS = {end: (end, key) for end, key in PAIRS.values()} | {"SUBAGENT_ERROR": PAIRS["SUBAGENT_STARTED"]}
DELTAS = {
    *("TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK", "TOOL_CALL_ARGS", "TOOL_CALL_CHUNK"),
    *("REASONING_MESSAGE_CONTENT", "REASONING_MESSAGE_CHUNK"),
}


class _Run:
    """What is open after some events: parts, by how they are ended, and the run itself."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.open: dict[tuple[str, str, str], Message] = {}
        self.started: Message | None = None
        self.over = ""
        for event in messages(events):
            self._take(event)

    def _take(self, event: Message) -> None:
        kind = str(event.get("type"))
        if kind == "RUN_STARTED":
            self.open, self.started, self.over = {}, event, ""
        elif kind in ("RUN_FINISHED", "RUN_ERROR"):
            self.open, self.over = {}, kind
        elif kind in PAIRS:
            self.open[self._name(*PAIRS[kind], event)] = event
        elif kind in ENDS:
            self.open.pop(self._name(*ENDS[kind], event), None)

    def _name(self, end: str, key: str, event: Message) -> tuple[str, str, str]:
        """Return what names an open part: of steps also whose they are, for only that one may finish it."""
        return end, str(event.get(key)), str(event.get("subagentRunId")) if end == "STEP_FINISHED" else ""

    def ends(self, sentence: str) -> Iterator[Event]:
        """Yield what ends the parts that are open, the newest first."""
        for (end, name, _), begun in reversed(self.open.items()):
            if end == "SUBAGENT_FINISHED":
                yield message(type="SUBAGENT_ERROR", subagentRunId=name, message=sentence)
            else:
                tag = begun.get("subagentRunId")
                yield message(**{"type": end, ENDS[end][1]: name, "subagentRunId": tag})


def last(ending: RunEnding, events: Iterable[Event]) -> Iterator[Event]:
    """End what is open, then ``RUN_ERROR`` where it broke, or ``RUN_FINISHED``; ``cancelled`` where it was stopped."""
    run = _Run(events)
    broke = ending not in (RunEnding.FINISHED, RunEnding.STOPPED)
    if run.over == "RUN_ERROR" or (run.over and not broke) or (run.started is None and ending is RunEnding.FINISHED):
        return
    sentence = SENTENCES.get(ending, "It was not ended.")
    yield from run.ends(sentence)
    if broke or run.started is None:
        yield message(type="RUN_ERROR", message=sentence, code=ending)
    else:
        outcome = {"type": "cancelled"} if ending is RunEnding.STOPPED else None
        about = {key: run.started.get(key, "") for key in ("threadId", "runId")}
        yield message(type="RUN_FINISHED", **about, outcome=outcome)


def is_error(event: Event) -> bool:
    """Whether it is ``RUN_ERROR``."""
    return any(message.get("type") == "RUN_ERROR" for message in messages([event]))


def position(request: HttpRequest) -> str | None:
    """Return the last event id. TanStack's ``joinRun`` asks with ``offset=-1`` for all, which is also what nothing asks for."""
    offset = request.GET.get("offset", "-1")
    return last_event_id(request) or (None if offset == "-1" else offset)


def run_name(request: HttpRequest) -> str | None:
    """Return the id that TanStack's client gives its runs: in a header where it posts, in the query where it joins."""
    return request.headers.get("X-Run-Id") or request.GET.get("runId") or None


def text(events: Iterable[Event]) -> str:
    """Return the text of the assistant's messages."""
    others: set[str] = set()
    deltas: list[str] = []
    for event in messages(events):
        kind, id = event.get("type"), str(event.get("messageId"))
        if kind in ("TEXT_MESSAGE_START", "TEXT_MESSAGE_CHUNK") and event.get("role", "assistant") != "assistant":
            others.add(id)
        if kind in ("TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK") and id not in others:
            deltas.append(str(event.get("delta") or ""))
    return "".join(deltas)


def _path(event: Message) -> Sequence[str] | None:
    return ("delta",) if event.get("type") in DELTAS else None


AG_UI = Wire(
    name="AG-UI",
    run_headers=plain_headers,
    last=last,
    position=position,
    run_name=run_name,
    repeat_last=True,
    ends_whole=is_error,
    id_first=True,
    text=text,
    fold=DeltaFold(_path, deltas=("delta",), numbers=("timestamp",), dropped=("rawEvent",)),
)
"""AG-UI 1.0: ``@ag-ui/client``, CopilotKit, TanStack AI."""
