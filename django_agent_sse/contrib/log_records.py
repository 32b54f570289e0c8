"""What a record of Python's logging says beside its text: its logger, where in the code it was made, its fields."""

from __future__ import annotations

import logging
import sys
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings

from ..encoding import encode_json
from ..wire.event import Event
from ..wire.log_lines import RECORD, level_name

FIELDS: Final = 50
"""Fields of a record that are told."""
CHARACTERS: Final = 1_000
"""Characters of a name or a value."""
BYTES: Final = 16_384
"""Bytes of all of it; beyond them fields are left out."""
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def details_event(record: logging.LogRecord) -> Event:
    """Return the event that tells it."""
    fields: dict[str, object] = {}
    for name, value in vars(record).items():
        if name not in _OWN and not name.startswith("_") and len(fields) < FIELDS:
            fields[_cut(name)] = value if value is None or isinstance(value, bool | int | float) else _cut(_text(value))
    told: dict[str, object] = {
        "level": level_name(record.levelno),
        "logger": _cut(str(record.name)),
        "file": _file(str(record.pathname or ""))[-CHARACTERS:] or None,
        "line": record.lineno or None,
    }
    return Event(_json({**told, "fields": fields}, told), event=RECORD)


def _json(whole: dict[str, object], otherwise: dict[str, object]) -> str:
    try:
        text = encode_json(whole).encode(errors="backslashreplace").decode()
    except ValueError:  # a number that JSON has not
        text = ""
    return text if text and len(text) <= BYTES else encode_json({**otherwise, "fields": {}})


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"


@cache
def _roots() -> tuple[str, ...]:
    """Directories below which a file is told: the project's, and those that Python imports from, the longest first."""
    base = getattr(settings, "BASE_DIR", None) if settings.configured else None
    roots = {str(Path(root).resolve()) for root in [*([base] if base else []), *filter(None, sys.path)]}
    return tuple(sorted(roots, key=len, reverse=True))


def _file(path: str) -> str:
    """Return the path of a file as its project writes it; of one that is elsewhere the name alone."""
    for root in _roots():
        if path.startswith(f"{root.rstrip('/')}/"):
            return path[len(root.rstrip("/")) + 1 :]
    return Path(path).name
