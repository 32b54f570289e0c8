"""Reports of processes as JSON in the event log; what is read there is looked at before it is believed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ...streams.counters import DURATIONS, RouteCounts
from ...streams.snapshot import Process, Snapshot
from . import fields

ROUTES = 10_000
"""Routes of one report at most."""
KINDS = PROBLEMS = 50
"""Kinds of endings and of refusals, and problems, at most."""
_NONE_LASTED = [0] * (len(DURATIONS) + 1)


def encode(snapshot: Snapshot, **more: Any) -> str:
    """Return a report as JSON, without what is zero."""
    routes = {route: _without_zeros(counts) for route, counts in snapshot.routes.items()}
    about = {name: getattr(snapshot, name) for name in ("at", "problems", "draining", "last") if getattr(snapshot, name)}
    return json.dumps({"process": dataclasses.asdict(snapshot.process), **about, "routes": routes, **more}, separators=(",", ":"))


def decode(text: str) -> tuple[Snapshot, dict[str, Any]]:
    """Return what ``encode`` was given; the rest of it, a dict, nobody has looked at yet.

    Raises:
        ValueError: Another version of the package wrote it, or somebody else.
    """
    payload = fields.parsed(text)
    try:
        process = _process(payload.pop("process"))
        routes = {route: _counts(counts) for route, counts in fields.mapping(payload.pop("routes"), ROUTES).items()}
        at = fields.moment(payload.pop("at"))
    except KeyError as error:
        raise ValueError(f"this is not a report of a process: {error} is missing") from error
    problems = fields.mapping(payload.pop("problems", {}), PROBLEMS)
    return Snapshot(
        process=process,
        at=at,
        routes=routes,
        problems={key: fields.text(detail, 2000) for key, detail in problems.items()},
        draining=fields.flag(payload.pop("draining", False)),
        last=fields.flag(payload.pop("last", False)),
    ), payload


def _process(value: object) -> Process:
    payload = fields.mapping(value, 4)
    return Process(
        id=fields.text(payload["id"], 60),
        host=fields.text(payload["host"], 100),
        pid=fields.count(payload["pid"]),
        since=fields.moment(payload["since"]),
    )


def _counts(given: object) -> RouteCounts:
    payload = fields.mapping(given, len(RouteCounts.__slots__))
    values: dict[str, Any] = {}
    for name, value in payload.items():
        if name in ("endings", "refused"):
            values[name] = {key: fields.count(number) for key, number in fields.mapping(value, KINDS).items()}
        elif name == "durations":
            values[name] = [fields.count(number) for number in fields.listed(value, KINDS)]
        elif name == "seconds":
            values[name] = fields.number(value)
        elif name in RouteCounts.__slots__:
            values[name] = fields.count(value)
        else:
            raise ValueError("a route has no such count")
    return RouteCounts(**values)


def _without_zeros(counts: RouteCounts) -> dict[str, Any]:
    return {name: value for name in RouteCounts.__slots__ if (value := getattr(counts, name)) and value != _NONE_LASTED}
