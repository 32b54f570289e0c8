"""What ends a topic whose lease has run out, in the words of the protocol that stands there: open parts are ended first.

Whoever knew the protocol is gone by then. So the lease keeps the name of the function that has the words, and whoever looks first
calls it with the events of the topic. A name leads only to functions that this process has made known: what stands in a store is
never imported, but for this package's own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType
from typing import Any

from ..wire.event import Event

Words = Callable[[Iterable[Event]], Iterable[Event]]
"""Returns what ends a lost topic, by the events that are there."""

_OWN = f"{__name__.partition('.')[0]}."
_known: dict[str, tuple[Words, ...]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """What a topic ends with if its lease runs out.

    Attributes:
        events: What comes first, whatever there is.
        by: The name of the function that says what comes next: see `name_of`; ``""`` for nothing.
        otherwise: What comes next where a process does not know that function.
    """

    events: tuple[Event, ...] = ()
    by: str = ""
    otherwise: tuple[Event, ...] = ()

    def packed(self) -> list[Event]:
        """Return it as events, which every log can keep: the first one is a note and not for readers."""
        return [Event(f"{len(self.events)} {self.by}"), *self.events, *self.otherwise]

    @classmethod
    def unpacked(cls, events: Iterable[Event]) -> LastWords:
        """Return what was packed."""
        note, *rest = events
        count, _, by = note.data.partition(" ")
        return cls(events=(*rest[: int(count)],), by=by, otherwise=(*rest[int(count) :],))


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which another process finds a function of a module; ``""`` for any other one."""
    if not isinstance(function, FunctionType) or "<" in function.__qualname__:
        return ""
    return f"{function.__module__}:{function.__qualname__}"


def make_known(name: str, *words: Words) -> None:
    """Have a name lead to words in this process: where the first cannot be said, the next."""
    if name:
        _known[name] = words


def words_of(name: str) -> tuple[Words, ...]:
    """Return the words for a name; none where this process does not know them."""
    if name and name not in _known and name.startswith(_OWN):
        with suppress(ImportError):
            import_module(name.partition(":")[0])
    return _known.get(name, ())
