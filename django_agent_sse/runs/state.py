"""Runs as others see them: what a topic's lease and its end say of the run that writes it, and how one is asked to stop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..eventlog.base import EventLog
from ..eventlog.leases import Lease
from ..exceptions import RunNotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The run that writes a topic, or the last one that did, at one moment.

    Attributes:
        id: Its own: ``out.id`` of `produce`.
        left: Seconds until it is lost unless its process renews the lease; 0 once it is over.
        stopping: It was asked to stop while it went on.
        ending: How it ended, which is what its topic is closed with; ``None`` while it goes on.
    """

    id: str
    left: float
    stopping: bool
    ending: str | None

    @classmethod
    def of(cls, lease: Lease, closed: str | None) -> RunState:
        """Return what a lease says, and the reason with which its topic is closed."""
        return cls(id=lease.holder, left=max(0.0, lease.left) if closed is None else 0.0, stopping=lease.stop, ending=closed)


def run_states(log: EventLog, topics: Iterable[str]) -> dict[str, RunState]:
    """Return the runs of these topics; those without one are missing. One whose lease has run out is closed as lost."""
    leases = log.leases(topics)
    for topic, lease in leases.items():
        if lease.expired:
            log.expire(topic)
    heads = log.summaries(leases)
    return {topic: RunState.of(lease, heads[topic].closed) for topic, lease in leases.items() if topic in heads}


async def arun_states(log: EventLog, topics: Iterable[str]) -> dict[str, RunState]:
    """See ``run_states``."""
    leases = await log.aleases(topics)
    for topic, lease in leases.items():
        if lease.expired:
            await log.aexpire(topic)
    heads = await log.asummaries(leases)
    return {topic: RunState.of(lease, heads[topic].closed) for topic, lease in leases.items() if topic in heads}


def stop_run(log: EventLog, topic: str, id: str | None) -> RunState:
    """Ask a run to stop: see ``Topic.stop_run``."""
    run = _meant(topic, id, run_states(log, [topic]))
    if run.ending is not None:
        return run
    log.request_stop(topic, run.id)
    return _meant(topic, run.id, run_states(log, [topic]))


async def astop_run(log: EventLog, topic: str, id: str | None) -> RunState:
    """See ``stop_run``."""
    run = _meant(topic, id, await arun_states(log, [topic]))
    if run.ending is not None:
        return run
    await log.arequest_stop(topic, run.id)
    return _meant(topic, run.id, await arun_states(log, [topic]))


def _meant(topic: str, id: str | None, runs: dict[str, RunState]) -> RunState:
    run = runs.get(topic)
    if run is None:
        raise RunNotFound(
            f"no run has written the topic {topic!r}, or it is no longer kept; manage.py sse_topics lists topics and their runs. "
            "Nothing was stopped",
            topic,
        )
    if id not in (None, run.id):
        raise RunNotFound(
            f"the topic {topic!r} is written by the run {run.id!r}, not by {id!r:.80}. Nothing was stopped; name that one, or "
            "none for whichever works there now",
            topic,
        )
    return run
