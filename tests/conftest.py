"""Fixtures for every test below."""

from __future__ import annotations

from collections.abc import Iterator

import django
import pytest
from django.conf import settings as django_settings
from hypothesis import settings

from django_agent_sse.eventlog.eviction import evictions
from django_agent_sse.eventlog.outage import outage
from tests.timing import LONG

settings.register_profile("tests", max_examples=200 if LONG else 40, deadline=None)
settings.load_profile("tests")

pytest_plugins = ["tests.background", "tests.together", "tests.tiers", "tests.services", "tests.log_databases", "tests.npm"]


def pytest_configure(config: pytest.Config) -> None:
    if django.VERSION < (6, 0):  # it leaves a request's body open where an answer raises, to be collected in any later test
        config.addinivalue_line("filterwarnings", "ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")


@pytest.fixture(autouse=True)
def _each_says_its_own() -> Iterator[None]:
    """What one test has evicted is not logged a second later, in another one, and an outage in one is new to the next."""
    yield
    evictions.reset()
    outage.reset()


@pytest.fixture(autouse=True)
def _settings_are_put_back() -> Iterator[None]:
    """Fail a test that leaves others with settings of its own, as two that are undone in the wrong order do."""
    before = django_settings._wrapped
    yield
    assert django_settings._wrapped is before
