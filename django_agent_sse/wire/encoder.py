"""From values to bytes: the one dialect of ``text/event-stream`` that every client we measured can read.

LF only, fields in the order ``event``, ``retry``, ``data``, ``id``, one space after each colon, one blank line after each event
and none after a comment: some clients take a comment with a blank line, or a block without data, for an event. The id comes last
because some clients (@microsoft/fetch-event-source, Datastar) remember an id as soon as its line is there: with the data after
it, a connection cut in between would lose the event, since they resume after it.
"""

from __future__ import annotations

from .event import FITS, Event, check_encodable, check_size, plain_str, valid_line, valid_name, valid_retry, valid_text


def frame(data: str, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """Return the bytes of one event, without making an ``Event``: the hot path of every write.

    The arguments are those of ``Event`` and so are the rules; ``frame(e.data, e.event, e.id, e.retry)`` is ``encode(e)``.

    Raises:
        InvalidEvent: As ``Event`` does; nothing is left half-written.
    """
    if type(data) is not str:
        data = plain_str("data", data)
    if len(data) > FITS:
        check_size("data", data)
    head = ""
    if event is not None:
        head = f"event: {valid_name('event', event)}\n"
    if retry is not None:
        head += f"retry: {valid_retry(retry)}\n"
    tail = "\n" if id is None else f"id: {valid_name('id', id)}\n\n"
    end = "\n"
    if "\r" in data:
        if "\n" in data:
            data = data.replace("\r\n", "\n").replace("\r", "\n")
        else:
            end = "\r"  # all of them: one copy less
    # Joined first and encoded once, all of it in C, whatever the number of lines.
    lines = data.replace(end, "\ndata: ") if end in data else data
    try:
        return f"{head}data: {lines}\n{tail}".encode()
    except UnicodeEncodeError:
        check_encodable("data", data)
        raise


def control_frame(data: str, event: str, id: str | None = None, retry: int | None = None) -> bytes:
    """Return the bytes of an event of the stream itself, whose name and id may be reserved: the package's own door."""
    framed = f"event: {valid_line('event', event)}\n".encode() + frame(data, retry=retry)
    return framed if id is None else b"%bid: %b\n\n" % (framed[:-1], valid_line("id", id).encode())


def encode(event: Event) -> bytes:
    """Return the bytes of ``event``, blank line included."""
    return frame(event.data, event.event, event.id, event.retry)


def id_first(framed: bytes) -> bytes:
    """Return the frame of one event with its id as the first field; one without an id as it is."""
    start = framed.rfind(b"\n", 0, -2) + 1
    return b"".join((framed[start:-1], framed[:start], b"\n")) if framed.startswith(b"id: ", start) else framed


def comment(text: str = "") -> bytes:
    """Return ``text`` as comment lines, which clients skip: ``comment()`` is the keep-alive ``b":\\n"``.

    Never a blank line. A comment therefore belongs between two events, where it does not end one.

    Raises:
        InvalidEvent: ``text`` is not a ``str``, or holds a lone surrogate.
        EventTooLarge: It takes more than an event may.
    """
    lines = split_lines(valid_text("comment", text))
    return "".join(f": {line}\n" if line else ":\n" for line in lines).encode()


def split_lines(text: str) -> list[str]:
    """Split ``text`` at CR LF, CR and LF, the three line ends of the standard, and at nothing else.

    ``str`` has a method for lines that also splits at U+2028, U+0085, VT, FF and more, which are data here. A line end at the end
    of ``text`` is followed by one more, empty line, so that joining the lines with LF loses nothing but the kind of line end.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.split("\n")
