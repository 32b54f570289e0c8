"""The wire: Events, and how they stand in a ``text/event-stream``. Standard library only, no I/O, no Django.

The value:

- ``Event``: one message, immutable and valid from birth
- ``MAX_EVENT_BYTES``: the largest one, and what a ``Decoder`` holds for one by default
- ``MAX_RETRY``: the longest ``retry``, in milliseconds

Writing:

- ``frame``: the bytes of one event from its parts, the hot path
- ``encode``: the bytes of an ``Event``
- ``comment``: the bytes of a comment; without text, the keep-alive
- ``split_lines``: a text's lines as the standard counts them

Reading:

- ``Decoder``: the standard's algorithm for bytes cut at any place

Everything that is refused is refused with ``django_agent_sse.exceptions.InvalidEvent``.
"""

from __future__ import annotations

from .decoder import Decoder
from .encoder import comment, encode, frame, split_lines
from .event import MAX_EVENT_BYTES, MAX_RETRY, Event

__all__ = ["MAX_EVENT_BYTES", "MAX_RETRY", "Decoder", "Event", "comment", "encode", "frame", "split_lines"]
