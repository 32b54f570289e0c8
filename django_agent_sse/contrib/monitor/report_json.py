"""Reports of processes as JSON in the event log; what is read there is looked at before it is believed.

Another version of the package may have written a report, or somebody else who can write to the log. Each function that checks a
value raises ``ValueError`` for one of another type, or one that is too large or cannot be shown.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final, TypeVar

from ...eventlog.position import MAX_TOPICS
from ...eventlog.validation import MAX_NAME
from ...streams.body import no_constant
from ...streams.counters import CAUSES, RouteCounts
from ...streams.registry import State
from ...streams.snapshot import Process, Snapshot
from .inspector import FILE_ROWS, REFUSED, ROWS, RUNS, TOPICS, Answer, LimitRow, RefusedRow, RunRow, StreamQuery, StreamRow

T = TypeVar("T")

ROUTES: Final = 10_000
"""Routes of one report at most."""
KINDS: Final = CAUSES + 20
"""Kinds of endings and of refusals, causes of both, and problems, at most."""
ANSWERS: Final = 32
"""Answers in one report at most."""
MAX_TEXT: Final = 2000
"""Characters of a route, an id, a user agent."""
MAX_KEY: Final = 1000
"""Characters of a route, or a word, by which something is counted."""
LARGEST: Final = 2.0**53
"""Above it JavaScript, for one, cannot tell whole numbers apart."""
LATEST: Final = 4_102_444_800.0
"""The year 2100, in seconds since 1970: no process reports a later moment."""
_KINDS = {dict: "an object", list: "a list", str: "text", int: "a whole number", bool: "true or false"}
_ABOUT = ("at", "sums", "runs", "running", "arrivals", "problems", "draining", "idle", "last")


def encode(snapshot: Snapshot, answers: Iterable[tuple[StreamQuery, Answer]] = ()) -> str:
    """Return a report, and answers to queries, as JSON without what is zero."""
    report: dict[str, Any] = {"process": dataclasses.asdict(snapshot.process)}
    report |= {name: value for name in _ABOUT if _says(value := getattr(snapshot, name))}
    report["routes"] = {
        route: {name: value for name in RouteCounts.__slots__ if _says(value := getattr(counts, name))}
        for route, counts in snapshot.routes.items()
    }
    if listed := [(dataclasses.asdict(query), *answer[:-1]) for query, answer in answers]:
        report["answers"] = listed
    return json.dumps(report, separators=(",", ":"))


def _says(value: object) -> bool:
    """Whether a value is not what it is by default: no number, no word, and a histogram of nothing."""
    return any(value) if isinstance(value, list) else bool(value)


def decode(text: str) -> tuple[Snapshot, list[tuple[StreamQuery, Answer]]]:
    """Return what ``encode`` was given.

    Raises:
        ValueError: Another version of the package wrote it, or somebody else.
    """
    try:
        report = json.loads(text, parse_constant=no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(report, dict):
        raise ValueError("it is not an object")
    try:
        snapshot = _snapshot(report)
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not a report of a process: {error!r}") from error
    return snapshot, [_answer(snapshot, answer) for answer in _sized(report.get("answers", []), list, ANSWERS)]


def _snapshot(report: Mapping[str, Any]) -> Snapshot:
    process = Process(**_fields(Process, report["process"]))
    if len(process.id) > 60 or len(process.host) > 100:
        raise ValueError("the name of its process is too long")
    _number(process.since, LATEST)
    _number(report["at"], LATEST)
    values = _fields(Snapshot, {name: report[name] for name in _ABOUT if name in report})
    routes = _object(report["routes"], ROUTES)
    return Snapshot(
        process=process, routes={route: RouteCounts(**_fields(RouteCounts, counts)) for route, counts in routes.items()}, **values
    )


def _answer(snapshot: Snapshot, payload: object) -> tuple[StreamQuery, Answer]:
    query, rows, matched, readers, runs, refused, limits = _exactly(payload, 7)
    asked = StreamQuery(**_fields(StreamQuery, query))
    own = [_row(row, snapshot.process.id) for row in _sized(rows, list, ROWS if asked.after is None else FILE_ROWS)]
    counts = {topic: _count(number) for topic, number in _object(readers, TOPICS).items()}
    going_on = [RunRow(**_named(RunRow, run)) for run in _sized(runs, list, RUNS)]
    sent_away = [RefusedRow(**_named(RefusedRow, row)) for row in _sized(refused, list, REFUSED)]
    near = [LimitRow(**_named(LimitRow, row)) for row in _sized(limits, list, REFUSED)]
    return asked, Answer(own, _count(matched), counts, going_on, sent_away, near, snapshot.at)


def _row(payload: object, process: str) -> StreamRow:
    row = StreamRow(**_named(StreamRow, payload))
    if row.process != process or not row.id.startswith(f"{process}."):
        raise ValueError("a process may tell of its own streams only")
    if row.state not in {*State}:
        raise ValueError("a stream cannot be in this state")
    _number(row.opened, LATEST)
    return row


def _named(cls: type[Any], payload: object) -> dict[str, Any]:
    """Return the values of a ``NamedTuple``, by its fields."""
    return _fields(cls, dict(zip(cls._fields, _exactly(payload, len(cls._fields)), strict=True)))


def _fields(cls: type, payload: object) -> dict[str, Any]:
    """Return values for the fields of a class, each checked by the annotation of its field."""
    checks, values = _checks_of(cls), _object(payload, 100)
    if unknown := values.keys() - checks.keys():
        raise ValueError(f"a {cls.__name__} has no {min(unknown)[:40]!r}")
    return {name: checks[name](value) for name, value in values.items()}


@cache
def _checks_of(cls: type) -> dict[str, Callable[[object], Any]]:
    kinds: dict[str, Any] = {
        name: getattr(kind, "__forward_arg__", kind) for name, kind in cls.__annotations__.items()
    }  # of a NamedTuple
    return {name: _CHECKS[kind] for name, kind in kinds.items() if kind in _CHECKS}


def _exactly(payload: object, parts: int) -> list[Any]:
    values = _sized(payload, list, parts)
    if len(values) != parts:
        raise ValueError(f"expected {parts} parts, not {len(values)}")
    return values


def _sized(value: object, kind: type[T], most: int | None = None) -> T:
    """Return a value of a type, which has so many parts at most."""
    if not isinstance(value, kind) or (most is not None and len(value) > most):  # type: ignore[arg-type]
        # repr() would write all of something large, and refuses numbers of thousands of digits.
        shown = f"'{value[:40]}'" if isinstance(value, str) else f"a {type(value).__name__}"
        limit = "" if most is None else f" of at most {most:,} parts"
        raise ValueError(f"expected {_KINDS[kind]}{limit}, not {shown}")
    return value


def _object(value: object, most: int) -> Mapping[str, Any]:
    for key in (payload := _sized(value, dict, most)):
        if len(key) > MAX_KEY or not key.isascii():
            _text(key, MAX_KEY)
    return payload


def _text(value: object, most: int = MAX_TEXT) -> str:
    text = _sized(value, str, most)
    text.encode()  # a lone surrogate raises a ValueError
    return text


def _number(value: object, most: float = LARGEST) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"expected a number from 0 to {most:g}, not a {type(value).__name__}")
    return value


def _count(value: object) -> int:
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    return int(_number(_sized(value, int)))


def _counts(values: Iterable[object]) -> None:
    """Look at many counts: a page that opens does so for those of an hour."""
    for value in values:
        if type(value) is not int or not 0 <= value <= LARGEST:
            _count(value)


def _histogram(value: object) -> list[int]:
    _counts(numbers := _sized(value, list, KINDS))
    return numbers


def _words(value: object) -> dict[str, int]:
    _counts((words := dict(_object(value, KINDS))).values())
    return words


_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "str": _text,
    "str | None": lambda value: None if value is None else _text(value),
    "int": _count,
    "int | None": lambda value: None if value is None else _count(value),
    "float": _number,
    "bool": lambda value: _sized(value, bool),
    "tuple[str, ...]": lambda value: tuple(_text(topic, MAX_NAME) for topic in _sized(value, list, MAX_TOPICS)),
    "list[int]": _histogram,
    "Mapping[str, str]": lambda value: {key: _text(detail) for key, detail in _object(value, KINDS).items()},
    "dict[str, int]": _words,
}
"""By the annotations of the fields of what is reported."""
