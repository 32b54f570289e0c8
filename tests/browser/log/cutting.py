"""A network that can be cut: a proxy before a server, for any number of connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

PATIENCE = 60.0


class Cutting:
    """Passes bytes on until it is told to cut.

    Attributes:
        refusing: New connections are closed at once.
        heads: What clients asked, from the request line to the end of the headers.
    """

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.refusing = False
        self.heads: list[str] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._run(self._accept)

    def __enter__(self) -> Cutting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        self._listener.close()
        self.cut(refuse=True)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def cut(self, *, refuse: bool = False) -> None:
        """Break what is open, and keep new connections away with ``refuse``."""
        self.refusing = refuse
        opened, self._open = self._open, []
        _break(opened)

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
            if self.refusing:
                client.close()
                continue
            server = socket.create_connection(self._upstream)
            self._open.extend([client, server])
            if self.refusing:  # since a moment ago
                _break([client, server])
            self._run(self._pass, client, server)
            self._run(self._pass, server, client)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if data.startswith(b"GET "):
                    self.heads.append(data.partition(b"\r\n\r\n")[0].decode("latin-1"))
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _break(connections: list[socket.socket]) -> None:
    for one in connections:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
