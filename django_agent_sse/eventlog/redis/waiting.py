"""Waiting for one of several sockets."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Sequence
from typing import Any

_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Rather ``poll()`` than ``select()``, which knows no file descriptor above 1023: a process with many streams has them."""


def readable(sockets: Sequence[socket.socket], seconds: float) -> list[Any]:
    """Those from which something can be read, as soon as there is one; none after ``seconds``."""
    with _Selector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]
