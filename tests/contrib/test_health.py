"""Liveness and readiness: what each says when the log is away, when the process is drained, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient, Client
from django.urls import include, path

from django_agent_sse.contrib import health
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import registry
from tests.valkeys import valkey

pytestmark = pytest.mark.urls(__name__)

urlpatterns = [path("health/", include(health))]
TRIES = 100
SECRET = "host=db.internal password=planted-secret"


@pytest.fixture(autouse=True)
def own_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


async def asked(what: str) -> tuple[int, Any]:
    answer = await AsyncClient().get(f"/health/{what}/")
    assert answer["Cache-Control"] == "no-store"
    return answer.status_code, answer.json()


async def ready_soon() -> None:
    for _ in range(TRIES):
        if (await asked("ready"))[0] == 200:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it is ready soon")


async def test_all_is_well() -> None:
    assert await asked("live") == (200, {"status": "live"})
    assert await asked("ready") == (200, {"status": "ready", "problems": []})


def test_also_under_wsgi() -> None:
    assert Client().get("/health/ready/").status_code == 200


async def test_a_log_that_is_away_makes_it_unready_but_live_and_says_nothing_of_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(topics: Any) -> Any:
        raise EventLogUnavailable(SECRET)

    monkeypatch.setattr(event_log(), "asummaries", away)
    assert await asked("ready") == (503, {"status": "not ready", "problems": ["event_log"]})
    assert (await asked("live"))[0] == 200
    assert SECRET in caplog.text


async def test_a_log_that_does_not_answer_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(topics: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(event_log(), "asummaries", silent)
    monkeypatch.setattr(health, "LOG_TIMEOUT", 0.05)
    assert await asked("ready") == (503, {"status": "not ready", "problems": ["event_log"]})


async def test_redis_that_goes_away_and_comes_back(settings: Any) -> None:
    with valkey() as server:
        log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": server.url}}
        settings.AGENT_SSE = {"EVENT_LOG": log}
        await ready_soon()
        server.kill()
        assert await asked("ready") == (503, {"status": "not ready", "problems": ["event_log"]})
        assert (await asked("live"))[0] == 200
        server.start()
        await ready_soon()


async def test_a_process_that_is_drained_or_ends_takes_no_requests() -> None:
    registry.drain(60)
    assert await asked("ready") == (503, {"status": "not ready", "problems": ["draining"]})
    registry.drain(0)
    registry.end_all(Ending.SHUTDOWN)
    assert await asked("ready") == (503, {"status": "not ready", "problems": ["closing"]})
