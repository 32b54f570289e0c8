"""Signals of a stream's life.

Receivers may be sync or async. They are called with ``asend_robust``: one that fails is logged and stops nobody,
and a sync one runs on the stream's thread, never on one of its own.
"""

from __future__ import annotations

from django.dispatch import Signal

stream_opened = Signal()
"""The response has begun. Keywords: ``stream``. The sender is the ``Stream`` class."""

stream_closed = Signal()
"""Handler and transport are over. Keywords: ``stream``, ``ending``, ``duration`` (seconds), ``events``, ``bytes``."""

process_closing = Signal()
"""This process was told to end, and ends its streams. Keywords: ``seconds``, over which. The sender is the ``Registry`` class."""
