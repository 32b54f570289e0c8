"""The event log in the project's own database."""

from __future__ import annotations

from .log import DatabaseEventLog

__all__ = ["DatabaseEventLog"]
