"""Compressed streams behind nginx, with Debian's settings: cut on either side of it, and resumed, each event once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.npm import Node
from tests.timing import LONG

from .cuts import count_bytes, cutting
from .proxies import in_front
from .servers import Server
from .test_compressed import NPM, PACKED, TO, WANTED

SITE = {"middleware": "everything", "agent_sse": {"COMPRESS": True, "PROXIES": 1}}
OVER_TLS = ("httpx-sse", "niquests")
"""These take a certificate that nobody has signed: one speaks HTTP/1.1, the other HTTP/2."""
IN_CLEAR = tuple(PACKED) if LONG else OVER_TLS
JAVASCRIPT = NPM if LONG else ("EventStream",)


def numbers_after_cuts(base: str, names: Sequence[str], count: int) -> dict[str, dict[int, list[int]]]:
    """What each client got that did not get each event once, by the byte after which it was cut."""
    with ThreadPoolExecutor(16) as pool:
        got = {name: pool.map(PACKED[name], [f"{base}/{name}/{k}/" for k in range(count)]) for name in names}
        return {name: {k: numbers for k, numbers in enumerate(all) if numbers != WANTED} for name, all in got.items()}


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("plain", [False, True], ids=["documented", "plain"])
def test_each_event_comes_once_wherever_a_server_is_cut_off_from_nginx(
    uvicorn: Server, node: Node, tmp_path: Path, plain: bool
) -> None:
    """Plain, it asks by HTTP/1.0, and ends a response that was broken off as if it were whole."""
    count = count_bytes(uvicorn, to=TO, compressed=True)
    with cutting(uvicorn, node, to=TO) as cuts:
        port = urlsplit(cuts.base).port
        assert port
        with in_front("nginx", tmp_path, [port], plain=plain) as proxy:
            wrong = numbers_after_cuts(proxy.url, OVER_TLS, count)
    for name in OVER_TLS:
        cuts.must_cover(name, count, compressed=True)
    assert wrong == {name: {} for name in OVER_TLS}


def test_each_event_comes_once_wherever_a_client_is_cut_off_from_nginx(uvicorn: Server, node: Node, tmp_path: Path) -> None:
    count = count_bytes(uvicorn, to=TO, compressed=True)
    with (
        in_front("nginx", tmp_path, [uvicorn.port], tls=False) as proxy,
        cutting(proxy, node, to=TO, clients=JAVASCRIPT, count=count) as cuts,
    ):
        wrong = numbers_after_cuts(cuts.base, IN_CLEAR, count)
    for name in (*JAVASCRIPT, *IN_CLEAR):
        cuts.must_cover(name, count, compressed=True)
    assert {name: cuts.wrong[name] for name in JAVASCRIPT} == {name: [] for name in JAVASCRIPT}
    assert wrong == {name: {} for name in IN_CLEAR}
