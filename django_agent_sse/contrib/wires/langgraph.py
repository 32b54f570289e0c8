"""LangGraph: events named by the graph's stream modes, and ``end`` or ``error`` at the end, as LangGraph's server has them.

The clients of ``langgraph-sdk`` come back to ``Location`` after a cut with the id of the last event, read the run's id from
``Content-Location``, and take a response that ends before ``end`` or ``error`` for one that was cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from ...encoding import encode_json
from ...runs.endings import RunEnding
from ...runs.wire import Wire
from ...wire.event import Event
from .messages import SENTENCES

ENDS = ("end", "error")
STATUS = {RunEnding.FINISHED: "success", RunEnding.STOPPED: "interrupted", RunEnding.INTERRUPTED: "interrupted"}
"""How LangGraph's server calls an ending; the others are ``error``."""


def run_headers(run_id: str, path: str) -> Mapping[str, str]:
    """Name a run, and where it is resumed."""
    return {"Location": path, "Content-Location": f"{path.partition('/runs/')[0]}/runs/{run_id}"}


def last(ending: RunEnding, events: Iterable[Event]) -> Iterator[Event]:
    """``end``, or ``error`` where the run did not come to its own end."""
    if any(event.event in ENDS for event in events):
        return
    if ending in (RunEnding.FINISHED, RunEnding.STOPPED):
        yield Event(encode_json({"status": ending}), event="end")
    else:
        yield Event(encode_json({"error": ending, "message": SENTENCES[ending]}), event="error")


def state(ending: RunEnding | None, events: Iterable[Event]) -> Mapping[str, object]:
    """Return what ``client.runs.get()`` looks at."""
    return {"status": "running" if ending is None else STATUS.get(ending, "error")}


def ends_whole(event: Event) -> bool:
    """Return whether the clients have been told."""
    return event.event == "error"


def text(events: Iterable[Event]) -> str:
    """Return the text of the model's messages."""
    return "".join(
        piece for event in events if (event.event or "").partition("|")[0] == "messages" for piece in _pieces(event.data)
    )


def _pieces(data: str) -> Iterator[str]:
    try:
        pair = json.loads(data)
    except (ValueError, RecursionError):
        return
    chunk = pair[0] if isinstance(pair, list) and pair else None
    if not isinstance(chunk, dict) or not str(chunk.get("type", "AI")).lower().startswith("ai"):
        return
    content = chunk.get("content")
    for block in content if isinstance(content, list) else [content]:
        found = block.get("text") if isinstance(block, dict) else block
        if isinstance(found, str):
            yield found


LANGGRAPH = Wire(name="LangGraph", run_headers=run_headers, last=last, state=state, ends_whole=ends_whole, text=text)
"""The streams of LangGraph's server."""
