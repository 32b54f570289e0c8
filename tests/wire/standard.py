"""The standard's algorithm for reading an event stream, written down a second time: slowly, on the whole text.

It is what the decoder is compared with. Beside it, every way to cut bytes that a table test needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from django_agent_sse.wire import MAX_RETRY, Decoder, Event


@dataclass
class Outcome:
    """What reading a stream leaves behind."""

    events: list[Event]
    last_event_id: str
    retry: int | None
    ids: list[str] = field(default_factory=list, compare=False)
    """The last id at each event, which an ``EventSource`` shows; the decoder shows the event's own."""


def read_by_the_standard(stream: bytes) -> Outcome:
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    outcome = Outcome([], "", None)
    data, block = "", dict[str, str]()
    for line in lines:
        if line == "":
            outcome.last_event_id = block.get("id", outcome.last_event_id)
            if data != "":
                retry = int(block["retry"]) if "retry" in block else None
                outcome.events.append(Event(data.removesuffix("\n"), event=block.get("event"), id=block.get("id"), retry=retry))
                outcome.ids.append(outcome.last_event_id)
            data, block = "", {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            block["event"] = value.replace("\0", "\ufffd")
        elif name == "id" and "\0" not in value:
            block["id"] = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            outcome.retry = min(int(value), MAX_RETRY)
            block["retry"] = str(outcome.retry)
    return outcome


def read_by_the_decoder(chunks: list[bytes]) -> Outcome:
    decoder = Decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return Outcome(events, decoder.last_event_id, decoder.retry)


def cuttings(stream: bytes) -> Iterator[list[bytes]]:
    """The whole, every cut into two, every third place, and byte by byte with empty chunks between."""
    yield [stream]
    for place in range(1, len(stream)):
        yield [stream[:place], stream[place:]]
    for size in (3, 2, 1):
        yield [stream[start : start + size] for start in range(0, len(stream), size)]
    yield [chunk for start in range(len(stream)) for chunk in (stream[start : start + 1], b"")]
