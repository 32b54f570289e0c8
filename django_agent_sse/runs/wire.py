"""What a protocol adds to a run: headers, last events, positions, and what late readers get. The frames are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from django.http import HttpRequest

from ..encoding import encode_json
from ..eventlog.last_words import make_known, name_of
from ..streams.last_event_id import LastEventId
from ..topics.reading import Fold
from ..wire.event import Event
from .endings import RunEnding


def no_headers(run_id: str, path: str) -> Mapping[str, str]:
    """Name the run in no header."""
    return {}


def no_name(request: HttpRequest) -> str | None:
    """Take no names: the protocol's clients send back the id that they were given."""
    return None


def no_events(ending: RunEnding, events: Iterable[Event]) -> Iterable[Event]:
    """End with no events of its own."""
    return ()


def last_event_id(request: HttpRequest) -> str | None:
    """Return the id in ``Last-Event-ID``, or in ``?last_event_id=``."""
    return LastEventId.of(request).value


def no_state(ending: RunEnding | None, events: Iterable[Event]) -> Mapping[str, object]:
    """Say no more than the run's id and its ending."""
    return {}


def never(event: Event) -> bool:
    """Break off, whatever came last."""
    return False


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
            that is there already is said twice: a protocol's own end among the events is the end. A function of a module, so
            that the end of a run whose process has died is found by another one, which has imported that module.
        terse: The same without what may be large, for where one of those is larger than an event of the log may be. ``None``:
            they are those of a topic without events then.
        position: Where a request wants to go on: an id after which, a count of events to pass over (negative: from the
            newest), or ``None`` for all. Raises ``QueryInvalid``. Who counts must get each event: do not fold for them.
        run_name: What a request calls its run, where the protocol's clients name runs themselves. Two starts of one client with
            the same name are one run, and for that client the name leads to it as its id does.
        tail_header: Header in which a client that counts from the newest event (a negative position) is told the index of
            that event, from 0; ``""`` for none.
        repeat_last: Whoever comes back after the last event of a run that is over gets that once more, without an id. Its
            client takes a connection for broken that ends before an event that ends the run.
        numbered: Events have numbers, and the last one is known by its type: whoever has that by its number, and asks for more,
            gets an empty answer. Without this it gets the last one again.
        state: What the protocol calls the state of a run, as JSON, by its ending (``None`` while it goes on) and its events, read
            lazily, folded: for a GET that wants JSON and names no position, and for whoever stops a run.
        ends_whole: Whether the response of a run that failed, was interrupted or lost ends whole after this last event, which
            has told the protocol's clients what happened. Else it breaks off, so that nobody takes it for whole; but browsers
            forget then what they have received and not read, and some clients report the break instead, or come back after it.
        id_first: Its clients take an id for that of the data that follows, not of the event in which it stands.
        text: The text of a run, by the events that its topic holds.
        fold: What late readers get instead of many events: consecutive deltas of one part as one event with the id of the
            last; ``None``: each. What it returns may be given to it again, with the events that follow.
    """

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)
    run_headers: Callable[[str, str], Mapping[str, str]] = no_headers
    last: Callable[[RunEnding, Iterable[Event]], Iterable[Event]] = no_events
    terse: Callable[[RunEnding, Iterable[Event]], Iterable[Event]] | None = None
    position: Callable[[HttpRequest], str | int | None] = last_event_id
    run_name: Callable[[HttpRequest], str | None] = no_name
    tail_header: str = ""
    repeat_last: bool = False
    numbered: bool = False
    state: Callable[[RunEnding | None, Iterable[Event]], Mapping[str, object]] = no_state
    ends_whole: Callable[[Event], bool] = never
    id_first: bool = False
    text: Callable[[Iterable[Event]], str] = text_of_data
    fold: Fold | None = None

    def __post_init__(self) -> None:
        make_known(self.last_name, *(partial(self._lost, words) for words in self.words))

    @property
    def last_name(self) -> str:
        """The name by which other processes find ``last``; ``""`` where they cannot, or there is nothing to say."""
        return "" if self.last is no_events else name_of(self.last)

    @property
    def words(self) -> tuple[Callable[[RunEnding, Iterable[Event]], Iterable[Event]], ...]:
        """What says the last events: where one cannot, or they are too large for the log, the next."""
        return (self.last,) if self.terse is None else (self.last, self.terse)

    def folded(self, events: Iterable[Event]) -> Iterable[Event]:
        """Return fewer events that say the same, where that can be."""
        return events if self.fold is None else self.fold(events)

    def _lost(self, words: Callable[..., Iterable[Event]], events: Iterable[Event]) -> Iterable[Event]:
        return words(RunEnding.LOST, self.folded(events))


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
