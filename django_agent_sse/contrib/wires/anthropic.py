"""Anthropic's Messages: named events, each with its name as ``type`` too, and ``message_stop`` at the end.

The clients of ``anthropic`` pass over events without a name, and raise at one named ``error``. The protocol has no resuming and
no word for a run that was stopped: an answer that is not whole is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...encoding import encode_json
from ...runs.endings import RunEnding
from ...runs.fold import DeltaFold, Path
from ...runs.wire import Wire
from ...wire.event import Event
from .messages import SENTENCES, Message, messages, plain_headers

DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Where the text of a delta stands, by its type."""


class _Message:
    """What is open after some events, and what was said of the end."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.open: dict[int, None] = {}
        self.said: set[str] = set()
        self.tokens: object = 0
        for event in messages(events):
            kind, block = str(event.get("type")), event.get("index")
            self.said.add(kind)
            if isinstance(block, int) and kind == "content_block_start":
                self.open[block] = None
            elif isinstance(block, int) and kind == "content_block_stop":
                self.open.pop(block, None)
            elif kind == "message_start" and isinstance(event.get("message"), dict):
                usage = event["message"].get("usage")
                self.tokens = usage.get("output_tokens", 0) if isinstance(usage, dict) else 0

    def ends(self) -> Iterator[Event]:
        """Yield what a message still lacks whose producer takes it for whole."""
        for block in self.open:
            yield _event(type="content_block_stop", index=block)
        if "message_delta" not in self.said:
            delta = {"stop_reason": "end_turn", "stop_sequence": None}
            yield _event(type="message_delta", delta=delta, usage={"output_tokens": self.tokens})
        yield _event(type="message_stop")


def _event(*, type: str, **members: object) -> Event:
    return Event(encode_json({"type": type, **members}), event=type)


def last(ending: RunEnding, events: Iterable[Event]) -> Iterator[Event]:
    """An ``error`` where the message is not whole; else what it lacks, up to ``message_stop``.

    Before an ``error`` nothing is closed: half of a tool's input is not one.
    """
    message = _Message(events)
    if message.said & {"message_stop", "error"}:
        return
    if ending is RunEnding.FINISHED and "message_start" in message.said:
        yield from message.ends()
    else:
        sentence = SENTENCES.get(ending, "The message was not begun.")
        yield _event(type="error", error={"type": "api_error", "message": sentence})


def _delta(event: Message) -> Message:
    delta = event.get("delta")
    return delta if event.get("type") == "content_block_delta" and isinstance(delta, dict) else {}


def text(events: Iterable[Event]) -> str:
    """Return the text of all text blocks."""
    deltas = [delta.get("text") for delta in map(_delta, messages(events)) if delta.get("type") == "text_delta"]
    return "".join(delta for delta in deltas if isinstance(delta, str))


def _path(event: Message) -> Path | None:
    key = DELTAS.get(str(_delta(event).get("type")))
    return None if key is None else ("delta", key)


ANTHROPIC = Wire(
    name="Anthropic Messages",
    run_headers=plain_headers,
    last=last,
    text=text,
    fold=DeltaFold(_path, deltas={*DELTAS.values()}),
)
"""Anthropic's Messages, and what is compatible with them."""
