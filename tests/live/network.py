"""Clients whose network is lost: from one moment on nothing that is sent to them arrives, and nothing that they send does.

They live in a network namespace of their own, behind a pair of virtual interfaces. To cut them off, either end sends to a
hardware address that nobody has: no link goes down, no error comes, packets are just gone, as where a phone leaves its network.
That takes root and ``ip`` (iproute2). Where namespaces are refused the clients are on this machine, and a filter on each socket
has the kernel drop what arrives before TCP sees it. That is as silent, and whoever may open a socket may do it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from .client import Client

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
RANGE = ipaddress.IPv4Network("198.18.0.0/15")
"""For tests of network devices (RFC 2544): nobody's own network has it. Each takes four addresses of it, by chance."""
NOBODY = "02:00:00:00:de:ad"
SO_ATTACH_FILTER = 26
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A program of the classic Berkeley packet filter: return 0, which is to take no byte of the packet."""


class Namespace:
    """A network of their own."""

    def __init__(self, ip: str) -> None:
        self._ip = ip
        name = uuid.uuid4().hex[:8]
        first = int(RANGE.network_address) + 4 * random.randrange(RANGE.num_addresses // 4)
        self.server, self._clients = str(ipaddress.IPv4Address(first + 1)), str(ipaddress.IPv4Address(first + 2))
        self.name, self._near, self._far = f"sse-{name}", f"sse{name}a", f"sse{name}b"

    def __call__(self, *words: str) -> str:
        done = subprocess.run([self._ip, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(f"ip {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def make(self) -> None:
        inside = ("-n", self.name)
        self("netns", "add", self.name)
        self("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
        self("addr", "add", f"{self.server}/30", "dev", self._near)
        self(*inside, "addr", "add", f"{self._clients}/30", "dev", self._far)
        self("link", "set", self._near, "up")
        self(*inside, "link", "set", self._far, "up")

    def cut(self) -> None:
        self("neigh", "replace", self._clients, "lladdr", NOBODY, "dev", self._near, "nud", "permanent")
        self("-n", self.name, "neigh", "replace", self.server, "lladdr", NOBODY, "dev", self._far, "nud", "permanent")

    def remove(self) -> None:
        for words in (("link", "del", self._near), ("netns", "del", self.name)):
            with contextlib.suppress(PermissionError):
                self(*words)

    def inside(self, call: Callable[[], T]) -> T:
        """Call something on a thread in the namespace: sockets that are made there stay there."""
        found: list[T] = []
        raised: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/run/netns/{self.name}") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                found.append(call())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]
        return found[0]


class Network:
    """Where the clients are."""

    def __init__(self, namespace: Namespace | None) -> None:
        self._namespace = namespace
        self._clients: list[Client] = []

    @property
    def kind(self) -> str:
        return "a network namespace" if self._namespace else "filters on their sockets, since namespaces are refused here"

    def open(self, port: int, count: int, path: str, **query: Any) -> list[Client]:
        """Open so many streams from there; each has had its first event then."""

        def connect() -> list[Client]:
            host = self._namespace.server if self._namespace else "127.0.0.1"
            return [Client(f"http://{host}:{port}/{path}", **query) for _ in range(count)]

        clients = self._namespace.inside(connect) if self._namespace else connect()
        for client in clients:
            client.next()
        self._clients += clients
        return clients

    def cut(self) -> None:
        """All clients vanish at once."""
        if self._namespace:
            self._namespace.cut()
        else:
            program = struct.pack("HL", 1, ctypes.addressof(DROP_ALL))
            for client in self._clients:
                client.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@contextmanager
def network() -> Iterator[Network]:
    """A network that is gone when the block is left."""
    namespace = _namespace()
    made = Network(namespace)
    try:
        yield made
    finally:
        for client in made._clients:
            client.close()
        if namespace is not None:
            namespace.remove()


def _namespace() -> Namespace | None:
    ip = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if ip is None or not Path("/proc/self/ns/net").exists():
        return None
    made = Namespace(ip)
    try:
        made.make()
    except PermissionError as error:
        print(f"no network namespace: {error}")
        made.remove()
        return None
    return made
