"""Metrics for Prometheus: a collector for a registry of yours, and a page to scrape. Needs ``django-agent-sse[prometheus]``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..guards import Guard, check_guards, run_guards
from ..metrics import Durations, Family, families
from ..streams.context import Context
from .monitor.cluster import board
from .monitor.inspector import Looker
from .monitor.process import this_process
from .monitor.stats import Snapshot

PREFIX = "django_agent_sse_"


class StreamCollector(Collector):
    """The streams of this process: ``REGISTRY.register(StreamCollector())``. It counts nothing, and reads when it is scraped."""

    def collect(self) -> Iterator[Metric]:
        return map(_metric, families())


class _Every(Collector):
    """Several processes."""

    def __init__(self, snapshots: Iterable[Snapshot], states: dict[str, int]) -> None:
        self._snapshots = snapshots
        self._states = states

    def collect(self) -> Iterator[Metric]:
        yield from map(_metric, families(self._snapshots, by_process=True))
        told = "Processes that report, are late, or have stopped without a word in the last minute."
        processes = GaugeMetricFamily(f"{PREFIX}processes", told, labels=["state"])
        for state, count in self._states.items():
            processes.add_metric([state], count)
        yield processes


def metrics_view(*, guards: Sequence[Guard], every_process: bool = True) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """A page to scrape: ``path("metrics/", metrics_view(guards=[api_key(settings.METRICS_KEY)]))``.

    Whichever process answers tells of all of them, with a label ``process``: let Prometheus scrape one address of the site.

    Args:
        guards: Who may: as for a route. ``[]`` lets everybody read which routes there are and how busy they are.
        every_process: Tell of all processes that the monitor knows, or of this one alone, without the label.

    Raises:
        RouteError: A guard is none.
    """
    asked = check_guards(guards)

    async def metrics(request: HttpRequest) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        c = Context(request, {}, route=request.path, cache="default")
        await c.load_user()
        refusal = await run_guards(asked, c)
        if refusal is not None:
            return refusal
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        collector: Any = await _every() if every_process else StreamCollector()
        return HttpResponse(encode(collector), content_type=content_type, headers={"Cache-Control": "no-store"})

    metrics.login_required = False  # type: ignore[attr-defined]  # the guards decide
    return metrics


async def _every() -> _Every:
    """All processes, and of this one what is true at this moment."""
    picture = await board.look()
    others = [one for one in picture.counted if one.process.id != this_process().id]
    states = dict.fromkeys(("reporting", "late", "gone"), 0)
    for seen in picture.processes:
        states[seen.state] += 1
    return _Every([_looker.snapshot(), *others], states)


def _metric(family: Family) -> Metric:
    name, labels = f"{PREFIX}{family.name}", [*family.labels]
    made: dict[str, Any] = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
    metric = made[family.kind](name, family.help, labels=labels)
    for values, value in family.samples.items():
        if isinstance(value, Durations):
            metric.add_metric([*values], [*value.buckets], value.total)
        else:
            metric.add_metric([*values], value)
    return metric  # type: ignore[no-any-return]


_looker = Looker()
