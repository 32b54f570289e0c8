"""Metrics for OpenTelemetry: ``instrument()`` once, at start-up. Needs ``django-agent-sse[opentelemetry]``.

Each process reports itself, as is usual with OpenTelemetry. Numbers are read when the reader collects; the duration of a
stream is recorded once, when it is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from ..metrics import Family, families
from ..signals import stream_closed
from ..streams.counters import DURATIONS
from ..streams.stream import Stream

SCOPE: Final = "django_agent_sse"
INSTRUMENTS: Final = {
    "streams_open": ("sse.server.active_streams", "{stream}"),
    "streams_slow": ("sse.server.slow_streams", "{stream}"),
    "streams_starting": ("sse.server.starting_streams", "{stream}"),
    "streams_lingering": ("sse.server.lingering_streams", "{stream}"),
    "streams_opened": ("sse.server.streams.opened", "{stream}"),
    "streams_closed": ("sse.server.streams.closed", "{stream}"),
    "requests_refused": ("sse.server.requests.refused", "{request}"),
    "events_sent": ("sse.server.events.sent", "{event}"),
    "bytes_sent": ("sse.server.bytes.sent", "By"),
    "runs_ended": ("sse.server.runs.ended", "{run}"),
    "limit_used": ("sse.server.limit.used", "1"),
    "draining": ("sse.server.draining", "1"),
    "problem": ("sse.server.problem", "1"),
}
"""The names and units of what is observed, by the names of ``metrics.families()``."""
ATTRIBUTES: Final = {
    "route": "http.route",
    "ending": "sse.stream.ending",
    "runs_ended.ending": "sse.run.ending",
    "reason": "sse.refusal.reason",
    "limit": "sse.server.limit",
    "problem": "sse.process.problem",
}
DURATION: Final = "sse.server.stream.duration"
CACHE_SECONDS: Final = 0.5
"""How long what was read serves all instruments: a reader asks them one after the other."""


class _Cache:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = -CACHE_SECONDS
        self._families: dict[str, Family] = {}

    def observe(self, name: str, options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            if time.monotonic() - self._at >= CACHE_SECONDS:
                self._families = {family.name: family for family in families()}
                self._at = time.monotonic()
            family = self._families[name]
        keys = [ATTRIBUTES.get(f"{name}.{label}") or ATTRIBUTES[label] for label in family.labels]
        for values, value in family.samples.items():
            if isinstance(value, int | float):
                yield Observation(value, dict(zip(keys, values, strict=True)))


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Have a meter provider observe the streams of this process. A second call changes nothing.

    Args:
        meter_provider: OpenTelemetry's global one where not given; set that before.
    """
    provider = get_meter_provider() if meter_provider is None else meter_provider
    uid = f"{SCOPE}.opentelemetry.{id(provider)}"
    if uid in _instrumented:
        return
    meter, cache = provider.get_meter(SCOPE), _Cache()
    for family in families():
        if family.kind == "histogram":
            continue
        name, unit = INSTRUMENTS[family.name]
        create: Any = meter.create_observable_up_down_counter if family.kind == "gauge" else meter.create_observable_counter
        create(name, callbacks=[partial(cache.observe, family.name)], unit=unit, description=family.help)
    duration = meter.create_histogram(
        DURATION,
        unit="s",
        description="How long streams were open that are over.",
        explicit_bucket_boundaries_advisory=DURATIONS,
    )

    async def closed(sender: object, *, stream: Stream, ending: str, **about: Any) -> None:
        duration.record(about["duration"], {ATTRIBUTES["route"]: stream.route, ATTRIBUTES["ending"]: str(ending)})

    stream_closed.connect(closed, weak=False, dispatch_uid=uid)
    _instrumented[uid] = provider  # kept, so that no other provider gets its id()


_instrumented: dict[str, MeterProvider] = {}
