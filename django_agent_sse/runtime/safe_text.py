"""Text that somebody else wrote, made safe for a line of a log, a terminal or an error."""

from __future__ import annotations

import re
from typing import Final

ELLIPSIS: Final = "…"
_UNSAFE: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: terminals act on them, and a line feed begins a line of log that nobody wrote
    "\xad\u061c\u180e"  # the soft hyphen, the Arabic letter mark, the Mongolian vowel separator: not seen
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero widths, line and paragraph separators, bidirectional controls
    "\ufeff\ufff9-\ufffb"  # the byte order mark, interlinear annotations
    "\ud800-\udfff"  # lone surrogates: no stream can encode them
    "\U000e0000-\U000e007f"  # tags: not seen
    "]"
)


def printable(text: object, limit: int = 200) -> str:
    """Return *text* as one line that shows what it holds and does nothing.

    Control characters (C0, C1, DEL), bidirectional and zero-width controls, line separators and lone surrogates become
    Python's escapes, as in ``\\x1b``; anything else stays as it is. What is longer than *limit* characters is
    cut there, and ends with an ellipsis: the answer never has more than *limit* characters.
    """
    # Only so many characters are looked at, so that a text of any length costs the same.
    string = text if isinstance(text, str) else str(text)
    shown = _UNSAFE.sub(_escaped, string[:limit])
    if max(len(string), len(shown)) <= limit:
        return shown
    return shown[: max(limit - 1, 0)] + ELLIPSIS if limit > 0 else ""


RUN_ID: Final = "run_"
"""What the ids of runs begin with."""
_TOLD: Final = 6


def without_run_id(text: str) -> str:
    """Return an id of a run, or a topic's name that ends with one, with the beginning of the id alone.

    Whoever has the id of a run that nobody in particular has started may read the run and stop it: log lines do not hold it.
    """
    head, mark, id = text.rpartition(RUN_ID)
    return f"{head}{mark}{id[:_TOLD]}{ELLIPSIS}" if mark and len(id) > _TOLD else text


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
