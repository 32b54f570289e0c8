"""Whoever leaves at any moment of a request, behind a slow middleware, leaves nothing behind, and no collector is needed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.timing import LONG, bound

from .servers import Server, poll

SHAPES = ("idle", "generates", "iterates")
ROUNDS = 84 if LONG else 28
AT_ONCE = 14
LATEST = 0.6
"""Seconds after the request within which a client leaves: before the view, during the middleware's 0.3 s, and in the stream."""
WITHIN = bound(2.3, 12.0)


def resets(server: Server, key: str, shape: str, draw: random.Random) -> None:
    """Ask, and reset the connection at a random moment, ``AT_ONCE`` at a time."""
    for first in range(0, ROUNDS, AT_ONCE):
        clients = [server.open(f"life/{shape}/", key=f"{key}-{first + number}", slow=1) for number in range(AT_ONCE)]
        began = time.monotonic()
        for at, client in sorted(((draw.uniform(0, LATEST), client) for client in clients), key=lambda pair: pair[0]):
            time.sleep(max(0.0, began + at - time.monotonic()))
            client.reset()


@pytest.mark.parametrize("wrapper", ["", "1"], ids=["plain", "wrapped"])
def test_whoever_leaves_whenever_leaves_nothing_behind(start: Callable[..., Server], key: str, wrapper: str) -> None:
    server = start("uvicorn", middleware="slow", collect=0, **({"wrapper": wrapper} if wrapper else {}))
    draw = random.Random(7)
    for shape in SHAPES:
        resets(server, f"{key}-{shape}", shape, draw)
        waits = f"{key}-{shape}-waits"  # one at least gets as far as the handler, however slow the machine is
        client = server.open(f"life/{shape}/", key=waits, slow=1)
        server.recorded(waits, "started")
        client.reset()
        left = time.monotonic()
        keys = [waits, *(f"{key}-{shape}-{number}" for number in range(ROUNDS))]

        def still_running(keys: list[str] = keys) -> list[str]:
            return [name for name in keys if (steps := server.steps(name)) and "finally" not in steps]

        poll("every finally has run", lambda: not still_running(), within=WITHIN + 1)
        assert time.monotonic() - left < WITHIN
        assert any(server.steps(name) for name in keys), "some got as far as the handler"
    poll("no stream is open", lambda: server.state()["open_streams"] == 0, within=WITHIN)
