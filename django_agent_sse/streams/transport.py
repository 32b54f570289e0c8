"""The way out to one client: pours the buffer into the response, and sees when the client is silent, slow or gone."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import django
from django.core.exceptions import RequestAborted

from .departures import KERNEL_BYTES
from .endings import Ending
from .fast_send import Rest, offered_send, send_now
from .sockets import addresses_of

if TYPE_CHECKING:
    from .supervisor import Runner

IN_SERVERS_TASK = django.VERSION >= (6, 1)
"""Whether Django's handler runs the stream in the server's own task. Before 6.1 it had one of its own, which swallows a cancel
in ``send()``, and which a cancel of the server's task leaves behind."""
_UNFINISHED: type[BaseException] = RequestAborted if IN_SERVERS_TASK else asyncio.CancelledError
"""What makes Django return without the end of the body, in silence, as when the client has left."""
STUCK_SECONDS = 1.0
"""How long a send that waits for the client may hold up an end that somebody asked for."""
RESET_SECONDS = 0.5
"""How long a server gets to see that a connection was reset under it."""
OPENING_INTERVAL = 0.25
"""Seconds between two looks whether a response that was made is being sent."""
ALMOST = 0.9
"""A heartbeat goes out when this share of its interval has passed in silence: the clock visits only now and then."""


class Transport:
    """One client's connection, as far as a Django response can know it. Belongs to one event loop.

    Attributes:
        opened: When the response began to be sent (loop time), or ``None``.
        gone: The transport is over.
        slot: Where the loop's clock will come by.
    """

    __slots__ = (
        "_addresses",
        "_breaking",
        "_cancelled",
        "_hurry",
        "_last_sent",
        "_pouring",
        "_rest",
        "_runner",
        "_send",
        "_sending_since",
        "_waiters",
        "gone",
        "opened",
        "slot",
    )

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._send = offered_send(runner.context.request)
        self._addresses = addresses_of(getattr(runner.context.request, "scope", {}))
        self._rest: Rest | None = None
        self._pouring: asyncio.Task[Any] | None = None
        self._sending_since: float | None = None
        self._last_sent = 0.0
        self._waiters: tuple[asyncio.Future[bool], ...] = ()
        self._breaking = self._cancelled = False
        self._hurry: asyncio.TimerHandle | None = None
        self.opened: float | None = None
        self.gone = False
        self.slot: float | None = None

    async def pour(self) -> AsyncGenerator[bytes, None]:
        """The response's content: whatever is ready, joined, until the end. Closing it means that the client has left."""
        runner, buffer, loop = self._runner, self._runner.buffer, self._runner.here.loop
        self.opened = self._last_sent = loop.time()
        self._pouring = asyncio.current_task()
        runner.here.watch(self, runner.options.visit_interval)
        runner.transport_opened()
        if self._send is not None:
            buffer.push = self._push
        try:
            while True:
                if chunk := buffer.take():
                    self._sending_since = now = loop.time()
                    yield chunk
                    self._sending_since = None
                    self._last_sent = now
                elif buffer.finished:
                    break
                else:
                    await buffer.wait()
                    if self._rest is not None:
                        await self._finish_send(self._rest)
            await runner.settle()
            if runner.breaks_off:
                raise _UNFINISHED
        finally:
            self._sending_since = None
            self.over()
            await runner.settle()
            if self._cancelled and IN_SERVERS_TASK and (task := asyncio.current_task()):
                # Django takes this for the client's disconnect; the CancelledError of our own would look like a crash. Before
                # 6.1 it is the other way round.
                task.uncancel()
                raise _UNFINISHED

    def through_others(self) -> None:
        """Somebody else has the content go through their hands: everything must."""
        self._send = None

    def _push(self, chunk: bytes) -> bool:
        """Send past the task; whether that is done, or else the task is needed."""
        assert self._send is not None
        try:
            self._rest = send_now(self._send, chunk)
        except Exception:  # a server may say in this way that the client has left; Django's own last send() will hear it too
            self.over()
            return True
        self._last_sent = self._runner.here.loop.time()
        return self._rest is None

    async def _finish_send(self, rest: Rest) -> None:
        self._sending_since = self._last_sent
        await rest
        self._sending_since = self._rest = None

    def over(self) -> None:
        """The client is gone, or has everything."""
        if self.gone:
            return
        self.gone = True
        self._pouring = None
        if self._rest is not None:
            self._rest.close()
        runner = self._runner
        runner.end(Ending.CLIENT_DISCONNECT)
        runner.discard()
        self._depart()
        runner.here.unwatch(self)
        if self._hurry is not None:
            self._hurry.cancel()
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    def _depart(self) -> None:
        """Have the connection looked after: Django and the server are not done with it yet."""
        runner = self._runner
        if self._addresses is None or self.opened is None or runner.ending is Ending.CLIENT_DISCONNECT:
            return
        if not self._breaking and (runner.breaks_off or runner.buffer.bytes > KERNEL_BYTES):
            patience = runner.options.send_timeout or math.inf
            runner.here.departures.add(self._addresses, patience, unfinished=runner.breaks_off)

    def await_opening(self) -> None:
        """Look whether the response is sent at all: a client that leaves while a middleware has it leaves it to the collector."""
        if self.opened is not None or self.gone:
            return
        if self._runner.threads.request_is_over:
            self.over()
        else:
            self._runner.here.loop.call_later(OPENING_INTERVAL, self.await_opening, context=contextvars.Context())

    def abandon(self) -> None:
        """The response was dropped before it was sent. From any thread."""
        loop = self._runner.here.loop
        if self.opened is None and not self.gone and not loop.is_closed():
            loop.call_soon_threadsafe(self.over)

    @property
    def sending_since(self) -> float | None:
        """Since when a send waits for the client (loop time), or ``None``."""
        return self._sending_since

    @property
    def last_sent(self) -> float:
        """When something was sent last (loop time)."""
        return self._last_sent

    def wait_gone(self) -> asyncio.Future[bool]:
        """A future of the caller's own, done when the transport is over."""
        if self.gone:
            return self._runner.here.sent
        waiter: asyncio.Future[bool] = self._runner.here.loop.create_future()
        self._waiters += (waiter,)
        return waiter

    def break_send(self) -> None:
        """Give up on a send that waits for the client. Nothing waits, nothing happens."""
        if self._pouring is not None and self._sending_since is not None and not self._breaking:
            self._breaking = True
            if self._addresses is None:
                self._cancel_send()
                return
            # The server sees that and ends its own send(), as when the client leaves. A cancel beside it would meet Django's own.
            self._runner.here.departures.reset(self._addresses)
            self._runner.here.loop.call_later(RESET_SECONDS, self._cancel_send, context=contextvars.Context())

    def _cancel_send(self) -> None:
        if self._pouring is not None and self._sending_since is not None:
            self._cancelled = True
            self._pouring.cancel()

    def limit(self) -> None:
        """Have the kernel give up on a client that takes nothing more, also when the server has closed the connection."""
        if not self.gone and self._addresses is not None:
            self._runner.here.departures.limit(self._addresses)

    def hurry(self) -> None:
        """Give up on the client if it has not taken the rest within ``STUCK_SECONDS``."""
        if not self.gone:
            self._hurry = self._runner.here.loop.call_later(STUCK_SECONDS, self.break_send)

    def visit(self, now: float) -> float | None:
        """Heartbeat, send time-out and maximum duration: what the clock looks for."""
        options = self._runner.options
        assert self.opened is not None
        due = []
        if options.max_duration:
            if now >= self.opened + options.max_duration:
                self._runner.end(Ending.MAX_DURATION)
            else:
                due.append(self.opened + options.max_duration)
        if options.send_timeout:
            due.append(self._check_send(now, options.send_timeout))
        if options.heartbeat:
            silent = now - self._last_sent
            if silent >= options.heartbeat * ALMOST and self._sending_since is None:
                self._runner.buffer.beat()
                silent = 0
            due.append(now + max(options.heartbeat - silent, options.heartbeat / 10))
        return None if self.gone else min(due, default=None)

    def _check_send(self, now: float, timeout: float) -> float:
        if self._sending_since is None:
            return now + timeout
        if now - self._sending_since < timeout:
            return self._sending_since + timeout
        self._runner.end(Ending.SLOW_CLIENT)
        self.break_send()
        return now + timeout
