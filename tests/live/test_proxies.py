"""Proxies in front, over HTTP/2: each event passes at once, clients have their own addresses, and who leaves is seen to leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.timing import LONG

from . import proxies
from .parser import Parser, Received
from .proxies import KINDS, NAME, Proxy, in_front
from .servers import AT_ONCE, EVERY, Server

PATIENCE = 60.0
LIMIT = 3
Start = Callable[..., Server]


class Stream:
    """A response that is read event by event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.parser = Parser()
        self._read = response.iter_bytes()
        self._pending: list[Received] = []

    def next(self) -> Received:
        """The next event. Raises ``StopIteration`` at the end, and what httpx raises where the response breaks off."""
        while not self._pending:
            self.read()
        return self._pending.pop(0)

    def read(self) -> None:
        """Read once, events or heartbeats."""
        self._pending += self.parser.feed(next(self._read))

    def rest(self) -> list[Received]:
        """Every event that is left when the response ends."""
        for piece in self._read:
            self._pending += self.parser.feed(piece)
        return self._pending


@contextmanager
def client(proxy: Proxy, address: str = "127.0.0.1") -> Iterator[httpx.Client]:
    """A client that speaks HTTP/2, from one of this machine's addresses."""
    transport = httpx.HTTPTransport(verify=False, http2=True, http1=False, local_address=address)
    with httpx.Client(
        base_url=f"https://127.0.0.1:{proxy.port}", headers={"Host": NAME}, transport=transport, timeout=PATIENCE
    ) as made:
        yield made


@contextmanager
def opened(asking: httpx.Client, path: str, **about: Any) -> Iterator[Stream]:
    """A stream over HTTP/2; leaving the block leaves it."""
    headers = {"Accept": "text/event-stream", **about.pop("headers", {})}
    with asking.stream("GET", path, headers=headers, params=about, extensions={"sni_hostname": NAME}) as response:
        assert response.http_version == "HTTP/2"
        yield Stream(response)


@pytest.fixture(scope="module")
def site(start: Start) -> Server:
    return start("uvicorn", middleware="everything", agent_sse={"PROXIES": 1, "LIMITS": {"ADDRESS": LIMIT}})


@pytest.fixture(scope="module", params=KINDS)
def proxy(request: pytest.FixtureRequest, site: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with in_front(request.param, tmp_path_factory.mktemp(request.param), [site.port]) as made:
        yield made


def arrive_one_by_one(proxy: Proxy, server: Server, key: str, *, coding: str = "identity") -> None:
    """Each event is there before the next one is written."""
    path = "/life/stepwise-compressed/" if coding == "gzip" else "/life/stepwise/"
    with client(proxy) as asking, opened(asking, path, key=key) as stream:
        assert stream.response.headers["content-encoding"] == coding
        for number in range(1, 5):
            assert stream.next().data == str(number)
            server.open_gate(f"{key}-{number}")
        assert stream.next().name == "sse.end"
        assert stream.response.status_code == 200


def test_each_event_passes_before_the_next_one_is_written(proxy: Proxy, site: Server, key: str) -> None:
    arrive_one_by_one(proxy, site, key)


def test_each_compressed_event_passes_before_the_next_one_is_written(proxy: Proxy, site: Server, key: str) -> None:
    arrive_one_by_one(proxy, site, key, coding="gzip")


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_does_with_the_plainest_configuration_too(kind: str, site: Server, key: str, tmp_path: Path, coding: str) -> None:
    with in_front(kind, tmp_path, [site.port], plain=True) as proxy:
        arrive_one_by_one(proxy, site, key, coding=coding)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_an_nginx_that_compresses_everything_leaves_streams_alone(site: Server, key: str, tmp_path: Path, coding: str) -> None:
    with in_front("nginx", tmp_path, [site.port], plain=True, gzip=True) as proxy:
        with client(proxy) as asking:
            page = asking.get("/_page/")
        assert page.headers["content-encoding"] == "gzip", "it does compress"
        arrive_one_by_one(proxy, site, key, coding=coding)


@pytest.mark.parametrize("server", [kind for kind in EVERY if kind != "uvicorn"])
def test_every_server_does_so_for_the_http_1_0_of_a_plain_nginx(start: Start, key: str, tmp_path: Path, server: str) -> None:
    behind = start(server)
    with in_front("nginx", tmp_path, [behind.port], plain=True) as proxy:
        arrive_one_by_one(proxy, behind, key)


def test_who_leaves_is_seen_to_leave(proxy: Proxy, site: Server, key: str) -> None:
    """With its connection: httpx does not reset a single stream of it, as browsers do (``test_proxies_in_browsers.py``)."""
    with client(proxy) as asking, opened(asking, "/life/idle/", key=key) as stream:
        stream.next()
    left = time.monotonic()
    end = site.recorded(key, "on_end")
    assert end["ending"] == "client_disconnect"
    assert end["at"] - left < AT_ONCE


def test_each_client_has_its_own_address_and_none_that_it_claims(proxy: Proxy, site: Server, key: str) -> None:
    idle = {"path": "/life/idle/", "key": key}
    claims = [{}, {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "127.0.0.3", "X-Real-IP": "127.0.0.3"}]
    with client(proxy, "127.0.0.2") as one, client(proxy, "127.0.0.3") as other, ExitStack() as stack:
        for _ in range(LIMIT):
            assert stack.enter_context(opened(one, **idle)).next().name == "message"
        for claimed in claims:
            with opened(one, **idle, headers=claimed) as refused:
                assert refused.next().name == "sse.overloaded"
        with opened(other, **idle, headers=claims[1]) as theirs:
            assert theirs.next().name == "message"
    site.recorded(key, "on_end", count=LIMIT + 1)


def test_a_stream_that_breaks_off_breaks_off_for_a_client_of_nginx(site: Server, tmp_path: Path) -> None:
    """The others of Debian 12 end it as if it were whole, and so does an nginx that asks by HTTP/1.0."""
    with in_front("nginx", tmp_path, [site.port]) as proxy, client(proxy) as asking:
        with opened(asking, "/client/short-and-broken/", to=1_000) as stream, pytest.raises(httpx.RemoteProtocolError):
            stream.rest()
        assert stream.parser.raw


BEATS, SILENT_SECONDS, ROUTE = (8, 120.0, "idle") if LONG else (3, 0.0, "beats")
"""The default heartbeat of 15 s in the long form: for twice the 60 s of nginx and the 50 s of Debian's HAProxy."""


def test_heartbeats_pass_so_that_no_proxy_takes_a_quiet_stream_for_a_dead_one(proxy: Proxy, site: Server, key: str) -> None:
    began = time.monotonic()
    with client(proxy) as asking, opened(asking, f"/life/{ROUTE}/", key=key) as stream:
        while len(stream.parser.comments) < BEATS or time.monotonic() < began + SILENT_SECONDS:
            stream.read()
        assert "on_end" not in site.steps(key)


def test_a_missing_proxy_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies.shutil, "which", lambda *_, **__: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no nginx on this machine: apt-get install nginx-light"):
        proxies.program("nginx")
