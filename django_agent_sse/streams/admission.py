"""Who gets a stream: what is asked before anybody knows who it is, and how many streams each may have open.

``arrive()`` comes first, before middleware where ``asgi.wrap()`` is used, else before the route's own: how often an address
connects, whether descriptors are left, and how many requests of an address are looked at by guards at a time. ``admit()`` comes
after the guards, and counts what is open by user, session, address, route and process. What it gives out is given back when the
stream is over: when both its client and its handler are.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from .. import conf
from ..runtime import descriptors
from ..runtime.per_loop import PerLoop
from ..runtime.process import PerProcess
from .addresses import client_address
from .client import monitor_options, shown_address
from .context import Context
from .counters import Refusal
from .limits import Limits, limits
from .rates import Rates
from .registry import OpenStream
from .replays import replay_counts
from .response import OVERLOADED_RETRY
from .shared_counts import shared
from .shutdown import watch_end

ELSEWHERE_RETRY = 1_000
"""The same where the process ends: whatever serves next does so now, or in a moment."""
WAIT_SECONDS = 10.0
"""How long a request waits for its turn to be looked at by guards; a client's own patience is mostly 30 s."""
MOST_WAITING = 1_000
"""Requests of one address that wait for it, where ``ADDRESS`` does not say how many streams it may have."""
LOOK_SECONDS = 0.02
"""Seconds between two looks at the descriptors. No process begins as many streams in that time as descriptors are kept."""
IN_SCOPE = "django_agent_sse.arrival"
"""The key in the ASGI scope under which a request's ``Arrival`` is found."""


class Refused(NamedTuple):
    """Why there is no stream.

    Attributes:
        reason: As it is counted.
        message: What the client is told: no name and no address.
        status: Where no control event can tell it: 429 where the client itself has too many, 503 where the process has.
        retry: Milliseconds after which it should come back, more or less.
        user: Who has too many, as operators see it; ``""`` where it is nobody's, or not known.
        address: From where too many come, likewise, as far as ``AGENT_SSE["MONITOR"]`` lets it be seen.
    """

    reason: Refusal
    message: str
    status: int
    retry: int = OVERLOADED_RETRY
    user: str = ""
    address: str = ""


@dataclass(slots=True, eq=False)
class Arrival:
    """A request whose client nobody knows yet.

    Attributes:
        address: What it is counted by; ``None`` where that cannot be known.
        refusal: Why it is not looked at; ``None`` where it is.
    """

    address: str | None
    refusal: Refused | None = None
    _gate: _Gate | None = None

    def known(self) -> None:
        """The guards are through: the next of this address is looked at. More than one call is one."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(self.address or "")


async def arrive(scope: Mapping[str, Any]) -> Arrival:
    """Take a request in, or say why not. Waits for its turn; call ``known()`` when it is through, whatever became of it."""
    arrival: Arrival | None = scope.get(IN_SCOPE)  # of ``asgi.wrap()``
    if arrival is not None:
        return arrival
    watch_end(scope)  # a guard may take longer than the server waits before it closes its socket
    bounds = limits()
    arrival = Arrival(client_address(scope, conf.setting("PROXIES")))
    arrival.refusal = admission.rate_refusal(arrival.address, bounds, begins_none=scope.get("method") == "OPTIONS")
    if arrival.refusal is None and bounds.unknown is not None and arrival.address is not None:
        gate = _gates.here()
        if await gate.enter(arrival.address, bounds):
            arrival._gate = gate
        else:
            arrival.refusal = Refused(
                Refusal.UNKNOWN, "too many requests from your network wait to be looked at", 429, address=_shown(arrival.address)
            )
    return arrival


class _Gate:
    """Lets so many requests of an address in at a time, on one event loop. The others wait, the first to come first."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._lines: defaultdict[str, deque[asyncio.Future[bool]]] = defaultdict(deque)

    async def enter(self, address: str, bounds: Limits) -> bool:
        """Wait for a place; false where none came free in time, or the line is too long."""
        if self._inside[address] < (bounds.unknown or 1):
            self._inside[address] += 1
            return True
        line = self._lines[address]
        if len(line) >= (bounds.address or MOST_WAITING):
            return False
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        line.append(place)
        # Not asyncio.timeout(): it could take a place that was given a moment before, and that nobody would give back.
        timer = loop.call_later(WAIT_SECONDS, _time_over, place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result():
                self.leave(address)
            raise
        finally:
            timer.cancel()
            with contextlib.suppress(ValueError):
                line.remove(place)

    def leave(self, address: str) -> None:
        """Give a place to the next in line."""
        line = self._lines.get(address, ())
        while line:
            place = line.popleft()
            if not place.done():
                place.set_result(True)
                return
        self._lines.pop(address, None)
        self._inside[address] -= 1
        if self._inside[address] <= 0:
            del self._inside[address]


def _time_over(place: asyncio.Future[bool]) -> None:
    if not place.done():
        place.set_result(False)


_gates = PerLoop(lambda loop: _Gate())


@dataclass(slots=True, eq=False)
class Ticket:
    """The places that one stream has; a ``StreamWatch``. ``release()`` gives them back, from any thread, once."""

    _route: str
    _keys: tuple[str, ...]
    _released: bool = False

    def begun(self, stream: OpenStream, context: contextvars.Context) -> None:
        """Nothing is to do."""

    def over(self) -> None:
        self.release()

    def release(self) -> None:
        if not self._released:
            self._released = True
            admission.give_back(self._route, self._keys)


@dataclass(slots=True, kw_only=True)
class Meeting:
    """Who meets a limit, or is near it.

    Attributes:
        limit: Its name, as in ``AGENT_SSE["LIMITS"]``, in small letters.
        of: The user as ``app.model:key``, the address or the route; a session has nothing that may be shown.
        open: Streams that are open in this process; of a session, which cannot be told apart from others, in all.
        most: The limit.
    """

    limit: str
    of: str
    open: int
    most: int


class Admission(PerProcess):
    """The streams that this process has given places to. A lock is taken when a stream is asked for, and when one is over."""

    def reset(self) -> None:
        self._lock = threading.Lock()
        # Of requests that may begin a stream, and of those that never do.
        self._address_rates = Rates(), Rates()
        self._rates = Rates()
        self._routes: Counter[str] = Counter()
        self._open = 0
        self._names: dict[str, str] = {}
        self._look_at = 0.0
        self._no_descriptors = False

    def rate_refusal(self, address: str | None, bounds: Limits, *, begins_none: bool = False) -> Refused | None:
        """Count a connect, or say why it is one too many.

        Args:
            address: Whose.
            bounds: The limits in force.
            begins_none: No stream begins with it, as with a preflight that a browser sends first. It is counted apart, up to the
                same numbers: the one does not take what is there for the other.
        """
        now = time.monotonic()
        with self._lock:
            if address is not None and (rate := bounds.address_connects) is not None:
                wait = self._address_rates[begins_none].take(address, now, rate, max(rate, bounds.address or 0))
                if wait:
                    message = "too many connects from your network; come back later"
                    retry = OVERLOADED_RETRY + int(wait * 1000)
                    return Refused(Refusal.ADDRESS_CONNECTS, message, 429, retry, address=_shown(address))
            if (rate := bounds.connects) is not None and self._rates.take(begins_none, now, rate, 2 * rate):
                return Refused(Refusal.CONNECTS, "too many clients connect at this moment; come back later", 503)
        if bounds.descriptors is not None and self._descriptors_exhausted(bounds.descriptors, now):
            return Refused(Refusal.DESCRIPTORS, "this server has too many connections; come back later", 503)
        return None

    def _descriptors_exhausted(self, share_kept: float, now: float) -> bool:
        if now >= self._look_at:  # a look costs as much as all else that is asked here
            self._look_at = now + LOOK_SECONDS
            self._no_descriptors = descriptors.exhausted(share_kept)
        return self._no_descriptors

    async def admit(self, c: Context, arrival: Arrival, most: int | None, *, for_operators: bool = False) -> Ticket | Refused:
        """Give a stream its places, or say which it cannot have.

        Args:
            c: Its request, after the guards.
            arrival: Likewise.
            most: How many streams of this route a process may have, where the route says so itself.
            for_operators: It is one of those by which somebody sees to the project: the process's own limits let it through.
        """
        bounds = limits()
        per_route = bounds.route if most is None else most
        with self._lock:
            if not for_operators and bounds.process is not None and self._open >= bounds.process:
                return Refused(Refusal.PROCESS, "this server has as many streams as it can take; come back later", 503)
            if not for_operators and per_route is not None and self._routes[c.route] >= per_route:
                return Refused(Refusal.ROUTE, "this stream has as many readers as it can take; come back later", 503)
            self._open += 1
            self._routes[c.route] += 1
        ticket = Ticket(c.route, ())
        try:
            for refusal, message, name, limit in _personal(c, arrival, bounds):
                kind = refusal.removeprefix("limit_")
                key = await shared.take(kind, blake2b(name.encode(errors="surrogatepass"), digest_size=12).hexdigest(), limit)
                if key is None:
                    ticket.release()
                    if refusal is Refusal.ADDRESS:
                        return Refused(refusal, message, 429, address=_shown(name))
                    return Refused(refusal, message, 429, user=c._user_shown)
                ticket._keys += (key,)
                self._names[key] = "" if refusal is Refusal.SESSION else name
        except BaseException:
            ticket.release()
            raise
        return ticket

    def give_back(self, route: str, keys: tuple[str, ...]) -> None:
        for key in keys:
            if not shared.give_back(key):
                self._names.pop(key, None)
        with self._lock:
            self._open -= 1
            self._routes[route] -= 1
            if not self._routes[route]:
                del self._routes[route]

    def meetings(self, count: int = 20, share: float = 0.5) -> list[Meeting]:
        """Return who meets the limits: those that have the most of what they may have, if that is at least this share."""
        bounds = limits()
        found = [Meeting(limit="process", of="", open=self._open, most=bounds.process)] if bounds.process else []
        if bounds.route:
            found += [Meeting(limit="route", of=route, open=n, most=bounds.route) for route, n in [*self._routes.items()]]
        used, own = [one.open / one.most for one in found], shared.own_counts()
        for key, n in shared.counts().items():
            kind = key.partition(":")[0]
            if most := getattr(bounds, kind):
                here = n if kind == "session" else own.get(key, n)  # who adds up those of all processes counts nobody twice
                found.append(Meeting(limit=kind, of=self._names.get(key, ""), open=here, most=most))
                used.append(n / most)
        near = sorted(zip(used, found, strict=True), key=lambda pair: pair[0], reverse=True)
        return [one for used_of, one in near[:count] if used_of >= share]

    def used(self) -> dict[str, float]:
        """Return, by the names of limits, the most that anybody has of one at this moment, as a share of it."""
        bounds, most = limits(), Counter[str]()
        for key, count in shared.counts().items():
            kind = key.partition(":")[0]
            most[kind] = max(most[kind], count)
        most |= Counter(process=self._open, route=max([*self._routes.values()], default=0))
        most |= Counter(replays=replay_counts()[0])
        shares = {kind: count / limit for kind, count in most.items() if (limit := getattr(bounds, kind))}
        if bounds.descriptors is not None and (limit := descriptors.limit()) is not None:
            shares["descriptors"] = self._open / (limit - descriptors.kept(limit, bounds.descriptors))
        return {kind: round(share, 3) for kind, share in sorted(shares.items())}

    @property
    def open(self) -> int:
        """Streams that have places."""
        return self._open


def _shown(address: str) -> str:
    return shown_address(address, monitor_options())


_TOO_MANY = "you have too many streams open; close one, or come back later"


def _personal(c: Context, arrival: Arrival, bounds: Limits) -> list[tuple[Refusal, str, str, int]]:
    """Return what a request is counted by, of that which is its client's own."""
    found = []
    if bounds.user is not None and (user := c.user_pk) is not None:
        found.append((Refusal.USER, _TOO_MANY, f"{c._user_label}:{user}", bounds.user))
    session = getattr(getattr(c.request, "session", None), "session_key", None)
    if bounds.session is not None and session:
        found.append((Refusal.SESSION, _TOO_MANY, session, bounds.session))
    if bounds.address is not None and arrival.address is not None:
        message = "too many streams are open from your network; come back later"
        found.append((Refusal.ADDRESS, message, arrival.address, bounds.address))
    return found


admission = Admission()
