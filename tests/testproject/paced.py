"""Tests that a build runs with pytest, one after the other as a test opens their gates."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

PACES = 4


@pytest.mark.parametrize("number", range(1, PACES + 1))
def test_paced(number: int) -> None:
    while not Path(os.environ["GATES"], str(number)).exists():
        time.sleep(0.01)
