"""The sockets of this process's HTTP server, found among its descriptors by their addresses.

ASGI gives an application no hold on its connection, and three things need one: a client that never reads keeps megabytes in
the kernel, and keeps uvicorn, hypercorn and granian from ending; daphne leaves a connection open when its application leaves
an answer unfinished; and a server that recycles a worker says so by nothing but closing its listening socket.

A descriptor may be closed and used anew by another thread at any time, so what is done to a connection is done to a duplicate
that was looked at once more. Behind a Unix socket, or where a proxy's headers have taken the place of the client's address,
nothing is found, and nothing done.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
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

BYTES_ACKED = struct.Struct("120xQ")
"""``tcpi_bytes_acked`` in the ``tcp_info`` of Linux (``include/uapi/linux/tcp.h``). A kernel before 4.1 has a shorter one."""


class Addresses(NamedTuple):
    """The two ends of a connection: enough to tell it from every other one of the process."""

    host: str
    port: int
    server_port: int


def addresses_of(scope: Mapping[str, Any]) -> Addresses | None:
    """Return the connection that carries this request alone; ``None`` where that cannot be known.

    HTTP/2 and HTTP/3 carry other requests on the same connection.
    """
    if not str(scope.get("http_version", "")).startswith("1"):
        return None
    client, server = scope.get("client"), scope.get("server")
    try:
        addresses = Addresses(str(client[0]), int(client[1]), int(server[1]))  # type: ignore[index]  # granian's ports are text
    except (TypeError, ValueError, IndexError):
        return None
    return addresses if addresses.port else None


def find(wanted: Collection[Addresses]) -> dict[Addresses, int]:
    """Return the descriptors of these connections, in one pass over all that are open."""
    return {addresses: descriptor for descriptor, addresses in connections() if addresses in wanted}


def connections() -> Iterator[tuple[int, Addresses]]:
    """Look at one descriptor after another, of those that were open at the beginning: which are connections, and which ones."""
    for descriptor in _descriptors():
        with _looked_at(descriptor) as sock:
            ends = None if sock is None else _ends(sock)
        if ends is not None:
            yield descriptor, ends


def unsent(descriptor: int, addresses: Addresses) -> int | None:
    """Return how many bytes the client has not acknowledged; ``None`` where that is unknown, or this is another connection."""
    with _looked_at(descriptor) as sock, contextlib.suppress(OSError):
        if sock is not None and fcntl is not None and _ends(sock) == addresses:
            return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])
    return None


def acknowledged(descriptor: int, addresses: Addresses) -> int | None:
    """Return how many bytes the client has acknowledged since it connected; ``None`` as with `unsent`, and where not on Linux."""
    with _looked_at(descriptor) as sock, contextlib.suppress(OSError, struct.error):
        if sock is not None and CAN_LIMIT and _ends(sock) == addresses:
            (count,) = BYTES_ACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED.size))
            return int(count)
    return None


def shut(descriptor: int, addresses: Addresses, *, reset: bool) -> None:
    """End a connection under its server, which sees it closed when it uses it next.

    With ``reset``, what the client has not taken is dropped. Else it goes out first, as far as the kernel has it.
    """
    with _held(descriptor, addresses) as sock, contextlib.suppress(OSError):
        if sock is not None:
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.shutdown(socket.SHUT_RDWR)


CAN_LIMIT = hasattr(socket, "TCP_USER_TIMEOUT")
"""Whether ``limit()`` can do anything, and ``acknowledged()`` know it: on Linux."""


def limit(descriptor: int, addresses: Addresses, *, seconds: float) -> None:
    """Have the kernel give up on this client after so long without progress, also when the process is gone."""
    with _held(descriptor, addresses) as sock, contextlib.suppress(OSError):
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def listeners(port: int) -> frozenset[int]:
    return frozenset(descriptor for descriptor in _descriptors() if listens(descriptor, port))


def listens(descriptor: int, port: int) -> bool:
    with _looked_at(descriptor) as sock, contextlib.suppress(OSError):
        return (
            sock is not None and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) and sock.getsockname()[1] == port
        )
    return False


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir(DESCRIPTORS)]
    except (OSError, ValueError):
        return []


@contextlib.contextmanager
def _looked_at(descriptor: int) -> Iterator[socket.socket | None]:
    """The TCP socket that a descriptor is, to ask it something; ``None`` where it is something else. It stays open.

    Nothing but a socket is ever duplicated or closed here: closing any descriptor of a file, a duplicate too, gives up the
    locks that the process has on that file, and SQLite's would be among them.
    """
    if socket.getdefaulttimeout() is not None:  # Python would make each socket that it looks at a non-blocking one
        yield None
        return
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:  # not a socket, or closed by now
        yield None
        return
    try:
        is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
        yield sock if is_tcp else None
    finally:
        sock.detach()


@contextlib.contextmanager
def _held(descriptor: int, addresses: Addresses) -> Iterator[socket.socket | None]:
    """A duplicate of this connection, to do something to it; ``None`` where the descriptor is no longer that connection.

    Another thread may close the descriptor at any time, and get it again for another connection.
    """
    with _looked_at(descriptor) as looked_at:
        is_it = looked_at is not None and _ends(looked_at) == addresses
    if not is_it:
        yield None
        return
    try:
        duplicate = os.dup(descriptor)
        is_socket = stat.S_ISSOCK(os.fstat(duplicate).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:  # it became a file in between: the duplicate is better left open than closed
        yield None
        return
    with socket.socket(fileno=duplicate) as sock:
        yield sock if _ends(sock) == addresses else None


def _ends(sock: socket.socket) -> Addresses | None:
    try:
        host, port = sock.getpeername()[:2]
        return Addresses(host, port, sock.getsockname()[1])
    except OSError:
        return None
