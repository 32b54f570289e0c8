"""The health banner: what is wrong with the deployment, in plain words, with a hint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from django_agent_sse import conf
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime.formatting import span
from django_agent_sse.streams.registry import SLOWEST_HEARTBEAT

from ..cluster import ClusterSnapshot
from ..siblings import siblings


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthNotice:
    """One thing that is wrong, and what to do about it. ``key`` tells them apart; ``level`` is ``warning`` or ``info``."""

    key: str
    title: str
    hint: str
    level: str = "warning"


HTTP1 = HealthNotice(
    key="http1",
    title="This page came over HTTP/1.1.",
    hint="A browser opens six connections to a host over HTTP/1.1, and each stream holds one: with a few tabs the next page "
    "waits for ever. Serve browsers over HTTP/2: in nginx “listen 443 ssl http2;”.",
    level="info",
)
"""Only a browser knows; the page's script shows it."""


def findings(request: HttpRequest, cluster: ClusterSnapshot) -> list[HealthNotice]:
    """Return what is wrong now, the worst first."""
    return [*_of_this_server(request), *_of_the_log(cluster), *_of_processes(cluster)]


def _of_this_server(request: HttpRequest) -> Iterator[HealthNotice]:
    if not isinstance(request, ASGIRequest):
        yield HealthNotice(
            key="wsgi",
            title="This page was served under WSGI, where no stream can be.",
            hint="Run an ASGI server: uvicorn, daphne, granian or hypercorn; for runserver install daphne and put “daphne” first "
            "in INSTALLED_APPS. What you see is a snapshot.",
        )


def _of_the_log(cluster: ClusterSnapshot) -> Iterator[HealthNotice]:
    if cluster.error:
        yield HealthNotice(
            key="log",
            title="The event log cannot be read, so this page shows what it last knew.",
            hint=cluster.error,
        )
    if not cluster.local:
        return
    try:
        crosses, name = event_log().crosses_processes, type(event_log()).__name__
    except AgentSSEError as error:
        yield HealthNotice(key="log", title="There is no event log.", hint=public_words(error))
        return
    others = siblings() - 1
    if crosses:
        yield HealthNotice(
            key="local",
            title="You see this process only.",
            hint="It does not report to the event log: AGENT_SSE[“MONITOR”][“REPORTS”] is off, or it runs under a test runner.",
            level="info",
        )
    elif others:
        yield HealthNotice(
            key="memory-workers",
            title=f"{name} keeps topics in one process, and {others + 1} processes serve this site.",
            hint="What one of them publishes, clients of the others never see. Set AGENT_SSE[“EVENT_LOG”] to a log that crosses "
            "processes (the database or Redis), or run one process. You see this process only.",
        )
    else:
        yield HealthNotice(
            key="memory",
            title="You see this process only.",
            hint=f"{name} keeps topics in one process. That is fine for a site of one process; with more of them, or more "
            "machines, set AGENT_SSE[“EVENT_LOG”] to the database or Redis.",
            level="info",
        )


def _of_processes(cluster: ClusterSnapshot) -> Iterator[HealthNotice]:
    seconds = conf.setting("HEARTBEAT")
    if not seconds or seconds > SLOWEST_HEARTBEAT:
        yield _heartbeat(f"AGENT_SSE[“HEARTBEAT”] is {f'{seconds:g} s' if seconds else 'off'}")
    problems: dict[str, tuple[str, list[str]]] = {}
    for snapshot in cluster.counted:
        for key, detail in snapshot.problems.items():
            problems.setdefault(key, (detail, []))[1].append(snapshot.process.name)
    if "heartbeat" in problems and (seconds and seconds <= SLOWEST_HEARTBEAT):
        yield _heartbeat(f"open streams have a slower one ({problems['heartbeat'][0]})")
    if "bell" in problems:
        detail, names = problems["bell"]
        yield HealthNotice(
            key="bell",
            title=f"The channel layer does not notify {_some(names)}.",
            hint="Nothing is lost: what other processes publish comes up to half a second later. Is the channel layer’s Redis "
            f"up? ({detail})",
        )
    if "doorbell" in problems:
        detail, names = problems["doorbell"]
        yield HealthNotice(
            key="doorbell",
            title=f"The event log’s own notifications do not reach {_some(names)}.",
            hint="Nothing is lost, but what other processes publish waits until the connection to the log’s Redis or Valkey "
            "stands again, which is tried every five seconds at least. Who opens a stream meanwhile gets what is there then; "
            "what staff closes elsewhere may be late, too. Is that server up, and may its user SUBSCRIBE? "
            f"The process’s log has the whole error. ({detail})",
        )
    if "commands" in problems:
        detail, names = problems["commands"]
        yield HealthNotice(
            key="commands",
            title=f"Commands that nobody may give stood in the event log, and were not executed by {_some(names)}.",
            hint="All processes must have the same SECRET_KEY (or the old one in SECRET_KEY_FALLBACKS), and clocks that agree. "
            f"If they do, somebody else writes to the log’s database or Redis: see to who can. ({detail} so far)",
        )
    if "poll" in problems:
        detail, names = problems["poll"]
        yield HealthNotice(
            key="poll",
            title=f"The poll lags in {_some(names)}.",
            hint=f"Followers wait for the event log: look at the load of its database or Redis, and at locks. ({detail})",
        )
    for status in cluster.processes:
        name = status.snapshot.process.name
        if status.state in ("late", "gone"):
            yield HealthNotice(
                key=f"silent-{status.snapshot.process.id}",
                title=f"The process {name} stopped reporting {span(status.age)} ago.",
                hint="It was killed or hangs, or it cannot reach the event log. Its streams are not counted after 15 s; their "
                "clients come back to other processes by themselves.",
            )
        elif status.snapshot.draining:
            yield HealthNotice(
                key=f"draining-{status.snapshot.process.id}",
                title=f"The process {name} is being drained.",
                hint="It takes no new streams until it is started anew, or told to take them again, for five minutes at most.",
                level="info",
            )


def _heartbeat(what: str) -> HealthNotice:
    return HealthNotice(
        key="heartbeat",
        title=f"Heartbeats are rarer than a proxy’s patience: {what}.",
        hint="nginx and load balancers close what was silent for 60 s, and a client that vanished is never noticed. 15 s is well "
        "below that.",
    )


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} processes ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
