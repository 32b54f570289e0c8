"""The HTTP responses of a stream, and the header that tells its client whose it is."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders
from django.utils.cache import patch_vary_headers
from django.utils.encoding import force_bytes

from ..encoding import encode_json
from ..runtime.backoff import jittered
from ..wire.encoder import control_frame
from .context import Context
from .error_responses import accepts, error_response
from .transport import Transport

CONTENT_TYPE = "text/event-stream"
GZIP = "gzip"
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache, no-store, no-transform",
    "X-Accel-Buffering": "no",
    "Incremental": "?1",  # the standard's way to say the same to any proxy: draft-ietf-httpbis-incremental, approved
    # GZipMiddleware leaves an encoded response alone. In Django 5.2 it makes every chunk a gzip member of its own, of which
    # many clients read the first only, and in 6.0 it sends nothing before the end.
    "Content-Encoding": "identity",
}
OVERLOADED_RETRY = 10_000
"""Milliseconds after which, more or less, a client that found the server overloaded should come back."""
SESSION_HEADER = "Agent-SSE-Session"
"""On each event stream, and on the answer to HEAD: ``<account>.<session>``. A guard may set another with ``c.set_header()``."""

_SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"


class SSEResponse(StreamingHttpResponse):
    """Sends one stream as the ASGI response, and closes it when Django lets go of it in any way.

    A plain generator would not do: a cancel that lands while Django waits in ``send()`` leaves it to the garbage collector.
    """

    def __init__(self, transport: Transport, *, slim: Context | None = None, gzip: bool = False) -> None:
        self._transport = transport
        self._slim = slim  # its request is let go when the response begins; by then every middleware is through
        self._source = transport.iter_body()
        super().__init__(self._source, content_type=CONTENT_TYPE, headers=HEADERS)
        self._gzip = gzip  # only now: Django sets the content like a middleware
        self._resource_closers.append(transport.discard_unsent)  # type: ignore[attr-defined]

    def items(self) -> Any:
        """The headers as they go out: Django asks for them when every middleware is through, right before it sends them.

        Not before that: a middleware may answer with another response, which has these headers and wants to read events.
        """
        if self._gzip and self._untouched and self.headers.get("Content-Encoding") == HEADERS["Content-Encoding"]:
            say_gzip(self)
        return super().items()

    @property
    def streaming_content(self) -> Any:
        """The content, for what a middleware puts around it. That wants events, so it is not compressed any more."""
        self._send_plain()
        return super().streaming_content

    @streaming_content.setter
    def streaming_content(self, value: Any) -> None:
        self._send_plain()
        StreamingHttpResponse.streaming_content.fset(self, value)  # type: ignore[union-attr]

    def _send_plain(self) -> None:
        self._gzip = False
        if self.headers.get("Content-Encoding") == GZIP and self._untouched:
            self.headers["Content-Encoding"] = HEADERS["Content-Encoding"]

    @property
    def _untouched(self) -> bool:
        return self._iterator is self._source  # type: ignore[attr-defined]

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        if self._slim is not None:
            request = self._slim.request
            self._slim.release()
            vars(request).clear()
        if not self._untouched:
            return self._wrapped()
        if self.headers.get("Content-Encoding") == GZIP:  # the client has been told by now
            self._transport.compress()
        if self._transport.sends_fast:
            self.headers = ResponseHeaders({})  # the server has them, and nobody else is left who would look: 1.6 KiB
        return self._source

    async def _wrapped(self) -> AsyncGenerator[bytes, None]:
        """Through whatever a middleware put around the content."""
        self._transport.disable_fast_send()
        content: AsyncIterator[bytes] = self.streaming_content
        try:
            async for part in content:
                yield part
        finally:
            await self._source.aclose()

    def __del__(self) -> None:
        self._transport.discard_unsent()


def say_gzip(response: HttpResponseBase) -> None:
    """Set the headers of a compressed stream. What is not compressed is good for everybody, and so depends on nothing."""
    response.headers["Content-Encoding"] = GZIP
    patch_vary_headers(response, ["Accept-Encoding"])


def head_response() -> HttpResponse:
    """The headers of a stream, for HEAD."""
    return HttpResponse(content_type=CONTENT_TYPE, headers=HEADERS)


def ended_response() -> HttpResponse:
    """204: an ``EventSource`` that comes back after the end stays away for good."""
    response = HttpResponse(status=204, headers={"Cache-Control": HEADERS["Cache-Control"]})
    del response["Content-Type"]  # there is no content
    return response


def overloaded_response(control: bool, reason: str, *, status: int = 503, retry: int = OVERLOADED_RETRY) -> HttpResponse:
    """Come back later. An ``EventSource`` gives up for ever on any status but 200 and 204: it gets a ``retry`` in an event.

    Args:
        control: The client takes control events.
        reason: What it is told.
        status: Where no event can tell it.
        retry: Milliseconds, more or less, after which it should come back.
    """
    retry = jittered(retry)
    if control:
        frame = control_frame(encode_json({"reason": reason}), "sse.overloaded", None, retry)
        return HttpResponse(frame, content_type=CONTENT_TYPE, headers=HEADERS)
    return error_response(status, reason, {"Retry-After": str(max(1, retry // 1000))})


def send_elsewhere(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Have a connection closed after an answer, so that a client or a proxy that keeps it asks another process the next time.

    HTTP/2 has no such header, and its servers say it themselves.
    """
    if getattr(request, "scope", {}).get("http_version", "").startswith("1"):
        response.headers["Connection"] = "close"
    return response


def names_event_stream(request: HttpRequest) -> bool:
    """Whether a request wants control events: a GET whose ``Accept`` names ``text/event-stream``; ``*/*`` does not."""
    return request.method == "GET" and accepts(request, CONTENT_TYPE)


def is_event_stream(response: HttpResponseBase) -> bool:
    """Whether a response is a stream, or the answer to HEAD for one."""
    return response.headers.get("Content-Type") == CONTENT_TYPE


def session_tag(c: Context) -> str:
    """The account, and the session of it, that a request belongs to. Costs no query, and tells nothing but that two are the same.

    The account is the user; all who are not signed in have one. The session is its key, and the ``Authorization`` header. A
    session that is kept in its cookie has no key: what stands for it there is another text after each change.
    """
    session: Any = getattr(c.request, "session", None)
    key = getattr(session, "session_key", None) or ""
    if key and type(session).__module__ == _SIGNED_COOKIES:
        key = ""
    sent = f"{key}\n{c.header('Authorization', '')}"
    account = f"{c._user_label}\n{c.user_pk}\n"
    secret = _key(settings.SECRET_KEY)
    return f"{_digest(secret, account)}.{_digest(secret, account + sent)}"


@lru_cache(maxsize=4)
def _key(secret: str | bytes) -> bytes:
    return hashlib.sha256(b"django_agent_sse.session_tag" + force_bytes(secret)).digest()


def _digest(key: bytes, text: str) -> str:
    return urlsafe_b64encode(hashlib.blake2b(text.encode(errors="surrogatepass"), key=key, digest_size=12).digest()).decode()
