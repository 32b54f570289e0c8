"""Metrics for Prometheus: a collector for a registry of yours, and a page to scrape. Needs ``django-agent-sse[prometheus]``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..guards import Guard, check_guards, run_guards
from ..metrics import Durations, Family, families
from ..streams.context import Context
from ..streams.snapshot import Snapshot, cluster

PREFIX = "django_agent_sse_"


class StreamCollector(Collector):
    """The streams of this process: ``REGISTRY.register(StreamCollector())``. It reads when it is scraped."""

    def collect(self) -> Iterator[Metric]:
        return map(_metric, families())


def metrics_view(*, guards: Sequence[Guard], every_process: bool = True) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """A page to scrape: ``path("metrics/", metrics_view(guards=[api_key(settings.METRICS_KEY)]))``.

    With the monitor installed, whichever process answers tells of all of them, with a label ``process``: let Prometheus scrape
    one address of the site. Without it each process tells of itself, and Prometheus has to scrape each.

    Args:
        guards: Who may: as for a route. ``[]`` lets everybody read which routes there are and how busy they are.
        every_process: Tell of all processes, where the monitor is installed, or of this one alone, without the label.

    Raises:
        RouteError: One of ``guards`` is not a guard.
    """
    checked = check_guards(guards)

    async def metrics(request: HttpRequest) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        c = Context(request, {}, route=request.path, cache="default")
        await c.load_user()
        refusal = await run_guards(checked, c)
        if refusal is not None:
            return refusal
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        everywhere = cluster() if every_process else None
        scraped = [*StreamCollector().collect()] if everywhere is None else _of_every_process(*await everywhere.processes())
        registry: Any = SimpleNamespace(collect=lambda: scraped)
        return HttpResponse(encode(registry), content_type=content_type, headers={"Cache-Control": "no-store"})

    metrics.login_required = False  # type: ignore[attr-defined]  # the guards decide
    return metrics


def _of_every_process(snapshots: Iterable[Snapshot], states: Mapping[str, int]) -> list[Metric]:
    about = "Processes that report, are late, or have stopped without a word in the last minute."
    processes = GaugeMetricFamily(f"{PREFIX}processes", about, labels=["state"])
    for state, count in states.items():
        processes.add_metric([state], count)
    return [*map(_metric, families(snapshots, by_process=True)), processes]


def _metric(family: Family) -> Metric:
    name, labels = f"{PREFIX}{family.name}", [*family.labels]
    classes: dict[str, Any] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
    metric = classes[family.kind](name, family.help, labels=labels)
    for values, value in family.samples.items():
        if isinstance(value, Durations):
            metric.add_metric([*values], [*value.buckets], value.total)
        else:
            metric.add_metric([*values], value)
    return metric  # type: ignore[no-any-return]
