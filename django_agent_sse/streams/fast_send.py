"""Sending past the response's task: what a topic brings is handed to the server at once, and the task sleeps on.

Waking a task for each chunk of each client costs more than the rest of a delivery. Only ``asgi.wrap()`` knows the server's
``send()``, and only uvicorn's is known to return without waiting while its client reads. Where it waits after all, the task is
woken, and goes on where the call has got to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..topics.batch import CHUNK_BYTES

Scope = MutableMapping[str, Any]
Send = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]

_KEY: Final = "django_agent_sse.send"


class PendingSend(Awaitable[None], Protocol):
    """A send that waits for its client, to be awaited."""

    def close(self) -> None: ...  # give it up


def attach_send(scope: Scope, send: Send) -> Scope:
    """Return the scope with the server's ``send()`` in it, if that is one that may be called from outside the task."""
    return {**scope, _KEY: send} if _is_known(send) else scope


def release_head(send: Send) -> Send:
    """Return a server's ``send()``, if it is known, which empties the list of headers once the server has them.

    Django keeps that list for as long as the body lasts: 1.8 KiB for each open stream.
    """
    return _ReleasingSend(send) if _is_known(send) else send


def _is_known(send: Send) -> bool:
    return (getattr(send, "__module__", None) or "").startswith("uvicorn.")


@dataclass(slots=True, eq=False)
class _ReleasingSend:
    _send: Send

    async def __call__(self, message: dict[str, Any]) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            message["headers"].clear()


def get_send(request: object) -> Send | None:
    """Return the server's ``send()`` for this request, if ``attach_send()`` has put it there."""
    scope: Scope = getattr(request, "scope", {})
    return scope.get(_KEY)


def send_now(send: Send, chunk: bytes) -> PendingSend | None:
    """Send a part of the body. Return ``None`` when that is done, else what is left to be awaited.

    Args:
        send: The server's.
        chunk: What Django would hand over in one piece. More than that goes piece by piece, each after the one before was
            taken, for a client that does not read must not be given all of it.
    """
    if len(chunk) > CHUNK_BYTES:
        return _send_pieces(send, chunk)
    sending = send({"type": "http.response.body", "body": chunk, "more_body": True})
    try:
        return _Suspended(sending, sending.send(None))
    except StopIteration:
        return None


async def _send_pieces(send: Send, chunk: bytes) -> None:
    for start in range(0, len(chunk), CHUNK_BYTES):
        await send({"type": "http.response.body", "body": chunk[start : start + CHUNK_BYTES], "more_body": True})


@dataclass(slots=True, eq=False)
class _Suspended:
    """A coroutine that was begun outside the task that finishes it."""

    _coroutine: Coroutine[Any, Any, None]
    _waits_for: Any

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    yield waits_for
                except BaseException as error:  # the task was cancelled: it is the coroutine that must learn of it
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(None)
        except StopIteration:
            return

    def close(self) -> None:
        self._coroutine.close()
