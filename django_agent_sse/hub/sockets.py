"""The sockets of this process's HTTP server, found among its descriptors by their addresses.

ASGI gives an application no hold on its connection, and three things need one: a client that never reads keeps megabytes in
the kernel, and keeps uvicorn, hypercorn and granian from ending; daphne leaves a connection open when its application leaves
an answer unfinished; and a server that recycles a worker says so by nothing but closing its listening socket.

A descriptor may be closed and used anew by another thread at any time, so each look is at a duplicate of its own. Behind a
Unix socket, or where a proxy's headers have taken the place of the client's address, nothing is found, and nothing done.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = termios = None  # type: ignore[assignment]

DESCRIPTORS = "/dev/fd"
"""Lists the process's descriptors, on Linux and macOS."""
RESET = struct.pack("ii", 1, 0)
"""``SO_LINGER`` with no time: closing the socket drops what was not sent, and resets the connection."""


class Addresses(NamedTuple):
    """The two ends of a connection: enough to tell it from every other one of the process."""

    host: str
    port: int
    server_port: int


def addresses_of(scope: Mapping[str, Any]) -> Addresses | None:
    """The connection that carries this request alone; ``None`` where that cannot be known.

    HTTP/2 and HTTP/3 carry other requests on the same connection.
    """
    if not str(scope.get("http_version", "")).startswith("1"):
        return None
    client, server = scope.get("client"), scope.get("server")
    try:
        found = Addresses(str(client[0]), int(client[1]), int(server[1]))  # type: ignore[index]  # granian's ports are text
    except (TypeError, ValueError, IndexError):
        return None
    return found if found.port else None


def find(wanted: Collection[Addresses]) -> dict[Addresses, int]:
    """The descriptors of these connections, in one pass over all that are open."""
    found: dict[Addresses, int] = {}
    for descriptor in _descriptors():
        with _duplicate(descriptor) as sock:
            if sock is not None and (one := _ends(sock)) is not None and one in wanted:
                found[one] = descriptor
    return found


def unsent(descriptor: int, addresses: Addresses) -> int | None:
    """Bytes that the client has not acknowledged; ``None`` where this is no longer that connection, or nobody can tell."""
    with _duplicate(descriptor) as sock:
        if sock is None or fcntl is None or _ends(sock) != addresses:
            return None
        try:
            count: int
            (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
            return count
        except OSError:
            return None


def shut(descriptor: int, addresses: Addresses, *, reset: bool) -> None:
    """End a connection under its server, which sees it closed at its next look.

    Args:
        descriptor: Where it was found.
        addresses: It must still be that connection.
        reset: Drop what the client has not taken. Else it goes out first, as far as the kernel has it.
    """
    with _duplicate(descriptor) as sock:
        if sock is None or _ends(sock) != addresses:
            return
        with contextlib.suppress(OSError):
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.shutdown(socket.SHUT_RDWR)


def limit(wanted: Collection[Addresses], seconds: float) -> None:
    """Have the kernel give up on these clients after so long without progress, also when the process is gone (Linux)."""
    if not hasattr(socket, "TCP_USER_TIMEOUT") or not wanted:
        return
    for addresses, descriptor in find(wanted).items():
        with _duplicate(descriptor) as sock, contextlib.suppress(OSError):
            if sock is not None and _ends(sock) == addresses:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def listeners(port: int) -> frozenset[int]:
    """The descriptors of TCP sockets that listen on this port."""
    return frozenset(descriptor for descriptor in _descriptors() if listens(descriptor, port))


def listens(descriptor: int, port: int) -> bool:
    """Whether this is a TCP socket that listens on this port."""
    with _duplicate(descriptor) as sock, contextlib.suppress(OSError):
        return sock is not None and _accepts(sock) and sock.getsockname()[1] == port
    return False


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir(DESCRIPTORS)]
    except (OSError, ValueError):
        return []


@contextlib.contextmanager
def _duplicate(descriptor: int) -> Iterator[socket.socket | None]:
    """A TCP socket of its own over the same connection; ``None`` where the descriptor is something else."""
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        yield None
        return
    try:
        sock = socket.socket(fileno=duplicate)
    except OSError:  # not a socket
        os.close(duplicate)
        yield None
        return
    with sock:
        is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
        yield sock if is_tcp else None


def _ends(sock: socket.socket) -> Addresses | None:
    try:
        host, port = sock.getpeername()[:2]
        return Addresses(host, port, sock.getsockname()[1])
    except OSError:
        return None


def _accepts(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
