"""What is changed is told at once."""

from __future__ import annotations

import pytest

from django_agent_sse.access import django_signals


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    """Each change is told when it is made, and nothing that an earlier test has changed is told later."""
    monkeypatch.setattr(django_signals, "PAUSE", 0.0)
    django_signals.teller.flush()
