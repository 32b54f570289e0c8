"""Fixtures for every test below."""

from __future__ import annotations

pytest_plugins = ["tests.background", "tests.together", "tests.services", "tests.npm"]
