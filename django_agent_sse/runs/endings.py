"""The one word for how a run ended: what its topic is closed with."""

from __future__ import annotations

from enum import StrEnum


class RunEnding(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    """Its code has returned."""
    FAILED = "failed"
    """Its code has raised."""
    STOPPED = "stopped"
    """Somebody asked it to stop, or closed its topic."""
    INTERRUPTED = "interrupted"
    """Its process was told to end, or its task was cancelled."""
    LOST = "lost"
    """Nobody renewed its lease in time: its process died, slept, or could not reach the log."""
