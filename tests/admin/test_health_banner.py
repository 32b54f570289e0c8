"""The health banner: each way in which a deployment can be wrong is said, with a hint; of one that is right, nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from django_agent_sse.contrib.monitor.admin import health
from django_agent_sse.contrib.monitor.cluster import ClusterSnapshot, ProcessStatus
from django_agent_sse.contrib.monitor.inspector import StreamInspector
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.notify.poll import LATE, Poll
from django_agent_sse.runtime import formatting
from django_agent_sse.runtime.backoff import FailureLog
from django_agent_sse.streams.snapshot import Process, Snapshot
from tests.live.servers import poll
from tests.valkeys import valkey

MEMORY = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
DATABASE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}}
REDIS = "django_agent_sse.eventlog.redis.RedisEventLog"
PATIENCE = 60.0
SECRET = "password=planted-secret"


def asgi_request() -> HttpRequest:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "server": ("testserver", 80)}
    return ASGIRequest(scope, None)


def seen(state: str = "reporting", pid: int = 7, age: float = 0.0, **about: Any) -> ProcessStatus:
    process = Process(id=f"p{pid}", host="web-1", pid=pid, since=0.0)
    return ProcessStatus(snapshot=Snapshot(process=process, at=time.time() - age, routes={}, **about), state=state, age=age)


def picture(*processes: ProcessStatus, local: bool = False) -> ClusterSnapshot:
    return ClusterSnapshot(at=time.time(), local=local, processes=processes or (seen(),), series={}, hour={}, rates={})


def said(request: HttpRequest, shown: ClusterSnapshot) -> dict[str, health.HealthNotice]:
    return {one.key.partition("-")[0]: one for one in health.notices(request, shown)}


@pytest.fixture(autouse=True)
def database() -> Any:
    with override_settings(AGENT_SSE=DATABASE):
        yield


def test_where_all_is_well_it_says_nothing() -> None:
    assert said(asgi_request(), picture()) == {}


def test_wsgi() -> None:
    found = said(RequestFactory().get("/"), picture())
    assert "ASGI server" in found["wsgi"].hint


@pytest.mark.parametrize(("siblings", "level"), [(1, "info"), (3, "warning")])
def test_a_memory_log_with_one_process_and_with_several(siblings: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "siblings", lambda: siblings)
    with override_settings(AGENT_SSE=MEMORY):
        found = said(asgi_request(), picture(local=True))
    assert found["memory"].level == level
    assert "the database or Redis" in found["memory"].hint


@pytest.mark.parametrize("heartbeat", [None, 0, 75])
def test_a_heartbeat_that_is_less_frequent_than_proxies_need(heartbeat: float | None) -> None:
    with override_settings(AGENT_SSE={**DATABASE, "HEARTBEAT": heartbeat}):
        assert "60 s" in said(asgi_request(), picture())["heartbeat"].hint


def test_a_route_whose_heartbeat_is() -> None:
    found = said(asgi_request(), picture(seen(problems={"heartbeat": "prices/: 90 s"})))
    assert "prices/: 90 s" in found["heartbeat"].title


@pytest.mark.parametrize("problem", ["channel_layer", "database_notifications", "log_notifications", "poll"])
def test_notifications_that_do_not_come_and_a_poll_that_lags(problem: str) -> None:
    found = said(
        asgi_request(), picture(seen(problems={problem: "it took 3 s"}), seen(pid=8), seen(pid=9, problems={problem: "x"}))
    )
    assert "2 processes (web-1:7, web-1:9)" in found[problem].title
    assert "it took 3 s" in found[problem].hint


def test_a_redis_logs_own_notifications_that_are_away_are_said_as_they_are_and_by_the_kind_of_the_error() -> None:
    """Nobody polls there: what others publish waits, and does not come half a second later."""
    with valkey() as server, override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": REDIS, "OPTIONS": {"url": server.url}}}):
        own = event_log().notifier
        assert own is not None
        asyncio.run(own.follow("builds.1"))
        assert StreamInspector().snapshot().problems == {}
        server.end()
        problems = poll("it is noticed", lambda: StreamInspector().snapshot().problems, within=PATIENCE, every=0.02)
        assert problems == {"log_notifications": "ConnectionError"}
        found = said(asgi_request(), picture(seen(problems=problems)))
        assert [*found] == ["log_notifications"]
        assert "half a second" not in found["log_notifications"].hint
        assert "(ConnectionError)" in found["log_notifications"].hint
        own.unfollow("builds.1")
        assert StreamInspector().snapshot().problems == {}, "nobody waits for one any more"


@pytest.mark.parametrize("state", ["late", "gone"])
def test_a_process_that_stopped_reporting(state: str) -> None:
    silent = seen(state, pid=9, age=17)
    found = said(asgi_request(), picture(seen(), silent))
    at = formatting.clock(silent.snapshot.at)
    assert found["silent"].title == f"The process web-1:9 stopped reporting at {at}.", "a text that stays as it is"


def test_a_process_that_is_drained() -> None:
    assert said(asgi_request(), picture(seen(draining=True)))["draining"].level == "info"


def test_what_fails_is_told_by_the_kind_of_the_error_and_not_by_its_words() -> None:
    trouble = FailureLog("the layer cannot send", "Nothing is lost.", logger=None, longest=1.0)
    assert trouble.now == ""
    trouble.failed(OSError(SECRET))
    assert "OSError" in trouble.now
    assert trouble.kind == "OSError", "what a Redis log's notifier tells"
    assert SECRET not in trouble.now
    trouble.recovered()
    assert trouble.now == ""


async def test_a_log_that_answers_slowly_is_a_poll_that_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Poll(dict)
    assert asking.trouble == ""
    monkeypatch.setattr(asking, "_took", LATE + 1)
    assert "2.0 s" in asking.trouble


def test_each_says_a_sentence_and_what_to_do() -> None:
    for one in [
        *said(RequestFactory().get("/"), picture(seen("gone"), seen(problems={"channel_layer": "b", "poll": "p"}))).values(),
        health.http1_notice(),
    ]:
        assert one.title.endswith(".")
        assert len(one.hint) > 40


urlpatterns = [path("admin/", admin.site.urls)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls(__name__)
def test_under_wsgi_the_page_is_a_snapshot_that_says_so() -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    html = client.get("/admin/agent_sse_monitor/livestreams/").content.decode()
    assert "cannot serve streams" in html
    assert "Open streams" in html
