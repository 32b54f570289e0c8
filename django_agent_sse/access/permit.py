"""One stream as access knows it: whose it is, and what is asked about it."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from ..guards import Guard, run_guards
from ..runtime.backoff import jittered
from ..streams.callbacks import contained, ends_process
from ..streams.context import Context
from ..streams.endings import Ending
from ..streams.registry import OpenStream
from ..streams.topic_access import can_follow, may_follow
from .identity import Identity, session_text, user_text
from .kept_request import KeptRequest, another, give
from .loading import Found

ASK_SECONDS = 30.0
"""How long guards may take when they are asked again; then it counts as a failure. They may wait for a thread, as others do."""
RETURN_MS = 3000
"""Milliseconds, more or less, after which the client of a stream that was revoked may come back, to be told by the guards."""


class Permit:
    """What was asked about a stream when it began, so that it can be asked again. Belongs to one event loop.

    Attributes:
        stream: The stream.
        identity: Whose request it was before a guard set another user.
        interval: Seconds after which the guards are asked again; ``None``: never.
        asked: When they were asked last (monotonic).
        failures: How often in a row that could not be done.
        waits: The next try has its time: what fails sooner is not counted.
        asking: It is being done.
        again: And must be done once more: something has changed meanwhile.
        ordered: It was asked for by an order, and has not been done since.
        user: Whose the stream is, as ``user_text`` has it.
    """

    __slots__ = ("__weakref__", "_c", "_context", "_guards", "_kept", "_others", "_session", "again", "asked", "asking",
                 "failures", "identity", "interval", "ordered", "stream", "user", "waits", "was_active")  # fmt: skip

    stream: OpenStream

    def __init__(self, c: Context, guards: Sequence[Guard], identity: Identity, interval: float | None, asked: float) -> None:
        self._c = c
        self._guards = guards
        self._kept: KeptRequest | None = None
        self._session: str | None = None
        self._context: contextvars.Context
        self.identity = identity
        self.interval = interval
        self.asked = asked
        self.failures = 0
        self.asking = self.again = self.waits = self.ordered = False
        user: Any = c.user
        self.user = user_text(user)
        self._others = (*(identity.users - {self.user}),)  # of nearly all streams empty
        self.was_active = bool(getattr(user, "is_active", True))

    def begin(self, stream: OpenStream, context: contextvars.Context) -> None:
        """The stream is there; ``context`` is its handler's."""
        self.stream, self._context = stream, context
        if self.asks:
            self._c._on_release = self._keep

    def end(self) -> None:
        """The stream is over."""
        self._c._on_release = None  # each knows the other

    def _keep(self, request: HttpRequest) -> None:
        self._kept = KeptRequest.of(request)

    # As orders see it

    @property
    def users(self) -> tuple[str, ...]:
        """Whose it is; and whose request it was before a guard set another user, and who acts as that one."""
        return (self.user, *self._others)

    @property
    def session(self) -> str:
        if self._session is None:
            self._session = session_text(self.identity.session_key)
        return self._session

    @property
    def route(self) -> str:
        return self._c.route

    @property
    def topics(self) -> Iterable[str]:
        """What it follows, and what its handler has asked about and reads in its own way."""
        return (*self.stream.topics, *self._c._topics)

    @property
    def asks(self) -> bool:
        """Whether there is anything to ask: nobody's stream on a route without guards is anybody's."""
        return bool(self._guards or self.user or self._c._asks) or can_follow() is not None

    # Asking

    def context(self, found: Found) -> tuple[Context, contextvars.Context]:
        """Return the context for the guards, by whoever that is now, and that of variables, which is the handler's own."""
        request = self._kept.made() if self._kept is not None else another(self._c.request)
        session = found.another_session()
        return self._c._asked_again(give(request, session, found.user), found.user), self._context.copy()

    async def allowed(self, c: Context) -> bool:
        """Whether the stream may go on.

        Raises:
            Exception: What a guard raised, or ``TimeoutError``.
        """
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                if await run_guards((*self._guards, *self._c._asks), c) is not None:
                    return False
                if self.user and not self._is_same(c.user):
                    return False
                topics = dict.fromkeys(self.topics)
                return not topics or await may_follow(c, topics)
        except (PermissionDenied, Http404):
            return False
        except (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError) as error:
            if ends_process(error, task) or (
                isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
            ):
                raise
            raise contained(error, f"a guard of {self.route}") from error

    def _is_same(self, user: Any) -> bool:
        """Whether the user is the one who has opened the stream, and still active: its handler runs as that one."""
        return user_text(user) == self.user and (not self.was_active or bool(getattr(user, "is_active", True)))

    def revoke(self) -> None:
        self.stream.end(Ending.REVOKED, retry=jittered(RETURN_MS))

    @property
    def age(self) -> float:
        """Seconds since the guards were asked last."""
        return time.monotonic() - self.asked
