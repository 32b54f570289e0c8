"""Ask for a small page again and again, and say when and how long each took: a process of its own, until its input ends."""

from __future__ import annotations

import http.client
import sys
import threading
import time

EVERY = 0.01


def main(port: int) -> None:
    """Print the beginning and the end of each request, by the clock that all processes share."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not over.wait(EVERY):
        began = time.monotonic()
        connection.request("GET", "/_ping/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"pong")
        print(began, time.monotonic(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
