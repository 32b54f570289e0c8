"""The shapes of a run's code: as a stream's handler, with the run in the stream's place, and plain functions too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..streams.handlers import HandlerSignature


class RunSignature(HandlerSignature):
    """What kind of code a run has: ``async (c, run, …)``, plain ``(c, run, …)``, a generator ``(c, …)``, or a factory."""

    def blocks(self, url_kwargs: Mapping[str, Any]) -> bool:
        """Whether it is a plain function that takes the run: it needs a thread of its own."""
        return self.takes_stream(frozenset(url_kwargs)) and not self._is_async

    def _refuse_sync(self) -> None:
        """A run has a thread for it."""
