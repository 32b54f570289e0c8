"""A log of a test's own: in Django's ``TestCase``, whose transaction never commits, and through the plugin in a fresh project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection
from django.test import TestCase

from django_agent_sse import Router, Topic, apublish, close_topic, publish, publish_many
from django_agent_sse.eventlog import backend
from django_agent_sse.testing import PublishedLog, SSEClient, SSETestMixin, fresh_log
from tests.serving import served

router = Router()
router.topic("builds/<int:id>/", "builds.{id}")


class Publishing(SSETestMixin, TestCase):
    def test_what_was_published_without_any_stream(self) -> None:
        assert connection.in_atomic_block
        publish("builds.42", {"n": 1}, event="tick")
        close_topic("builds.42", "passed")
        (event,) = self.sse_log.published("builds.42")
        assert (event.event, event.data) == ("tick", '{"n":1}')
        assert self.sse_log.closed("builds.42") == "passed"

    def test_every_test_has_a_log_of_its_own(self) -> None:
        assert self.sse_log.topics == []
        assert self.sse_log.published("builds.42") == []

    async def test_a_follower_sees_what_a_transaction_publishes(self) -> None:
        with served(router):
            async with SSEClient() as client:
                stream = await client.open("/builds/42/")
                await apublish("builds.42", "one")
                assert (await stream.event()).data == "one"


def test_the_fixture_reads_more_than_a_page(sse_log: PublishedLog) -> None:
    publish_many("a", range(1000))
    assert [event.data for event in sse_log.published("a")] == [str(number) for number in range(1000)]


def test_the_log_before_and_after_is_another() -> None:
    with fresh_log() as log:
        publish("a", 1)
        assert log.topics == ["a"]
        inside = backend.event_log()
    assert backend.event_log() is not inside
    assert not Topic("a").state().exists


@pytest.mark.parametrize("reads", [True, False])
def test_the_plugin_in_a_project_of_somebodys(tmp_path: Path, reads: bool) -> None:
    """One that uses it, and one that knows nothing of Django."""
    uses = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_agent_sse"], SECRET_KEY="x")
django.setup()
from django.test.utils import setup_test_environment
setup_test_environment()
from django_agent_sse import publish

def test_it(sse_log):
    publish("a", 1)
    assert [event.data for event in sse_log.published("a")] == ["1"]
"""
    ignores = """
import sys

def test_it():
    assert "django" not in sys.modules or "django.conf" not in sys.modules
    assert "django_agent_sse.eventlog" not in sys.modules
"""
    (tmp_path / "test_it.py").write_text(uses if reads else ignores)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    plugins = ["-p", "no:django", "-p", "no:asyncio", "-p", "no:playwright", "-p", "no:base_url"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
