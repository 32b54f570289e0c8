"""Lines by what they are made of, and how much of a stream they take."""

from __future__ import annotations

KINDS = {"letters": "x", "quotes": '"', "slashes": "\\", "nul": "\0", "returns": "x" * 79 + "\r", "dense": "x\r"}
"""In JSON NULs take six bytes, quotes and backslashes two; PostgreSQL's driver makes four of a backslash's. To a client each CR
ends a line.
"""


def line_of(kind: str, size: int) -> str:
    """Return a line that takes no more than ``size`` bytes in a stream, where each CR of it takes six more."""
    part = KINDS[kind]
    return part * (size // (len(part) + 6 * part.count("\r")))
