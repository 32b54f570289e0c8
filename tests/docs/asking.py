"""One request to Django's ASGI application in this process, as a server and ``curl`` would make it."""

from __future__ import annotations

import asyncio
import shlex
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.handlers.asgi import ASGIHandler

from django_agent_sse.streams.registry import open_streams

PATIENCE = 60.0

Until = Callable[[str], bool]


@dataclass(slots=True)
class Answer:
    """What came back; ``complete`` where the server ended it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    decode: Callable[[bytes], bytes] = bytes
    complete: bool = False

    @property
    def head(self) -> list[str]:
        """The status line and the headers, as ``curl -i`` prints them."""
        status = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"
        return [status, *(f"{name}: {value}" for name, value in self.headers.items())]


async def ask(
    method: str, target: str, *, headers: dict[str, str] | None = None, body: bytes = b"", until: Until = lambda _: False
) -> Answer:
    """Ask, and leave as soon as ``until(what came)`` is true; wait until every stream is over."""
    answer = Answer()
    left = asyncio.Event()
    incoming = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().title(): value.decode() for name, value in message["headers"]}
            if answer.headers.get("Content-Encoding") == "gzip":
                answer.decode = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress
            return
        answer.body += answer.decode(message.get("body", b"")).decode()
        answer.complete = not message.get("more_body", False)
        if until(answer.body):
            left.set()

    async with asyncio.timeout(PATIENCE):
        await ASGIHandler()(_scope(method, target, headers or {}, body), receive, send)  # type: ignore[arg-type]
        while open_streams():  # noqa: ASYNC110  # a stream goes on for some turns of the loop, and nothing tells when
            await asyncio.sleep(0)
    return answer


def _scope(method: str, target: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    url = urlsplit(target)
    sent = {"host": "127.0.0.1:8000", "accept": "*/*", "content-length": str(len(body)), **headers}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": unquote(url.path),
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
    }


async def curl(command: str, *, until: Until) -> list[str]:
    """Run a ``curl`` command line against the application; return the lines that it would print.

    Raises:
        ValueError: It has an option that this one does not know.
    """
    words = iter(shlex.split(command)[1:])
    method, target, shows_head, body = "", "", False, b""
    headers: dict[str, str] = {}
    for word in words:
        match word:
            case "-N" | "-s":
                continue
            case "-i":
                shows_head = True
            case "--compressed":
                headers["accept-encoding"] = "gzip"
            case "-X":
                method = next(words)
            case "-d":
                body = next(words).encode()
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name.lower()] = value
            case _ if word.startswith("http://127.0.0.1:8000/"):
                target = word.removeprefix("http://127.0.0.1:8000")
            case _:
                raise ValueError(f"{word!r} of `{command}` is unknown here")
    answer = await ask(method or ("POST" if body else "GET"), target, headers=headers, body=body, until=until)
    return [*answer.head, "", *answer.body.split("\n")] if shows_head else answer.body.split("\n")
