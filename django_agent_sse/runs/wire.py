"""What a protocol adds to a run: headers, last events, positions, and what late readers get. The frames are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from django.http import HttpRequest

from ..encoding import encode_json
from ..streams.last_event_id import LastEventId
from ..topics.reading import Fold
from ..wire.event import Event
from .endings import RunEnding


def no_headers(run_id: str, path: str) -> Mapping[str, str]:
    """Name the run in no header."""
    return {}


def no_events(ending: RunEnding, events: Iterable[Event]) -> Iterable[Event]:
    """End with no events of its own."""
    return ()


def last_event_id(request: HttpRequest) -> str | None:
    """Return the id in ``Last-Event-ID``, or in ``?last_event_id=``."""
    return LastEventId.of(request).value


def text_of_data(events: Iterable[Event]) -> str:
    """Return the data of all events without a name, one after the other."""
    return "".join(event.data for event in events if not event.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How a protocol spells what a run knows; its frames come from the protocol's own packages.

    Attributes:
        name: Of the protocol, for errors and the admin.
        headers: Of every response that streams a run.
        run_headers: Headers that name a run, by its id and the path at which it is resumed.
        last: The last events for an ending, by the ending and the events that the topic holds (read lazily, folded). Nothing
            that is there already is said twice: a protocol's own end among the events is the end.
        position: Where a request wants to go on: an id after which, a count of events to pass over (negative: from the
            newest), or ``None`` for all. Raises ``QueryInvalid``. Who counts must get each event: do not fold for them.
        tail_header: Header in which a client that counts from the newest event (a negative position) is told the index of
            that event, from 0; ``""`` for none.
        repeat_last: Whoever comes back after the last event of a run that is over gets that once more, without an id. Its
            client takes a connection for broken that ends before an event that ends the run.
        says_failure: Its last events say that a run failed, was interrupted or lost, and its clients report it, so that the
            response ends as a whole one. Else it is broken off: nobody takes it for whole then, but browsers forget what
            they have received and not read yet.
        text: The text of a run, by the events that its topic holds.
        fold: What late readers get instead of many events: consecutive deltas of one part as one event with the id of the
            last; ``None``: each. What it returns may be given to it again, with the events that follow.
    """

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    run_headers: Callable[[str, str], Mapping[str, str]] = no_headers
    last: Callable[[RunEnding, Iterable[Event]], Iterable[Event]] = no_events
    position: Callable[[HttpRequest], str | int | None] = last_event_id
    tail_header: str = ""
    repeat_last: bool = False
    says_failure: bool = False
    text: Callable[[Iterable[Event]], str] = text_of_data
    fold: Fold | None = None


RUN_END = "run.end"
"""The name of the event that ends a run without a protocol."""


def plain_headers(run_id: str, path: str) -> Mapping[str, str]:
    """Name a run where clients look for it."""
    return {"Location": path, "X-Run-Id": run_id}


def _run_end(ending: RunEnding, events: Iterable[Event]) -> Iterable[Event]:
    return [Event(encode_json({"reason": ending}), event=RUN_END)]


NO_WIRE = Wire(name="none", run_headers=plain_headers)
"""Whatever the run writes, and nothing else."""
PLAIN = Wire(name="plain", run_headers=plain_headers, last=_run_end)
"""No protocol: events as they are written, and at the end ``run.end`` with the ending as its ``reason``, like ``sse.end``."""
