"""The Event, and the rules for what may stand in one.

The rules are the ones of the WHATWG HTML standard, section 9.2 "Server-sent events": a field is one line, an id holds no NUL,
``retry`` is a whole number of milliseconds, and everything is UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import EventTooLarge, InvalidEvent

MAX_RETRY = 3_600_000
"""The longest ``retry`` in milliseconds, one hour.

The standard names no limit, and a client that has taken a ``retry`` keeps it: one event with a long one would silence every
client that loses its connection for as long. (Beyond 2147483647 the timers of clients that are not the browser's own overflow,
and they reconnect in a busy loop.) Who is to stay away for longer is sent away by the end of the stream.
"""
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The largest event: its data in UTF-8, with ``data: `` before each further line. A ``Decoder`` holds so much for one by default.

Room for the largest messages in use: LaunchDarkly's contract tests for clients send 10 MiB, and agents send images as base64.
Each event is framed, stored and read in steps in which nothing else of the process goes on: so much of it holds up nobody.
"""
FIELD_BYTES = len("data: ")
FITS = MAX_EVENT_BYTES // (FIELD_BYTES + 1)
"""Characters that fit, whatever they are: a line end takes seven bytes, and no other character more than four."""
RESERVED = "sse."
"""Event names and ids that begin so speak for the stream itself, and topics that do are the package's own."""

_FORBIDDEN = {"\r": "a carriage return", "\n": "a line feed", "\0": "a NUL"}
_SHOWN = 60


@dataclass(frozen=True, slots=True, init=False)
class Event:
    """One message of ``text/event-stream``. Immutable, and valid from birth: what cannot be framed cannot be made.

    Args:
        data: The text. Required, since a block without data is not an event to a browser, and an error to several other clients;
            ``""`` is an event with empty data. CR LF, CR and LF in it all reach the client as LF.
        event: The event's name. ``None`` writes no ``event`` line; ``""`` writes an empty one, which the standard defines to mean
            the same as none: the client sees a ``message``.
        id: What the client sends back as ``Last-Event-ID``. ``None`` leaves the client's last id as it is, ``""`` resets it.
        retry: How long the client waits before it reconnects, in milliseconds, 0 to ``MAX_RETRY``.

    Raises:
        InvalidEvent: A field is of another type, ``event`` or ``id`` holds CR, LF or NUL or begins with ``sse.``, ``retry`` is
            out of range, or a text cannot be encoded as UTF-8 (a lone surrogate).
        EventTooLarge: The data takes more than ``MAX_EVENT_BYTES`` in a stream.
    """

    data: str
    event: str | None
    id: str | None
    retry: int | None

    def __init__(self, data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> None:
        _fill(
            self,
            valid_text("data", data),
            None if event is None else valid_name("event", event),
            None if id is None else valid_name("id", id),
            None if retry is None else valid_retry(retry),
        )


# The slots' own setters: half the time of object.__setattr__, the usual way into a frozen dataclass.
_set_data, _set_event, _set_id, _set_retry = (Event.__dict__[name].__set__ for name in ("data", "event", "id", "retry"))


def _fill(event: Event, data: str, name: str | None, id: str | None, retry: int | None) -> None:
    _set_data(event, data)
    _set_event(event, name)
    _set_id(event, id)
    _set_retry(event, retry)


def decoded(data: str, event: str | None, id: str | None, retry: int | None) -> Event:
    """Return an ``Event`` without checking its parts: for the decoder, whose parts cannot break the rules."""
    made = object.__new__(Event)
    _fill(made, data, event, id, retry)
    return made


def stored(data: str, event: str | None = None, retry: int | None = None) -> Event:
    """Return the ``Event`` that a log keeps, which anything may have written: an older version, another program.

    A reserved name gets a ``_`` before it, so that it reaches clients and speaks for nobody; a ``retry`` is cut to ``MAX_RETRY``.

    Raises:
        InvalidEvent: It is none: a part is of another type, or cannot be framed.
    """
    return Event(data, event=_kept_name(event), retry=min(retry, MAX_RETRY) if isinstance(retry, int) else retry)


def all_stored(datas: Sequence[str], names: Sequence[str | None]) -> list[Event]:
    """Return what ``stored`` does, of many events without a ``retry``: they are checked together, in a fifth of the time.

    Raises:
        InvalidEvent: One of them is none.
    """
    whole = "".join(datas)
    if len(whole) > FITS or not (whole.isascii() or _is_encodable(whole)):
        return [*map(stored, datas, names)]
    valid = {name: None if name is None else valid_name("event", _kept_name(name)) for name in {*names}}
    return [decoded(data, valid[name], None, None) for data, name in zip(datas, names, strict=True)]


def _kept_name(name: str | None) -> str | None:
    return f"_{name}" if isinstance(name, str) and is_reserved(name) else name


# The checks of the parts: each returns a plain value, or raises what `Event` documents.


def is_reserved(name: str) -> bool:
    """Whether a name begins with ``RESERVED``, also for a reader that takes off spaces or does not look at case."""
    return name.lstrip()[: len(RESERVED)].lower() == RESERVED


def valid_name(field: str, value: object) -> str:
    """Return ``value`` as ``valid_line`` does, unless it is reserved."""
    if type(value) is str and len(value) <= FITS and value.isprintable() and (value[:1] not in " sS" or "." not in value):
        return value  # nearly every name, at no more than the cost of looking
    text = valid_line(field, value)
    if is_reserved(text):
        raise InvalidEvent(
            f"the {field} {text[:_SHOWN]!r} begins with {RESERVED!r}, which is reserved for what the stream says of itself "
            f"({RESERVED}end, {RESERVED}gap and so on): choose another one, such as {text.lstrip()[len(RESERVED) :][:_SHOWN]!r}."
        )
    return text


def valid_text(field: str, value: object) -> str:
    """Return ``value`` as a plain ``str`` that a stream can carry, line ends and all."""
    text = plain_str(field, value)
    if len(text) > FITS:
        check_size(field, text)
    if not text.isascii():
        check_encodable(field, text)
    return text


def valid_line(field: str, value: object) -> str:
    """Return ``value`` as a plain ``str`` that can stand in the one line of ``field``."""
    text = plain_str(field, value)
    if len(text) > FITS:
        check_size(field, text)
    # Controls and surrogates are never printable, so most names and ids pass at this one fast test.
    if text.isprintable():
        return text
    for character, name in _FORBIDDEN.items():
        if character in text:
            place = f"at character {text.index(character) + 1} of {len(text)}"  # without the text: errors end up in logs
            raise InvalidEvent(
                f"{field} holds {name} {place}, which would end or corrupt its line in the stream. "
                f"It must be one line without CR, LF or NUL: choose it yourself, and put free text into data."
            )
    check_encodable(field, text)
    return text


def valid_retry(value: object) -> int:
    """Return ``value`` as a plain ``int`` of milliseconds; a ``bool`` is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidEvent(f"retry must be an int, in milliseconds, not {type(value).__name__}.")
    if not 0 <= value <= MAX_RETRY:
        fault = "negative" if value < 0 else "too long: clients would stay away for all that time after a lost connection"
        raise InvalidEvent(f"retry is {fault}. Give milliseconds from 0 to {MAX_RETRY} (one hour).")
    return int(value)


def plain_str(field: str, value: object) -> str:
    """Return ``value`` as a plain ``str``; of a subclass (an enum's member) its characters, whatever its ``str()`` says."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise InvalidEvent(f"{field} must be a str, not {type(value).__name__}. {_fix(field, value)}")


def check_encodable(field: str, text: str) -> None:
    """Raise ``InvalidEvent`` if ``text`` cannot be encoded as UTF-8; the message names the place and no more of the text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"{field} holds a lone surrogate (U+{ord(text[error.start]):04X} at index {error.start} of {len(text)}), which UTF-8 "
            'cannot encode. Read the text with errors="replace" where it comes from, or clean it: '
            'text.encode(errors="replace").decode().'
        ) from None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_size(field: str, text: str) -> None:
    """Raise ``EventTooLarge`` if it takes more than ``MAX_EVENT_BYTES`` in a stream; too many characters are only counted."""
    size = len(text)
    if size <= MAX_EVENT_BYTES:
        size += FIELD_BYTES * _line_ends(text)
    if size <= MAX_EVENT_BYTES and not text.isascii():
        size += len(text.encode(errors="surrogatepass")) - len(text)
    if size > MAX_EVENT_BYTES:
        raise EventTooLarge(
            f"{field} has {len(text):,} characters and takes {size:,} bytes or more in the stream, where each further line has "
            f"{FIELD_BYTES} of its own; {MAX_EVENT_BYTES:,} fit, and no option takes more: store it elsewhere and send where, or "
            "send it in several events. Nothing was written"
        )


def _line_ends(text: str) -> int:
    if "\r" in text:
        return text.count("\n") + text.count("\r") - text.count("\r\n")
    return text.count("\n") if "\n" in text else 0


def _fix(field: str, value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "Decode the bytes first."
    if field != "data":
        return "Convert it with str()."
    if value is None:
        return 'An event without data is none to a browser; data="" is an event with empty data.'
    return "Serialise it first, for example with json.dumps(); stream.write() does that by itself."
