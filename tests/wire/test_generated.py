"""Very many inputs, in every field of an event and as bytes: each arrives equal in all parsers, or was refused with our error.

Those who read: our decoder; the parser of ``client.js``; and two that are not ours, httpx-sse and eventsource-parser of npm.
Beside them stands ``standard.py``, the standard's text written down a second time. The long form (``tox run -e inputs``) makes a
million.

Where the others are not the standard, which the inputs leave room for:

- httpx-sse tells blocks without data as events, takes ``retry: +1``, keeps a byte order mark: it reads what we wrote, no noise.
- eventsource-parser waits with a CR for the next line, so that a comment is sent at the end; it forgets an id that has no data
  with it, so that it is asked for the event's own id; it takes the three characters ``ï»¿`` for a byte order mark: nobody draws
  them.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import httpx_sse
import pytest

from django_agent_sse.exceptions import EventTooLarge
from django_agent_sse.wire import Decoder, Event, comment, frame
from tests.browser.test_node import STATIC
from tests.npm import Node
from tests.timing import LONG

from .generated import TOO_LARGE, Generator, Written, many
from .standard import Outcome, read_by_the_decoder, read_by_the_standard

INPUTS = 1_000_000 if LONG else 20_000
"""Events and comments, each with something in every field."""
RAW = 200_000 if LONG else 4_000
"""Streams of bytes."""
SEED = 20_261_129
NODE_SECONDS = 3_600.0


def test_written_inputs_come_back_equal_or_were_refused() -> None:
    read = refused = size = 0
    for written in many(SEED, INPUTS):
        read += len(written.events)
        refused += written.refused
        size += len(written.stream)
        last, shown = "", []
        for data, name, id, retry in written.events:
            last = last if id is None else id
            shown.append((name or "message", data, last, retry))
        events = [(event.data, event.event, event.id, event.retry) for event in read_by_the_decoder(written.chunks).events]
        assert events == written.events
        assert with_httpx_sse(written.chunks) == shown
    print(f"{INPUTS:,} inputs: {read:,} events read, {refused:,} refused, the others comments; {size / 1e6:,.0f} MB")
    assert read > INPUTS / 2
    assert refused > INPUTS / 20


def with_httpx_sse(chunks: list[bytes]) -> list[tuple[str, str, str, int | None]]:
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(chunks))
    return [(sse.event, sse.data, sse.id, sse.retry) for sse in httpx_sse.EventSource(response).iter_sse()]


def test_bytes_that_nobody_wrote_mean_what_the_standard_says() -> None:
    generator, read = Generator(SEED), 0
    for _ in range(RAW):
        stream = generator.raw()
        outcome = read_by_the_decoder(generator.cut(stream))
        assert outcome == read_by_the_standard(stream), stream
        read += len(outcome.events)
        # What was read can be written again, and is then the same.
        again = b"".join(frame(event.data, event.event, event.id, event.retry) for event in outcome.events)
        assert Decoder().feed(again) == outcome.events
    print(f"{RAW:,} streams of bytes: {read:,} events read")
    assert read > RAW / 2


def test_a_browsers_parser_and_one_of_npm_read_the_same(node: Node) -> None:
    def lines() -> Iterator[str]:
        for written in many(SEED + 1, INPUTS):
            yield line_of(written.chunks, read_by_the_standard(written.stream), written)
        generator = Generator(SEED + 1)
        for _ in range(RAW):
            stream = generator.raw() + b":\n"  # eventsource-parser waits for the line after a CR
            yield line_of(generator.cut(stream), read_by_the_standard(stream))

    told = asked(node, lines())
    assert told["wrong"] == {"client.js": [], "eventsource-parser": []}
    assert told["streams"] > RAW + INPUTS / 40
    assert told["events"] > INPUTS / 2 + RAW / 2
    print(f"by client.js and eventsource-parser: {told['streams']:,} streams with {told['events']:,} events, none otherwise")


def line_of(chunks: list[bytes], outcome: Outcome, written: Written | None = None) -> str:
    """What the program of ``tests/node/inputs.mjs`` takes: chunks, and what they mean."""
    if written is not None:
        assert [(event.data, event.event, event.id, event.retry) for event in outcome.events] == written.events
    ids = zip(outcome.events, outcome.ids, strict=True)
    events = [(event.event or "message", event.data, event.id, last) for event, last in ids]
    stream = base64.b64encode(b"".join(chunks)).decode()
    return json.dumps({"stream": stream, "cuts": [*map(len, chunks)], "events": events, "retry": outcome.retry})


def asked(node: Node, lines: Iterable[str]) -> Any:
    """Give the program its lines while it reads them; return what it says at its end."""
    environment = {**os.environ, "STATIC": str(STATIC)}
    command = node.command("inputs.mjs")
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for line in lines:
            program.stdin.write(f"{line}\n")
        program.stdin.close()
        said = program.stdout.read()
        assert program.wait(NODE_SECONDS) == 0
    return json.loads(said)


@pytest.mark.parametrize("data", TOO_LARGE, ids=["ascii", "two bytes each", "line ends"])
def test_what_is_too_large_is_refused_in_every_field(data: str) -> None:
    for write in (frame, Event, comment, lambda text: frame("x", event=text), lambda text: frame("x", id=text)):
        if data.startswith("\n") and write not in (frame, Event):
            continue  # a name of line ends is refused for them
        with pytest.raises(EventTooLarge):
            write(data)  # type: ignore[operator]
