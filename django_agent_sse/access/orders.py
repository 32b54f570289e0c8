"""What processes tell each other about access: ask about some streams again, or end some."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..eventlog.validation import InternalTopic
from ..topics.orders import OrderTopic

ACCESS = InternalTopic("sse.access.orders")
MOST = 500
"""Users and sessions that one order names; of more there are several orders."""
MOST_TEXT = 40_000
"""Characters that these take as JSON, likewise: signed they are a third more, and commas; an order takes 65,536."""


class Concerned(Protocol):
    """A stream, as orders see it."""

    @property
    def users(self) -> Iterable[str]: ...  # whose it is, and who acts as that one, as ``user_text`` has them; ``""`` for nobody
    @property
    def session(self) -> str: ...  # as ``session_text`` has it, ``""`` for none
    @property
    def route(self) -> str: ...
    @property
    def topics(self) -> Iterable[str]: ...  # that it follows
    @property
    def asks(self) -> bool: ...  # whether there is anything to ask about it


def new_id() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recheck:
    """Ask about the streams of these users and sessions again.

    Attributes:
        users: As ``user_text`` has them.
        sessions: As ``session_text`` has them.
        everybody: Of all.
    """

    id: str = field(default_factory=new_id)
    users: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()
    everybody: bool = False

    def concerns(self, stream: Concerned) -> bool:
        if not stream.asks:
            return False
        by_user = not self.users.isdisjoint(stream.users)
        return self.everybody or by_user or (bool(self.sessions) and stream.session in self.sessions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """End the streams that fit all that is given.

    Attributes:
        users: Of one of these; none: of anybody.
        sessions: Of one of these, as ``session_text`` has them.
        route: Of this route.
        topic: That follow this topic.
        reconnect: Their clients may come back, and the guards are asked; else an ``EventSource`` stays away.
    """

    id: str = field(default_factory=new_id)
    users: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()
    route: str = ""
    topic: str = ""
    reconnect: bool = True

    def concerns(self, stream: Concerned) -> bool:
        if not (self.users or self.sessions or self.route or self.topic):
            return False  # an order that names nothing ends nothing
        return (
            (not self.users or not self.users.isdisjoint(stream.users))
            and (not self.sessions or stream.session in self.sessions)
            and (not self.route or stream.route == self.route)
            and (not self.topic or self.topic in stream.topics)
        )

    def milder(self) -> Recheck:
        """Return what asks about these streams and ends none of those that may go on: for an order of which nobody knows when."""
        named = bool(self.users or self.sessions)
        return Recheck(id=self.id, users=self.users, sessions=self.sessions, everybody=not named)


AccessOrder = Recheck | Close
_SETS = ("users", "sessions")


def _build(kind: type[AccessOrder], fields: dict[str, Any]) -> AccessOrder:
    given: dict[str, Any] = {name: frozenset(value) if name in _SETS else value for name, value in fields.items()}
    return kind(**given)


def _fields(order: AccessOrder) -> dict[str, Any]:
    values = {name: getattr(order, name) for name in type(order).__dataclass_fields__}
    return {name: sorted(value) if name in _SETS else value for name, value in values.items()}


orders: OrderTopic[AccessOrder] = OrderTopic(
    name=ACCESS, kinds={"recheck": Recheck, "close": Close}, build=_build, fields=_fields
)


class Lately:
    """The orders of the last while, for streams that begin now: what their guards have seen may be older. Of one event loop."""

    SECONDS = 30.0
    MOST = 1_000

    def __init__(self) -> None:
        self._orders: deque[tuple[float, AccessOrder]] = deque()
        self._forgotten = -math.inf

    def note(self, order: AccessOrder, at: float) -> None:
        """Keep an order in mind that was given at that time (monotonic)."""
        self._orders.append((at, order))
        while len(self._orders) > self.MOST or self._orders[0][0] < time.monotonic() - self.SECONDS:
            self._forgotten = max(self._forgotten, self._orders.popleft()[0])
            if not self._orders:
                return

    def since(self, at: float) -> list[tuple[float, AccessOrder]] | None:
        """Return the orders since then; ``None`` where that is so long ago, or they were so many, that nobody knows any more."""
        if at <= self._forgotten:
            return None
        return [(given, order) for given, order in self._orders if given >= at]


def in_parts(names: Iterable[str]) -> Iterator[frozenset[str]]:
    """Yield names in sets of ``MOST`` at most, which take no more than an order may."""
    part, size = set[str](), 0
    for name in sorted(set(names)):
        size += len(json.dumps(name))
        if part and (len(part) == MOST or size > MOST_TEXT):
            yield frozenset(part)
            part, size = set(), len(json.dumps(name))
        part.add(name)
    if part:
        yield frozenset(part)
