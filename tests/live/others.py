"""``python -m tests.live.others PORT ADDRESS``: everybody else, in a process of their own, whose clock no attack holds up.

One ordinary request after the other, and one stream up to its first event, until standard input ends. A line for each on standard
output: what it was (``request``, ``stream``), how many seconds it took, and what was wrong with the answer, if anything.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

PATIENCE = 60.0
PAUSE = 0.02
KINDS = {"request": ("_ping/", "*/*", b""), "stream": ("life/idle/?key=others", "text/event-stream", b"data: hello")}
"""Where it goes, what it takes, and what the answer must have."""


def ask(port: int, address: str, kind: str) -> str:
    """Return what is wrong with the answer."""
    path, accept, must_have = KINDS[kind]
    found = b""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(address, 0)) as sock:
            sock.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
            while (data := sock.recv(65_536)) and not (must_have and b"\n\n" in found.partition(b"\r\n\r\n")[2] + data):
                found += data
            found += data
    except OSError as error:
        return repr(error)
    return "" if found.startswith(b"HTTP/1.1 200") and must_have in found else repr(found[-300:])


def main(port: int, address: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.wait(PAUSE):
        for kind in KINDS:
            began = time.monotonic()
            wrong = ask(port, address, kind)
            print(kind, time.monotonic() - began, wrong, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
