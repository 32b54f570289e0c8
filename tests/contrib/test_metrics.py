"""Metrics: the numbers of streams that really ran, as Prometheus and OpenTelemetry take them, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.test import AsyncClient, override_settings
from django.urls import path
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from django_agent_sse import Topic, api_key, produce, stream_closed
from django_agent_sse.contrib.monitor.inspector import StreamInspector
from django_agent_sse.contrib.opentelemetry import instrument
from django_agent_sse.contrib.prometheus import StreamCollector, metrics_view
from django_agent_sse.exceptions import RouteError
from django_agent_sse.metrics import families
from django_agent_sse.streams.counters import counters
from tests.inprocess import ROUTE, serve

SECRET = "planted-secret"


@pytest.fixture(autouse=True)
def from_zero(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing has been counted, and nobody has looked: what was once seen of a route never goes down."""
    counters.reset()
    monkeypatch.setattr("django_agent_sse.metrics._snapshots", StreamInspector())
    receivers = list(stream_closed.receivers)
    yield
    counters.reset()
    stream_closed.receivers[:] = receivers
    stream_closed.sender_receivers_cache.clear()


async def three_events(c: Any, stream: Any, number: int) -> None:
    for _ in range(3):
        await stream.write(SECRET, event=SECRET)
    if number == 7:
        await stream.wait_closed()


async def refuse(c: Any) -> bool:
    return "open" in c.query


@contextlib.asynccontextmanager
async def ran() -> AsyncIterator[CollectorRegistry]:
    """One stream is open, one is over, one was refused; return what Prometheus sees then."""
    async with serve(three_events, guards=[refuse]) as site:
        over = site.connect("/stream/8/", query=f"open={SECRET}")
        await over.over()
        await site.connect("/stream/7/", query=f"secret={SECRET}").over()
        first = site.connect("/stream/7/", query="open=1", headers={"X-Secret": SECRET})
        await first.take(3)
        registry = CollectorRegistry()
        registry.register(StreamCollector())
        yield registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"django_agent_sse_{name}", {"route": ROUTE, **labels})


async def test_prometheus_gets_what_happened() -> None:
    async with ran() as registry:
        assert value(registry, "streams_open") == 1
        assert value(registry, "streams_slow") == 0
        assert value(registry, "streams_opened_total") == 2
        assert value(registry, "streams_closed_total", ending="completed") == 1
        assert value(registry, "requests_refused_total", reason="guard") == 1
        assert value(registry, "events_sent_total") == 6
        assert (value(registry, "bytes_sent_total") or 0) > 6 * len(SECRET)
        assert value(registry, "stream_duration_seconds_count") == 1
        took = value(registry, "stream_duration_seconds_sum") or 0
        assert value(registry, "stream_duration_seconds_bucket", le="1.0") == (took <= 1)
        assert value(registry, "stream_duration_seconds_bucket", le="+Inf") == 1
        assert registry.get_sample_value("django_agent_sse_draining") == 0


async def test_runs_are_counted_by_how_they_ended() -> None:
    def counted(ending: str) -> float:
        registry = CollectorRegistry()
        registry.register(StreamCollector())
        return registry.get_sample_value("django_agent_sse_runs_ended_total", {"ending": ending}) or 0

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider)
    async with produce("runs.1"):
        pass
    with pytest.raises(ZeroDivisionError):
        async with produce("runs.2"):
            raise ZeroDivisionError
    async with produce("runs.3"):
        await Topic("runs.3").astop_run()
        await asyncio.sleep(60)
    assert [counted(ending) for ending in ("finished", "failed", "stopped", "lost")] == [1, 1, 1, 0]
    ended = {(("sse.run.ending", ending),): 1 for ending in ("finished", "failed", "stopped")}
    assert observed(reader)["sse.server.runs.ended"] == ended
    provider.shutdown()


async def test_opentelemetry_gets_the_same() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider)
    instrument(provider)
    async with ran():
        found = observed(reader)
        assert found["sse.server.active_streams"] == {(("http.route", ROUTE),): 1}
        assert found["sse.server.streams.opened"] == {(("http.route", ROUTE),): 2}
        assert found["sse.server.events.sent"] == {(("http.route", ROUTE),): 6}
        assert found["sse.server.requests.refused"] == {(("http.route", ROUTE), ("sse.refusal.reason", "guard")): 1}
        ended = (("http.route", ROUTE), ("sse.stream.ending", "completed"))
        assert found["sse.server.streams.closed"] == {ended: 1}
        assert found["sse.server.stream.duration"] == {ended: 1}
        assert SECRET not in repr(found)
    provider.shutdown()


def observed(reader: InMemoryMetricReader) -> dict[str, dict[Any, float]]:
    """By instrument, by attributes: numbers, and of a histogram how many were recorded."""
    data: Any = reader.get_metrics_data()
    return {
        metric.name: {
            tuple(sorted(point.attributes.items())): getattr(point, "count", None) or getattr(point, "value", 0)
            for point in metric.data.data_points
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


urlpatterns = [
    path("metrics/", metrics_view(guards=[api_key("scraper")])),
    path("mine/", metrics_view(guards=[], every_process=False)),
]


async def scraped(url: str, **headers: str) -> Any:
    return await AsyncClient().get(url, headers=headers)


async def test_the_page_is_for_who_has_the_key_and_holds_no_secret() -> None:
    async with ran():
        with override_settings(ROOT_URLCONF=__name__):
            assert (await scraped("/metrics/")).status_code == 401
            every = await scraped("/metrics/", **{"X-API-Key": "scraper"})
            mine = await scraped("/mine/")
            assert (await AsyncClient().post("/mine/")).status_code == 405
        for page, first in ((every, {"process", "route"}), (mine, {"route"})):
            text = page.content.decode()
            assert page["Cache-Control"] == "no-store"
            assert page["Content-Type"].startswith("text/plain")
            assert SECRET not in text
            assert "127.0.0" not in text
            found = {family.name: family for family in text_string_to_metric_families(text)}
            (opened,) = [one for one in found["django_agent_sse_streams_opened"].samples if one.name.endswith("_total")]
            assert (set(opened.labels), opened.value) == (first, 2)
        states = {
            sample.labels["state"]: sample.value
            for family in text_string_to_metric_families(every.content.decode())
            if family.name == "django_agent_sse_processes"
            for sample in family.samples
        }
        assert states["gone"] == 0


def test_a_view_without_guards_must_be_asked_for() -> None:
    with pytest.raises(TypeError, match="guards"):
        metrics_view()  # type: ignore[call-arg]
    with pytest.raises(RouteError, match="api_key"):
        metrics_view(guards=[api_key])  # type: ignore[list-item]


def test_labels_are_few_and_every_name_is_one_that_prometheus_takes() -> None:
    for family in families():
        assert set(family.labels) <= {"route", "ending", "reason", "problem", "limit"}
        assert re.fullmatch("[a-z_]+", family.name)


def test_nothing_of_either_is_imported_by_the_package() -> None:
    code = """
import sys, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_agent_sse"])
django.setup()
import django_agent_sse.views, django_agent_sse.metrics, django_agent_sse.contrib.monitor.cluster
print([name for name in sys.modules if name.startswith(("prometheus", "opentelemetry"))])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert told.stdout.strip() == "[]"
