"""The servers that the clients ask, and the proxy between them."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.redis import RedisEventLog
from tests.live.servers import Server, poll

from .cutting import Proxy, proxying


@dataclass(slots=True)
class Site:
    """Two servers that share a log of events, and a proxy that cuts before the first of them.

    Attributes:
        server: It stays alive.
        proxy: Before that one.
        log: Of both.
    """

    server: Server
    proxy: Proxy
    log: EventLog
    _mortal: Server
    _ended: bool = False

    def mortal(self) -> Server:
        """Where runs are started that shall be killed or interrupted; it serves again where it was ended."""
        if self._ended:
            self._mortal.restart()
            self._ended = False
        return self._mortal

    def end_mortal(self, ending: str) -> None:
        """End the process of those runs, so that they are ``interrupted`` or ``lost``."""
        self._ended = True
        if ending == "interrupted":
            self._mortal.signal(signal.SIGTERM)
        else:
            self._mortal.kill()

    def begin(
        self,
        path: str,
        *,
        topic: str,
        events: int,
        headers: Mapping[str, str],
        server: Server,
        body: bytes = b"",
        **query: object,
    ) -> str:
        """Start a run that nobody reads; return its id when so many events are in its topic.

        Whoever sends the same request again, with the same ``Idempotency-Key`` among the headers, reads it, at either server.
        """
        answer = server.get(path, method="POST", headers={"Prefer": "respond-async", **headers}, body=body, **query)
        assert answer.status == 202, answer
        id = str(answer.json()["run"])
        poll(f"{events} events of {path}", lambda: self.log.state(f"{topic}.{id}").top >= events)
        return id

    def stop(self, path: str) -> None:
        """Stop the run that has this address."""
        answer = self.server.get(path, method="DELETE")
        assert answer.status in (200, 202), answer
        assert answer.json()["run"] in path


@contextmanager
def serving(start: Callable[..., Server], redis_url: str) -> Iterator[Site]:
    """Run them."""
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    about = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
    server = start("uvicorn", middleware="default", agent_sse=about)
    mortal = start("uvicorn", middleware="default", agent_sse=about, ending=20)
    with proxying(server.url) as proxy:
        yield Site(server, proxy, RedisEventLog(**options), mortal)
