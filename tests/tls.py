"""TLS in front of a server that speaks none."""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trustme

SECONDS = 30.0
"""How long a connection may say nothing."""


@contextmanager
def tls_before(port: int, certificate: trustme.LeafCert) -> Iterator[int]:
    """A port that speaks TLS, and passes on what is in it; at the end its connections are cut."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    over = threading.Event()

    class Join(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(SECONDS)
            try:
                front = context.wrap_socket(self.request, server_side=True)
            except OSError:  # who does not trust the certificate hangs up
                return
            with front, socket.create_connection(("127.0.0.1", port), SECONDS) as back:
                while not over.is_set() and _pass_on(front, back):
                    pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Join) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            over.set()
            server.shutdown()
            serving.join(SECONDS)


def _pass_on(front: ssl.SSLSocket, back: socket.socket) -> bool:
    """What both have to say now, or soon; whether they may say more."""
    ready = [front] if front.pending() else select.select([front, back], [], [], 0.05)[0]
    for one in ready:
        try:
            data = one.recv(65_536)
            (back if one is front else front).sendall(data)
        except OSError:
            return False
        if not data:
            return False
    return True
