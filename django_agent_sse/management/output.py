"""Events as people and programs read them in a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from django.core.management.base import OutputWrapper

from ..runtime.safe_text import printable
from ..wire.encoder import split_lines
from ..wire.event import Event
from ..wire.log_lines import LINE_EVENTS, RECORD, line_text

RESET = "\x1b[0m"
_LINES = {"stderr": "31", "error": "31", "critical": "31", "warning": "33"}
"""The colours of lines that are not to be overlooked."""
_PALETTE = ("36", "32", "35", "33", "34", "96", "92", "95")
"""Cyan, green, magenta, yellow, blue and three bright ones: no red, which is for what went wrong."""
_SGR = re.compile(r"\x1b\[[0-9;:]{0,60}m")
_KEPT = re.compile(rf"({_SGR.pattern}|\t)")
_BEYOND_ASCII = re.compile("[^ -~]+")
_LONGEST_ESCAPE = len(r"\U000e0001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One event that came.

    Attributes:
        id: Where it stands: what ``--after`` takes.
        event: The event.
        at: When it was published, or came, in seconds since 1970.
    """

    id: str
    event: Event
    at: float


class Printer:
    """Prints events, or objects, one a line; by default in colours on a terminal, unless ``NO_COLOR`` is set.

    Attributes:
        as_json: It prints objects.
    """

    def __init__(self, out: OutputWrapper, *, colour: bool | None = None, as_json: bool = False) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._colour = (self._terminal and not os.environ.get("NO_COLOR")) if colour is None else colour
        self.as_json = as_json
        self._draft_rows = 0

    def show(self, events: Sequence[Received], drafts: Iterable[str] = ()) -> None:
        """Print events, and flush.

        Args:
            events: What came.
            drafts: What may still change: on a terminal it stands below them, until there is another one.

        Raises:
            BrokenPipeError: Nobody reads them any more.
        """
        erased = f"\x1b[{self._draft_rows}A\x1b[J" if self._draft_rows else ""
        text = "".join([erased, *map(self._line, events), *self._drawn(drafts)])
        try:
            self._out.write(text, ending="")
        except UnicodeEncodeError:  # a terminal in another encoding than UTF-8
            self._out.write(text.encode("ascii", "backslashreplace").decode(), ending="")
        self._out.flush()

    def keep_drafts(self) -> None:
        """Leave the drafts that stand there: something else is printed below them."""
        self._draft_rows = 0

    def end(self, drafts: Iterable[str]) -> None:
        """Print drafts that were never finished, where they do not stand already."""
        if not self._draws and not self.as_json:
            self.show([Received(id="", event=Event(draft), at=0.0) for draft in drafts if draft])

    @property
    def _draws(self) -> bool:
        return self._terminal and not self.as_json and os.environ.get("TERM") != "dumb"

    def _drawn(self, drafts: Iterable[str]) -> list[str]:
        """Rows of drafts, each no wider than the terminal, and no more than it has."""
        if not self._draws:
            return []
        columns, height = shutil.get_terminal_size()
        rows = [line for draft in drafts if draft for line in draft.split("\n")][-max(1, height - 1) :]
        self._draft_rows = len(rows)
        return [self._closed(_narrow(self._safe(row), columns)) + "\n" for row in rows]

    def _line(self, row: Received) -> str:
        if self.as_json:
            return json_line(row)
        name = row.event.event
        if name == RECORD:
            return ""  # it is about the line before it
        if name in LINE_EVENTS:
            text = self._safe(line_text(row.event))
            return (self._painted(text, _LINES[name]) if name in _LINES else self._closed(text)) + "\n"
        data = self._safe(row.event.data)
        label = printable(name) + ":"
        colour = _PALETTE[sha256(str(name).encode()).digest()[0] % len(_PALETTE)]  # of one name always the same
        first, *rest = split_lines(self._closed(data))
        lines = [f"{self._painted(label, colour)} {first}", *(" " * (len(label) + 1) + line for line in rest)]
        return "\n".join(lines) + "\n"

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}{RESET}" if self._colour else text

    def _closed(self, text: str) -> str:
        """With colours of its own switched off at its end."""
        return text + RESET if self._colour and "\x1b[" in text and not text.endswith(RESET) else text

    def _safe(self, text: str) -> str:
        """What cannot move the cursor, rename the window or worse: of control sequences only colours reach a terminal.

        A file or another program gets the text as it is.
        """
        if not self._terminal or text.isprintable():
            return text
        if not self._colour:
            text = _SGR.sub("", text)
        return "\n".join(map(_shown, split_lines(text)))


def _narrow(row: str, columns: int) -> str:
    """A row that fits into a terminal; a wide one loses its colours."""
    plain = _SGR.sub("", row)
    fits = columns - 1 if plain.isascii() else (columns - 1) // 2
    return row if len(plain) <= fits else plain[:fits]


def _shown(line: str) -> str:
    """A line in which tabs and colours are the only controls; ``re.split`` puts them at the odd places."""
    parts = _KEPT.split(line)
    return "".join(part if at % 2 else printable(part, _LONGEST_ESCAPE * len(part)) for at, part in enumerate(parts))


def json_line(row: Received) -> str:
    """One event as an object on a line of its own."""
    event = row.event
    fields = {"id": row.id, "event": event.event, "data": event.data, "retry": event.retry, "at": instant(row.at)}
    return _BEYOND_ASCII.sub(_json_escaped, json.dumps(fields, ensure_ascii=False, separators=(",", ":"))) + "\n"


def _json_escaped(match: re.Match[str]) -> str:
    """Characters that a terminal acts on or does not show, as JSON spells them; the value stays the same."""
    text = match[0]
    if printable(text, len(text)) == text:
        return text
    return "".join(char if printable(char) == char else json.dumps(char)[1:-1] for char in text)


def instant(seconds: float) -> str:
    """A moment as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Pause:
    """Waits, as long as somebody reads what is printed."""

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._pipe = _pipe_of(out)

    def __call__(self, seconds: float) -> None:
        """Wait.

        Raises:
            BrokenPipeError: The reader of a pipe has gone.
        """
        if self._pipe is None:
            time.sleep(seconds)
        elif self._pipe.poll(max(0, seconds) * 1000):
            raise BrokenPipeError("nobody reads the output any more")

    def when_gone(self, call: Callable[[], object]) -> None:
        """Call ``call`` from a thread when the reader of a pipe has gone: the caller may be waiting for something else."""
        pipe = _pipe_of(self._out)  # one of its own: two threads cannot poll the same
        if pipe is not None:
            threading.Thread(target=lambda: pipe.poll() and call(), name="sse-output", daemon=True).start()


def _pipe_of(out: OutputWrapper) -> select.poll | None:
    """What says that the other end of ``out`` was closed, where the system can say so."""
    descriptor = getattr(out, "fileno", None)
    try:
        number = descriptor() if descriptor is not None else None
    except (OSError, ValueError):
        return None
    if number is None or not hasattr(select, "poll") or out.isatty():
        return None
    poll = select.poll()
    poll.register(number, 0)  # errors and hang-ups are always told
    return poll
