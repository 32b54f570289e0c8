"""OpenAI's chat completions: ``chat.completion.chunk`` objects without names, and ``[DONE]``.

The clients of ``openai`` raise at an object that has an ``error``, in the middle of a stream too, and stop at ``[DONE]``. The
protocol has no resuming and no word for a run that was stopped: an answer that is not whole is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...runs.endings import RunEnding
from ...runs.fold import DeltaFold, Path
from ...runs.wire import Wire
from ...wire.event import Event
from .messages import DONE, SENTENCES, Message, message, messages, plain_headers

TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
"""Members of a delta that are text; the last two are what other servers have added."""


def last(ending: RunEnding, events: Iterable[Event]) -> Iterator[Event]:
    """An ``error`` where the answer is not whole, then ``[DONE]``."""
    failed = False
    for event in events:
        if event.data == DONE:
            return
        failed = failed or any(chunk.get("error") for chunk in messages((event,)))
    if ending is not RunEnding.FINISHED and not failed:
        error = {"message": SENTENCES[ending], "type": "server_error", "param": None, "code": ending}
        yield message(error=error)
    yield Event(DONE)


def _choices(chunk: Message) -> list[Message]:
    choices = chunk.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def text(events: Iterable[Event]) -> str:
    """Return the content of the first choice."""
    deltas = [
        choice["delta"].get("content")
        for chunk in messages(events)
        for choice in _choices(chunk)
        if not choice.get("index") and isinstance(choice.get("delta"), dict)
    ]
    return "".join(delta for delta in deltas if isinstance(delta, str))


def _path(chunk: Message) -> Path | None:
    choices = _choices(chunk)
    delta = choices[0].get("delta") if len(choices) == 1 else None
    if not isinstance(delta, dict) or choices[0].get("finish_reason") is not None or choices[0].get("logprobs"):
        return None
    found = [key for key in TEXTS if isinstance(delta.get(key), str)]
    if len(found) == 1 and not delta.get("tool_calls"):
        return ("choices", 0, "delta", found[0])
    calls = delta.get("tool_calls")
    if found or not isinstance(calls, list) or len(calls) != 1:
        return None
    return ("choices", 0, "delta", "tool_calls", 0, "function", "arguments")


OPENAI_CHAT = Wire(
    name="OpenAI chat completions",
    run_headers=plain_headers,
    last=last,
    text=text,
    fold=DeltaFold(_path, deltas=(*TEXTS, "arguments"), numbers=("created",), strings=("obfuscation",)),
)
"""OpenAI's chat completions, and what is compatible with them."""
