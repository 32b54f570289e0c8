"""A proxy that cuts a connection where a test says, in the middle of an event."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from tests.live.client import PATIENCE


class Cutter:
    """Stands before a server; ends the first connection that asks for ``path`` when ``mark`` has passed, and lets others be.

    Attributes:
        requests: The head of each request, in order.
    """

    def __init__(self, port: int, mark: bytes, path: str = "") -> None:
        self._upstream = ("127.0.0.1", port)
        self._mark = mark
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._over = False
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._run(self._accept)

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
            one.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            self._open += [client, server]
            if self._over:  # since a moment ago: nobody else would wake its thread
                for one in (client, server):
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
            self._run(self._pass, client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        """One request of one connection, and its answer."""
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            request = head.decode("latin-1")
            cutting = self._path in request and not any(self._path in earlier for earlier in self.requests)
            self.requests.append(request)
            server.sendall(head)
            self._answer(client, server, cutting)
        except OSError:
            pass  # one of the two has left
        finally:
            client.close()
            server.close()

    def _answer(self, client: socket.socket, server: socket.socket, cutting: bool) -> None:
        passed = b""
        while data := server.recv(65536):
            passed += data
            if cutting and (end := passed.find(self._mark)) >= 0:
                client.sendall(passed[len(passed) - len(data) : end + len(self._mark)])
                return
            client.sendall(data)
