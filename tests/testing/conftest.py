"""What all tests of the client share."""

from __future__ import annotations

import pytest

from django_agent_sse.testing import SSEClient


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own five seconds are for its users: this machine may be busy for longer."""
    monkeypatch.setitem(SSEClient.__init__.__kwdefaults__, "timeout", 60.0)
