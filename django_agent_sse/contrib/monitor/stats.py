"""What is known of open streams at one moment: of each, by route, and of a whole process. Values, which travel as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from . import fields
from .process import Process

ROUTES = 10_000
"""Routes that one report tells of at most; and so on for the rest of it."""
KINDS = PROBLEMS = 50
SLOW_SECONDS = 1.0
"""A send that has waited for the client for so long makes the stream a slow one."""


class State(StrEnum):
    """What a stream is doing."""

    STARTING = "starting"
    """Its response has not begun."""
    LIVE = "live"
    """The client has everything."""
    REPLAYING = "replaying"
    """Events wait for it."""
    SLOW = "slow"
    """The client has taken nothing for ``SLOW_SECONDS``."""
    CLOSING = "closing"
    """Its end is decided, and the last of it is being sent."""
    LINGERING = "lingering"
    """The client is gone; the handler goes on."""

    @property
    def connected(self) -> bool:
        """Whether there is a response under way."""
        return self not in (State.STARTING, State.LINGERING)


class Measure(NamedTuple):
    """One stream, in numbers. Times are those of its event loop, in seconds."""

    state: State
    events: int
    bytes: int
    opened: float | None
    wrote: float
    lag: int


class Facts(NamedTuple):
    """What does not change about a stream. ``user`` is a primary key as text, ``""`` for nobody."""

    route: str
    user: str
    address: str
    agent: str
    heartbeat: float | None


class Row(NamedTuple):
    """One open stream as the monitor lists it; ``seconds`` open, ``idle`` since the last write."""

    id: str
    route: str
    topics: tuple[str, ...]
    user: str
    opened: float
    seconds: float
    events: int
    bytes: int
    last_id: str | None
    lag: int
    idle: float
    address: str
    agent: str
    process: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """One route in one process.

    Attributes:
        open: Streams whose response is under way.
        starting: Requests whose response has not begun.
        lingering: Handlers that go on without a client.
        slow: Open ones whose client takes nothing.
        opened: Streams since the process began.
        endings: Those that are over, by how they ended.
        refused: Requests that got no stream, by why.
        events: Sent since the process began.
        bytes: Likewise.
        seconds: How long those that are over were open, together.
        durations: How many of them lasted up to each of ``tally.DURATIONS``, and longer.
    """

    open: int = 0
    starting: int = 0
    lingering: int = 0
    slow: int = 0
    opened: int = 0
    endings: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = ()

    @property
    def errors(self) -> int:
        """Handlers that failed, before or after the response had begun."""
        return self.endings.get("handler_error", 0) + self.refused.get("error", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One process at one moment.

    Attributes:
        process: Which.
        at: When, in seconds since 1970.
        routes: By their patterns.
        problems: What it has to complain of: keys of the health banner, with a detail each.
        draining: It ends its streams and takes no new ones.
        last: It will not report again soon: it ends, or has no streams.
    """

    process: Process
    at: float
    routes: Mapping[str, RouteCounts]
    problems: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
    last: bool = False

    def total(self, name: str) -> int:
        """The sum of a number over all routes: ``open``, ``events``, …; of ``refused`` and ``endings``, of all kinds."""
        found = (getattr(counts, name) for counts in self.routes.values())
        return sum(sum(one.values()) if isinstance(one, Mapping) else one for one in found)


def encode(snapshot: Snapshot, **more: Any) -> str:
    """As JSON, without what is zero."""
    routes = {route: _without_zeros(counts) for route, counts in snapshot.routes.items()}
    about = {name: getattr(snapshot, name) for name in ("at", "problems", "draining", "last") if getattr(snapshot, name)}
    return json.dumps({"process": dataclasses.asdict(snapshot.process), **about, "routes": routes, **more}, separators=(",", ":"))


def decode(text: str) -> tuple[Snapshot, dict[str, Any]]:
    """What ``encode`` made, and what else it was given, which nobody has looked at yet.

    Raises:
        ValueError: It was another version of the package, or somebody else.
    """
    told = fields.parsed(text)
    try:
        process = _process(told.pop("process"))
        routes = {route: _counts(counts) for route, counts in fields.mapping(told.pop("routes"), ROUTES).items()}
        at = fields.moment(told.pop("at"))
    except KeyError as error:
        raise ValueError(f"no report of a process: {error} is missing") from error
    problems = fields.mapping(told.pop("problems", {}), PROBLEMS)
    return Snapshot(
        process=process,
        at=at,
        routes=routes,
        problems={key: fields.text(detail, 2000) for key, detail in problems.items()},
        draining=fields.flag(told.pop("draining", False)),
        last=fields.flag(told.pop("last", False)),
    ), told


def _process(value: object) -> Process:
    told = fields.mapping(value, 4)
    return Process(
        id=fields.text(told["id"], 60),
        host=fields.text(told["host"], 100),
        pid=fields.count(told["pid"]),
        since=fields.moment(told["since"]),
    )


def _counts(value: object) -> RouteCounts:
    told = fields.mapping(value, len(RouteCounts.__slots__))
    found: dict[str, Any] = {}
    for name, given in told.items():
        if name in ("endings", "refused"):
            found[name] = {key: fields.count(one) for key, one in fields.mapping(given, KINDS).items()}
        elif name == "durations":
            found[name] = tuple(fields.count(one) for one in fields.listed(given, KINDS))
        elif name == "seconds":
            found[name] = fields.number(given)
        elif name in RouteCounts.__slots__:
            found[name] = fields.count(given)
        else:
            raise ValueError("a route has no such count")
    return RouteCounts(**found)


def _without_zeros(counts: RouteCounts) -> dict[str, Any]:
    return {name: value for name in RouteCounts.__slots__ if (value := getattr(counts, name)) and value != (0,) * 9}
