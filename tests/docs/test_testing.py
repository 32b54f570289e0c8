"""The page about tests: its tests pass."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse.testing import PublishedLog
from tests.site import settings as site

from . import pages
from .blocks import DOCS

PAGE = DOCS / "howto" / "testing.rst"


@pytest.fixture
def modules(settings: Any) -> Iterator[Any]:
    settings.ROOT_URLCONF = pages.URLCONF
    settings.MIDDLEWARE = site.MIDDLEWARE_SETS["default"]
    with pages.imported(PAGE) as modules:
        yield modules


async def test_the_async_tests_pass(modules: Any, sse_log: PublishedLog) -> None:
    await modules["mysite/test_streams.py"].test_a_broken_connection_loses_nothing(sse_log)


def test_the_sync_tests_pass(modules: Any, sse_log: PublishedLog) -> None:
    modules["mysite/test_publishing.py"].test_a_price_is_published(sse_log)


@pytest.mark.django_db(transaction=True)
def test_the_test_case_passes(modules: Any) -> None:
    case = modules["mysite/tests.py"].BuildTests("test_a_follower_sees_what_is_published")
    result = unittest.TestResult()
    unittest.TestSuite([case]).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
