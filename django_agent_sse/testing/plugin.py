"""The fixture for pytest, which finds this by itself; it imports nothing of Django before a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .log import PublishedLog


@pytest.fixture
def sse_log() -> Iterator[PublishedLog]:
    """An event log of this test's own, in memory: followers see at once what is published, also inside a transaction."""
    from .log import fresh_log

    with fresh_log() as log:
        yield log
