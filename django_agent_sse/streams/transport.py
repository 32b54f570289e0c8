"""The way out to one client: moves the buffer into the response, and sees when the client is silent, slow or gone."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from collections.abc import AsyncGenerator
from dataclasses import InitVar, dataclass
from typing import Any, Protocol

import django
from django.core.exceptions import RequestAborted
from django.http import HttpRequest

from ..wire.gzip import GzipEncoder
from . import sockets
from .buffer import Buffer
from .departures import KERNEL_BYTES
from .endings import Ending
from .fast_send import PendingSend, Send, get_send, send_now
from .options import StreamOptions
from .registry import SLOW_SECONDS, LoopState, State, StreamStats
from .slow_clients import SlowClient, first_look, next_look
from .sockets import Addresses, addresses_of
from .vanished import patience

IN_SERVERS_TASK = django.VERSION >= (6, 1)
"""Whether Django's handler runs the stream in the server's own task. Before 6.1 it had one of its own, which swallows a cancel
in ``send()``, and which a cancel of the server's task leaves behind."""
UNFINISHED: type[BaseException] = RequestAborted if IN_SERVERS_TASK else asyncio.CancelledError
"""What makes Django return without the end of the body, in silence, as when the client has left."""
STUCK_SECONDS = 1.0
"""How long a send that waits for the client may hold up an end that somebody asked for."""
RESET_SECONDS = 0.5
"""How long a server gets to see that a connection was reset under it."""
SHORTEST = 0.8
"""The share of ``max_duration`` after which a stream ends at the earliest, each at a time of its own: as many as came together,
after a deploy, would else come back together for ever. Mercure draws its ``write_timeout`` from the same range."""
OPENING_INTERVAL = 0.25
"""Seconds between two looks whether a response that was made is being sent."""
ALMOST = 0.9
"""A heartbeat goes out when this share of its interval has passed in silence: the clock ticks only now and then."""


class RequestThreads(Protocol):
    """What knows whether the request, which has been answered, is over."""

    @property
    def request_is_over(self) -> bool: ...


class TransportCallbacks(Protocol):
    """Whom a transport tells what it sees. One object, as bound methods would cost each connection 300 bytes."""

    def transport_opened(self) -> None: ...  # the response is being sent
    def transport_closed(self) -> None: ...  # the client is gone, or has everything
    def send_timed_out(self) -> None: ...  # a send has waited for the client for ``send_timeout``
    def end(self, ending: Ending) -> object: ...  # it must end, as after ``max_duration``
    async def settle(self) -> bool: ...  # what must be over first is; whether the response must be broken off
    async def conclude(self) -> None: ...  # and what is run after the transport, where the process ends


class Nobody:
    """Whom a transport tells that is over, and need not keep its stream in memory."""

    def transport_opened(self) -> None:
        pass

    def transport_closed(self) -> None:
        pass

    def send_timed_out(self) -> None:
        pass

    def end(self, ending: Ending) -> None:
        pass

    async def settle(self) -> bool:
        return False

    async def conclude(self) -> None:
        pass


NOBODY = Nobody()


@dataclass(slots=True, eq=False, repr=False)
class Transport:
    """One client's connection, as far as a Django response can know it. Belongs to one event loop.

    Attributes:
        opened: When the response began to be sent (loop time), or ``None``.
        closed: The transport is over, or there will be no response: the request is answered in another way.
        due_slot: When the loop's clock will look at it.
        descriptor: The connection's, where it is known.
    """

    request: InitVar[HttpRequest]
    _callbacks: TransportCallbacks
    _buffer: Buffer
    _loop_state: LoopState
    _options: StreamOptions
    opened: float | None = None
    closed: bool = False
    due_slot: float | None = None
    descriptor: int | None = None
    _expires: float | None = None
    _send: Send | None = None
    _addresses: Addresses | None = None
    _pending_send: PendingSend | None = None
    _task: asyncio.Task[Any] | None = None
    _sending_since: float | None = None
    _slow_client: SlowClient | None = None
    _last_sent: float = 0.0
    _waiters: tuple[asyncio.Future[bool], ...] = ()
    _breaking: bool = False
    _cancelled: bool = False
    _drain: asyncio.TimerHandle | asyncio.Task[None] | None = None

    def __post_init__(self, request: HttpRequest) -> None:
        self._send = get_send(request)
        self._addresses = addresses_of(getattr(request, "scope", {}))

    async def iter_body(self) -> AsyncGenerator[bytes, None]:
        """Yield the response's content: whatever is ready, joined, until the end. Closing it means that the client has left."""
        buffer, loop, given_up = self._buffer, self._loop_state.loop, self.closed
        self.opened = self._last_sent = loop.time()
        self._task = asyncio.current_task()
        if self._options.max_duration:
            self._expires = self.opened + self._options.max_duration * random.uniform(SHORTEST, 1)
        self._loop_state.watch(self, self._options.visit_interval)
        if self._addresses is not None and self._options.send_timeout:
            self._loop_state.vanished.watch(self, self._addresses, self._options.send_timeout)
        self._callbacks.transport_opened()
        if self._send is not None:
            # Not before: until the response has begun, the server takes no part of a body.
            buffer.push = self._push
        try:
            while True:
                if chunk := buffer.take():
                    self._sending_since = now = loop.time()
                    yield chunk
                    self._sending_since = None
                    self._last_sent = now
                elif buffer.finished:  # asked last: what was put before the end is still taken
                    break
                else:
                    await buffer.wait()
                    if self._pending_send is not None:
                        self._sending_since = self._last_sent
                        await self._pending_send
                        self._sending_since = self._pending_send = None
            if await self._callbacks.settle() or given_up:  # somebody has closed the response, and sends it all the same
                raise UNFINISHED
            if end := buffer.take_end():
                self._sending_since = loop.time()
                yield end
        finally:
            self._sending_since = None
            self.mark_closed()
            await self._callbacks.settle()  # where the client has left: its request ends after the handler's cleanup
            await self._callbacks.conclude()
            self._callbacks = NOBODY
            if self._cancelled and IN_SERVERS_TASK and (task := asyncio.current_task()):
                # Django takes this for the client's disconnect; the CancelledError of our own would look like a crash. Before
                # 6.1 it is the other way round.
                task.uncancel()
                raise UNFINISHED

    def expect_opening(self, request: RequestThreads) -> None:
        """Look from time to time whether the response is sent at all; a client that leaves while a middleware has it leaves it to
        the collector."""
        self._loop_state.loop.call_later(OPENING_INTERVAL, self._look_for_opening, request, context=contextvars.Context())

    def _look_for_opening(self, request: RequestThreads) -> None:
        if self.opened is not None or self.closed:
            return
        if request.request_is_over:
            self.mark_closed()
        else:
            self.expect_opening(request)

    @property
    def sends_fast(self) -> bool:
        """Whether a server's own ``send()`` is known, as inside ``asgi.wrap()``."""
        return self._send is not None

    def compress(self) -> None:
        """Send the content as gzip; called before anything of it is sent."""
        self._buffer.gzip = GzipEncoder()

    def disable_fast_send(self) -> None:
        """Send nothing past the response: somebody has put the content through a generator of their own."""
        self._send = None

    def _push(self, chunk: bytes) -> bool:
        """Send past the task; whether that is done, or else the task is needed."""
        assert self._send is not None
        try:
            self._pending_send = send_now(self._send, chunk)
        except Exception:  # a server may say in this way that the client has left; Django's own last send() will hear it too
            self.mark_closed()
            return True
        self._last_sent = self._loop_state.loop.time()
        return self._pending_send is None

    def never_open(self) -> None:
        """The request is answered in another way."""
        self.closed, self._callbacks = True, NOBODY

    def mark_closed(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._task = None
        if self._pending_send is not None:
            self._pending_send.close()
        self._callbacks.transport_closed()
        if self.opened is None:  # never sent; where it is sent all the same, it is broken off
            self._callbacks = NOBODY
        self._loop_state.unwatch(self)
        if self._addresses is not None:
            self._loop_state.vanished.unwatch(self._addresses)
        if self._drain is not None:
            self._drain.cancel()
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    def watch_departure(self, *, unfinished: bool) -> None:
        """Have the connection looked after: Django and the server are not done with it yet."""
        if self._addresses is None or self._breaking:
            return
        if unfinished or self._buffer.sent_bytes > KERNEL_BYTES:
            patience = self._options.send_timeout or math.inf
            self._loop_state.departures.add(self._addresses, patience, unfinished=unfinished)

    def discard_unsent(self) -> None:
        """The response was dropped before it was sent. From any thread."""
        loop = self._loop_state.loop
        if self.opened is None and not self.closed and not loop.is_closed():
            loop.call_soon_threadsafe(self.mark_closed)

    def stats(self, now: float, ending: Ending | None, behind: int) -> StreamStats:
        """Return the numbers of the stream, with those events that are not yet pulled (``behind``). From any thread."""
        buffer, since = self._buffer, self._taken_nothing_since
        lag = behind + buffer.waiting
        if self.closed:
            state = State.LINGERING
        elif self.opened is None:
            state = State.STARTING
        elif ending is not None:
            state = State.CLOSING
        elif since is not None and now - since >= SLOW_SECONDS:
            state = State.SLOW
        else:
            state = State.REPLAYING if lag else State.LIVE
        return StreamStats(state, buffer.events, buffer.sent_bytes, self.opened, self._last_sent, lag, buffer.size, since)

    @property
    def seconds_open(self) -> float:
        return 0.0 if self.opened is None else self._loop_state.loop.time() - self.opened

    def wait_closed(self) -> asyncio.Future[bool]:
        """Return a future of the caller's own, done when the transport is over."""
        if self.closed:
            return self._loop_state.sent
        waiter: asyncio.Future[bool] = self._loop_state.loop.create_future()
        self._waiters += (waiter,)
        return waiter

    def break_send(self) -> None:
        """Give up on a send that waits for the client. Nothing waits, nothing happens."""
        if self._task is not None and self._sending_since is not None and not self._breaking:
            self._breaking = True
            if self._addresses is None:
                self._cancel_send()
                return
            if self._loop_state.departures.is_closing():
                self._drain = self._loop_state.loop.create_task(
                    self._conclude_and_reset(self._addresses), context=contextvars.Context()
                )
            else:
                self._reset(self._addresses)

    async def _conclude_and_reset(self, addresses: Addresses) -> None:
        """A server that hears of its end from the loop stops that loop, whatever runs there, with its last connection."""
        self._callbacks.transport_closed()
        await self._callbacks.conclude()
        self._reset(addresses)

    def _reset(self, addresses: Addresses) -> None:
        # The server sees that and ends its own send(), as when the client leaves. A cancel beside it would meet Django's own.
        self._loop_state.departures.reset(addresses)
        self._loop_state.loop.call_later(RESET_SECONDS, self._cancel_send, context=contextvars.Context())

    def _cancel_send(self) -> None:
        if self._task is not None and self._sending_since is not None:
            self._cancelled = True
            self._task.cancel()

    def limit_client(self) -> None:
        """Have the kernel give up on a client that takes nothing more, also when the server has closed the connection."""
        if not self.closed and self._addresses is not None:
            self._loop_state.vanished.unwatch(self._addresses)
            self._loop_state.departures.limit(self._addresses)

    def set_drain_deadline(self) -> None:
        """Give up on the client if it has not taken the rest within ``STUCK_SECONDS``."""
        if not self.closed:
            self._drain = self._loop_state.loop.call_later(STUCK_SECONDS, self.break_send)

    def tick(self, now: float) -> float | None:
        """Do what the clock is there for: heartbeat, send time-out and maximum duration. Return when to come again."""
        options = self._options
        assert self.opened is not None
        due = []
        if self._expires is not None:
            if now >= self._expires:
                self._callbacks.end(Ending.MAX_DURATION)
            else:
                due.append(self._expires)
        if options.send_timeout:
            due.append(self._check_send(now, options.send_timeout))
        if options.heartbeat:
            silent = now - self._last_sent
            if silent >= options.heartbeat * ALMOST and self._sending_since is None:
                self._buffer.request_heartbeat()
                silent = 0
            due.append(now + max(options.heartbeat - silent, options.heartbeat / 10))
        return None if self.closed else min(due, default=None)

    def _check_send(self, now: float, timeout: float) -> float:
        self._look_at_client(now, timeout)
        since = self._taken_nothing_since
        if since is None:
            return now + first_look(timeout)
        if now - since < timeout:
            return min(since + timeout, next_look(now, timeout))
        self._callbacks.send_timed_out()
        return now + timeout

    def _look_at_client(self, now: float, timeout: float) -> None:
        """See what the client takes while a send waits for it, and after that until it has everything, where the kernel tells."""
        client, began = self._slow_client, self._sending_since
        if self._addresses is None or self.descriptor is None or (began is None and client is None):
            return
        if began is None and not sockets.unsent(self.descriptor, self._addresses):
            self._slow_client = None
            sockets.limit(self.descriptor, self._addresses, seconds=patience(timeout))
            return
        acknowledged = sockets.acknowledged(self.descriptor, self._addresses)
        if acknowledged is None:
            return
        if client is None:
            assert began is not None
            client = self._slow_client = SlowClient(began)
        if client.look(client.began if began is None else began, acknowledged, now):
            # The kernel may count on though the client's window opens from time to time, but never wide (seen with Linux 6.18).
            sockets.limit(self.descriptor, self._addresses, seconds=now - client.first + patience(timeout))

    @property
    def _taken_nothing_since(self) -> float | None:
        began, client = self._sending_since, self._slow_client
        return client.since if client is not None and client.began == began else began
