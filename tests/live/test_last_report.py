"""A process that ends says so to the monitor of the others, which so need not wait until it falls out."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable
from typing import Any

import pytest

from django_agent_sse.contrib.monitor.reporter import REPORTS
from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.topics.reading import history
from tests.timing import LONG

from .servers import EXIT_WITHIN, Server, poll

Start = Callable[..., Server]
KINDS = ("uvicorn", "daphne", "granian", "hypercorn", "gunicorn", "gunicorn with uvicorn")


@pytest.mark.parametrize("kind", KINDS if LONG else ("uvicorn", "granian", "hypercorn"))
def test_sigterm_sends_a_last_report_with_streams_and_without(start: Start, key: str, kind: str, redis_url: str) -> None:
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    backend = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}
    log = RedisEventLog(**options)

    def reports() -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in history(log, REPORTS)]

    server = start(kind, ending=60, agent_sse={"EVENT_LOG": backend})
    poll("it reports that it is there", reports)
    server.signal(signal.SIGTERM)
    server.wait(EXIT_WITHIN)
    idle = reports()
    assert [report.get("last", False) for report in idle] == [False] * (len(idle) - 1) + [True]
    server.restart()
    with server.open("life/idle/", key=key) as client:
        client.next()
        poll("it reports that it has a stream", lambda: any(report["routes"] for report in reports()[len(idle) :]))
        server.signal(signal.SIGTERM)
        client.rest()
        server.wait(EXIT_WITHIN)
    assert sum(report.get("last", False) for report in reports()) == 2
    assert reports()[-1].get("last")
