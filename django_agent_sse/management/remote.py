"""The event stream of any server, followed over HTTP as a browser's ``EventSource`` does."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from django.core.management.base import CommandError

from ..exceptions import InvalidEvent
from ..runtime.backoff import Backoff
from ..runtime.safe_text import printable
from ..wire.decoder import Decoder
from ..wire.event import Event
from .connecting import SHORT, Answer, get, split_user
from .output import Received

RETRY = 3.0
"""Seconds before the next connection, where the server asks for no other time."""
LAST_RETRY = 60.0
"""Seconds that this grows to, doubled for each connection in a row that brought nothing."""
STREAM = "text/event-stream"
HEADERS = {"Accept": STREAM, "Accept-Encoding": "identity", "Cache-Control": "no-store"}
LONGEST_WAIT = 86_400.0
"""Seconds that a server can make us wait."""
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_MEANING = {
    400: "the server does not understand the request",
    401: "the server wants to know who asks: give -H 'Authorization: Bearer …' or --cookie 'sessionid=…'",
    403: "who asks may not read this stream",
    404: "there is no such address on the server",
    405: "the server does not take GET there: it is no event stream",
    406: "the server has no event stream there",
    410: "the server no longer has what follows the position that was asked for: begin without --after",
}


class RemoteTail:
    """A stream, followed over as many connections as it takes.

    Args:
        url: Where it is.
        headers: What to send besides those of every ``EventSource``, to the server at ``url`` and to nobody whom it redirects to.
        last_event_id: Where to begin; ``""`` lets the server decide.
        tell: Called with a sentence about what goes on.
        pause: Called with seconds to wait.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        last_event_id: str = "",
        tell: Callable[[str], object],
        pause: Callable[[float], object],
    ) -> None:
        self._url, user = split_user(url)
        has_user = any(name.lower() == "authorization" for name in headers)
        self._given = _latin({**({} if has_user else user), **headers})
        self._tell = tell
        self._pause = pause
        self._decoder = Decoder()
        self._decoder.last_event_id = last_event_id
        self._backoff = Backoff(RETRY, LAST_RETRY, jitter=0.25)
        self._connected = False
        self._ended = False

    def batches(self, *, follow: bool = True) -> Iterator[list[Received]]:
        """The events, those that come together in one list, to the stream's end.

        Raises:
            CommandError: There is no such stream for us, or none at all.
        """
        while True:
            answer, wait = self._connect()
            if answer is not None:
                begun = time.monotonic()
                try:
                    yield from self._events(answer)
                finally:
                    answer.close()
                if time.monotonic() - begun > LAST_RETRY:
                    self._backoff.reset()
                if self._ended or not follow:
                    return
            elif wait is None:
                return
            self._again(wait or 0.0)

    def _again(self, at_least: float) -> None:
        asked = self._decoder.retry
        seconds = self._backoff.next(asked / 1000 if asked is not None else None, at_least)
        position = f" after {self._decoder.last_event_id}" if self._decoder.last_event_id else ""
        self._tell(f"not connected; trying again in {seconds:.1f} s{position}")
        self._pause(seconds)

    def _connect(self) -> tuple[Answer | None, float | None]:
        """A stream; or how long the server wants to be left alone; or neither, which is its end."""
        last = self._decoder.last_event_id
        headers = {**HEADERS, **({"Last-Event-ID": last} if last else {})}
        try:
            answer = get(self._url, _latin(headers), self._given, self._tell)
        except ssl.SSLCertVerificationError as error:
            raise CommandError(f"the certificate of {self._url} is not trusted: {printable(error.verify_message)}") from error
        except (OSError, http.client.HTTPException) as error:
            if not self._connected:
                raise CommandError(f"{self._url} cannot be reached: {_why(error)}. Is the server running?") from error
            self._tell(f"{self._url} cannot be reached: {_why(error)}")
            return None, 0.0
        try:
            wait = self._judged(answer)
        except CommandError:
            answer.close()
            raise
        if wait is None and answer.status == 200:
            self._connected = True
            return answer, None
        answer.close()
        return None, wait

    def _judged(self, answer: Answer) -> float | None:
        """How long to wait before the next try, where this answer is none and there is to be one."""
        status = answer.status
        if status == 204:
            self._tell("the server says that nothing will follow (204)")
            return None
        if status in _TRY_AGAIN:
            self._tell(f"the server cannot answer now ({answer.said})")
            return _retry_after(answer.headers.get("Retry-After"))
        if status != 200:
            said = _MEANING.get(status, "the server refuses")
            raise CommandError(f"{answer.said}: {said}. ({printable(answer.url)})")
        kind = printable(answer.headers.get_content_type(), SHORT)
        if kind != STREAM:
            begins = answer.start().strip()[:SHORT]
            raise CommandError(
                f"{printable(answer.url)} is no event stream: it answers with {kind}, which begins with {begins!r}"
            )
        return None

    def _events(self, answer: Answer) -> Iterator[list[Received]]:
        try:
            for chunk in answer.chunks(self._pause):
                events = self._decoder.feed(chunk)
                came = [received for event in events if (received := self._received(event)) is not None]
                if came:
                    self._backoff.reset()
                    yield came
                if self._ended:
                    return
            self._decoder.finish()
        except InvalidEvent as error:
            raise CommandError(str(error)) from error

    def _received(self, event: Event) -> Received | None:
        """What is to be printed of an event; those of the protocol are told."""
        if event.event is not None and event.event.startswith("sse."):
            self._control(event.event, event.data)
            return None
        last = event.id if event.id is not None else self._decoder.last_event_id
        return Received(id=last, event=event, at=time.time())

    def _control(self, name: str, data: str) -> None:
        told = _object(data)
        reason = printable(told.get("reason", ""))
        if name == "sse.end":
            self._ended = True
            closed = f" ({printable(told['closed'])})" if "closed" in told else ""
            self._tell(f"the stream is over: {reason}{closed}")
        elif name == "sse.gap":
            missed = told.get("missed")
            lost = f"; {missed:,} events are missing" if isinstance(missed, int) else ""
            self._tell(f"here is a gap ({reason}){lost}")
        elif name == "sse.error":
            self._tell(f"the server failed: {printable(told.get('message', data))}")
        elif name == "sse.overloaded":
            self._tell("the server is overloaded")


def _object(data: str) -> dict[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _latin(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with UTF-8 where HTTP's own Latin-1 does not reach, as browsers send ids."""
    return {name: value.encode().decode("latin-1") for name, value in headers.items()}


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its host is not known"
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _retry_after(value: str | None) -> float:
    """Seconds, of a number or of a date; a day at most."""
    text = (value or "").strip()
    try:
        if text.isascii() and text.isdigit():
            return min(float(text), LONGEST_WAIT)
        return min(max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()), LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
