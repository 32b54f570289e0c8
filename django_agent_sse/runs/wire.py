"""What a protocol adds to a run: its headers, its last events, and how its clients name a position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from django.http import HttpRequest

from ..streams.last_event_id import LastEventId
from ..wire.event import Event
from .endings import RunEnding


def no_headers(id: str, path: str) -> Mapping[str, str]:
    """Name no run."""
    return {}


def nothing(ending: RunEnding, events: Iterable[Event]) -> Iterable[Event]:
    """End with no events of the protocol's own."""
    return ()


def last_event_id(request: HttpRequest) -> str | None:
    """Go on after the ``Last-Event-ID`` header, or the ``last_event_id`` parameter."""
    return LastEventId.of(request).value


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How a protocol spells what a run knows; its frames come from the protocol's own packages.

    Attributes:
        name: Of the protocol, for errors and the admin.
        headers: Of every response that streams a run.
        run_headers: Headers that name a run, by its id and the path at which it is resumed.
        last: The last events for an ending, by the ending and the events that the topic holds (read lazily, folded).
        position: Where a request wants to go on: an id after which, a count of events to pass over (negative: from the newest),
            or ``None`` for all.
        fold: What late readers get instead of many events: consecutive deltas of one part as one event with the id of the last;
            ``None``: each.
    """

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    run_headers: Callable[[str, str], Mapping[str, str]] = no_headers
    last: Callable[[RunEnding, Iterable[Event]], Iterable[Event]] = nothing
    position: Callable[[HttpRequest], str | int | None] = last_event_id
    fold: Callable[[Iterable[Event]], Iterable[Event]] | None = None
