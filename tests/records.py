"""What was logged by this package, in tests that count it."""

from __future__ import annotations

import logging

import pytest


def records_of(caplog: pytest.LogCaptureFixture, name: str = "django_agent_sse") -> list[logging.LogRecord]:
    """The records of a logger and of those below it: in one process with other tests, others have something to say, too."""
    return [record for record in caplog.records if record.name == name or record.name.startswith(f"{name}.")]
