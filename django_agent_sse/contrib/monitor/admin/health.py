"""The health banner: what is wrong with the deployment, in plain words, with a hint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.utils.translation import gettext, gettext_noop, ngettext

from django_agent_sse import conf
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.runtime.formatting import clock, number, span
from django_agent_sse.streams.registry import SLOWEST_HEARTBEAT

from ..cluster import ClusterSnapshot, ProcessStatus


@dataclass(frozen=True, slots=True)
class HealthNotice:
    """One thing that is wrong, and what to do about it. ``key`` tells them apart; ``level`` is ``warning`` or ``info``."""

    key: str
    title: str
    hint: str
    level: str = "warning"


_OF_PROCESSES = {
    "heartbeat": (
        gettext_noop("Heartbeats are sent less often than proxies need: {detail}."),
        gettext_noop(
            "nginx and load balancers close a connection that is silent for 60 s, and a client that vanished is never noticed. "
            "Leave heartbeats at 15 s."
        ),
    ),
    "channel_layer": (
        gettext_noop("The channel layer does not notify {processes}."),
        gettext_noop(
            "Nothing is lost: events that other processes publish arrive up to half a second later. Is the channel layer’s "
            "Redis up? ({detail})"
        ),
    ),
    "database_notifications": (
        gettext_noop("The database does not notify {processes}."),
        gettext_noop(
            "Nothing is lost: events that other processes publish arrive up to half a second later. Does a pooler, such as "
            "pgbouncer, lend connections by transaction? Name a way past it in NOTIFY_ALIAS. The process’s log has the whole "
            "error. ({detail})"
        ),
    ),
    "log_notifications": (
        gettext_noop("The event log’s own notifications do not reach {processes}."),
        gettext_noop(
            "Nothing is lost, but events that other processes publish wait until the connection to the log’s Redis or Valkey is "
            "restored, which is tried every five seconds at least. A stream that is opened meanwhile gets what is there at that "
            "moment; commands of staff to close streams may be late, too. Is that server up, and may its user SUBSCRIBE? The "
            "process’s log has the whole error. ({detail})"
        ),
    ),
    "commands": (
        gettext_noop("The event log holds forged or unreadable commands, which were not executed by {processes}."),
        gettext_noop(
            "All processes must have the same SECRET_KEY (or the old one in SECRET_KEY_FALLBACKS), and clocks that agree. "
            "Otherwise somebody else writes to the log’s database or Redis: check who has access. ({detail} so far)"
        ),
    ),
    "poll": (
        gettext_noop("The poll lags in {processes}."),
        gettext_noop("Followers wait for the event log: look at the load of its database or Redis, and at locks. ({detail})"),
    ),
}
"""The title and the hint for each of ``Snapshot.problems``."""


def http1_notice() -> HealthNotice:
    """What only a browser knows: the page's script shows it."""
    return HealthNotice(
        "http1",
        gettext("This page came over HTTP/1.1."),
        gettext(
            "Over HTTP/1.1 a browser opens six connections to a host at most, and each open stream holds one: with a few tabs "
            "open, the next page waits until one of them is closed. Serve browsers over HTTP/2: in nginx “listen 443 ssl http2;”."
        ),
        "info",
    )


def wsgi_notice() -> HealthNotice:
    return HealthNotice(
        "wsgi",
        gettext("This page was served under WSGI, which cannot serve streams."),
        gettext(
            "Run an ASGI server: uvicorn, daphne, granian or hypercorn; for runserver install daphne and put “daphne” first in "
            "INSTALLED_APPS. This page is a snapshot."
        ),
    )


def notices(request: HttpRequest, cluster: ClusterSnapshot) -> list[HealthNotice]:
    """Return what is wrong now, the worst first."""
    server = [] if isinstance(request, ASGIRequest) else [wsgi_notice()]
    return [*server, *_of_the_log(cluster), *_of_processes(cluster)]


def _of_the_log(cluster: ClusterSnapshot) -> Iterator[HealthNotice]:
    if cluster.error:
        yield HealthNotice("log", gettext("The event log cannot be read; this page shows what was read last."), cluster.error)
    if not cluster.local:
        return
    try:
        log = event_log()
    except AgentSSEError as error:
        yield HealthNotice("log", gettext("There is no event log."), public_words(error))
        return
    name, workers = type(log).__name__, siblings()
    if log.crosses_processes:
        yield HealthNotice(
            "local",
            gettext("You see this process only."),
            gettext(
                "It does not report to the event log: AGENT_SSE[“MONITOR”][“REPORTS”] is off, or it runs under a test runner."
            ),
            "info",
        )
    elif workers > 1:
        yield HealthNotice(
            "memory-workers",
            ngettext(
                "{log} keeps topics in one process, and {count} process serves this site.",
                "{log} keeps topics in one process, and {count} processes serve this site.",
                workers,
            ).format(log=name, count=number(workers)),
            gettext(
                "Clients of one process never see what another one publishes. Set AGENT_SSE[“EVENT_LOG”] to a log that crosses "
                "processes (the database or Redis), or run one process. You see this process only."
            ),
        )
    else:
        yield HealthNotice(
            "memory",
            gettext("You see this process only."),
            gettext(
                "{log} keeps topics in one process. That is fine for a site of one process; with more processes or machines, set "
                "AGENT_SSE[“EVENT_LOG”] to the database or Redis."
            ).format(log=name),
            "info",
        )


def _of_processes(cluster: ClusterSnapshot) -> Iterator[HealthNotice]:
    processes, details = dict[str, list[str]](), dict[str, str]()
    for snapshot in cluster.counted:
        for key, detail in snapshot.problems.items():
            processes.setdefault(key, []).append(snapshot.process.name)
            details.setdefault(key, detail)
    seconds = conf.setting("HEARTBEAT")
    if not seconds or seconds > SLOWEST_HEARTBEAT:
        details["heartbeat"] = (
            gettext("AGENT_SSE[“HEARTBEAT”] is {span}").format(span=span(seconds))
            if seconds
            else gettext("AGENT_SSE[“HEARTBEAT”] is off")
        )
    for key, (title, hint) in _OF_PROCESSES.items():
        if key in details:
            values = {"detail": details[key], "processes": _some(processes.get(key, []))}
            yield HealthNotice(key, gettext(title).format_map(values), gettext(hint).format_map(values))
    for status in cluster.processes:
        yield from _of_process(status)


def _of_process(status: ProcessStatus) -> Iterator[HealthNotice]:
    process = status.snapshot.process
    if status.state in ("late", "gone"):
        yield HealthNotice(
            f"silent-{process.id}",
            # Not how long ago: a text that changes is news to who has it read out.
            gettext("The process {name} stopped reporting at {time}.").format(name=process.name, time=clock(status.snapshot.at)),
            gettext(
                "It was killed, hangs, or cannot reach the event log. Its streams are not counted after 15 s; their clients "
                "reconnect to other processes by themselves."
            ),
        )
    elif status.snapshot.draining:
        yield HealthNotice(
            f"draining-{process.id}",
            gettext("The process {name} is being drained.").format(name=process.name),
            gettext("It takes no new streams until it is restarted or resumed, for five minutes at most."),
            "info",
        )


def _some(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    shown = f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
    return ngettext("{count} process ({names})", "{count} processes ({names})", len(names)).format(
        count=number(len(names)), names=shown
    )


_SPAWNED = b"multiprocessing.spawn"


def siblings() -> int:
    """Count the processes that look like workers of the same server as this one, with it; 1 where nobody can tell."""
    try:
        parent, mine = os.getppid(), _command(os.getpid())
        if parent <= 1:
            return 1
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        # A spawned worker's command line names its own pipe, so that no two are equal.
        spawned, others = _SPAWNED in mine, [_command(int(child)) for child in children]
        return max(1, sum(bool(mine) and (mine == other or (spawned and _SPAWNED in other)) for other in others))
    except (OSError, ValueError):  # not Linux, or the parent belongs to somebody else
        return 1


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""
