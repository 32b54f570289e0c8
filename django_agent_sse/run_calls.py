"""One request to a route of runs: which run it means, whether it may, and what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase

from .conf import setting
from .eventlog.backend import log_to_publish_to
from .eventlog.base import EventLog
from .eventlog.leases import Lease
from .eventlog.position import Position
from .eventlog.records import TopicState
from .eventlog.validation import filled
from .exceptions import QueryInvalid, RunExists, RunNotFound, TopicClosed
from .guards import run_guards
from .run_names import KEY, RUN, RunNames
from .run_routes import RunAccess, RunRoute, Verb
from .runs.endings import RunEnding
from .runs.handlers import RunSignature
from .runs.ids import idempotency_key, is_own, request_digest
from .runs.resumable import ResumableStream
from .runs.sources import without_id
from .runs.state import astop_run
from .runs.task import LOOK_SECONDS, LOOKS, RunTask
from .runs.topic import Topic
from .runs.wire import no_state
from .streams.body import keep_body
from .streams.context import Context
from .streams.counters import Refusal, counters
from .streams.endings import Ending
from .streams.error_responses import accepts, error_body
from .streams.handlers import Handler
from .streams.registry import registry
from .streams.response import ended_response, head_response, names_event_stream, overloaded_response, send_elsewhere
from .streams.stream import Stream
from .topics.reading import history
from .wire import Event

BROKEN = (RunEnding.FAILED, RunEnding.INTERRUPTED, RunEnding.LOST)


class Call:
    """One request to a route of runs."""

    def __init__(self, route: RunRoute, c: Context) -> None:
        self.route = route
        self.c = c
        self.log: EventLog = log_to_publish_to()
        self.names = RunNames(route, c)
        given = None if route.control_events is None else route.control_events
        self.control = names_event_stream(c.request) if given is None else given
        self.counts = False
        self.repeated: Event | None = None
        self.has_all = False

    async def answer(self) -> Handler | HttpResponseBase:
        """Answer by the method and the address."""
        method, stops = self.c.request.method, self.c.request.path.endswith(("/stop", "/cancel"))
        if method == "DELETE" or (stops and RUN in self.c.params):
            return await self.stop()
        if method == "POST":
            return await self.start()
        return await self.resume()

    # Starting

    async def start(self, *, resumes: bool = True) -> Handler | HttpResponseBase:
        """Begin a run, or lead to the one that this very request has begun before."""
        c, route = self.c, self.route
        if registry.draining or registry.closing:
            return send_elsewhere(c.request, self.overloaded("this server takes no new runs: it is being drained, or ends"))
        keep_body(c.request, route.max_body)
        if resumes and (self.names.asked_id() is not None or c.last_event_id is not None):
            return await self._resume_by_post()
        once = self.names.client_key() or idempotency_key(c)
        id = self.names.new_id(once)
        topic = f"{self.names.base}.{id}"
        if (refusal := await self._refused("start", id, topic, own=True)) is not None:
            return refusal
        key = await self.names.key()
        own = c._for_task()
        code = await route.shape.prepare(own, self.names.values, route.handler)
        c._take_headers(own)
        if isinstance(code, HttpResponseBase):
            return code
        blocks = isinstance(route.shape, RunSignature) and route.shape.blocks(self.names.values)
        task = RunTask(c=own, topic=topic, id=id, key=key, lease=route.lease, wire=route.wire, code=code, blocks=blocks)
        task.request = None if once is None else request_digest(c, self.names.query())
        if route.resumable:
            stream_code: Any = code
            task.code = lambda run: stream_code(ResumableStream(run, c.route, task.ends))
        try:
            await task.start()
            await task.may_answer(setting("COMMIT_AFTER") if route.commit_after is None else route.commit_after)
        except RunExists as error:
            other = error.topic if error.topic != topic or key is None else await self._leads(key, topic)
            if other != topic:
                return await self._instead(other)
        except asyncio.CancelledError:
            if route.stops:  # the client has left before there was an answer to leave
                await task.stop()
            raise
        except TopicClosed:
            pass  # the same request has started it before, and it is over
        return self._begun(id, topic)

    async def _leads(self, key: str, topic: str) -> str:
        """Return the topic of the run that has the key, where another request is just beginning the same run as this one.

        That one has the lease, and does not know yet whether it gets the key.
        """
        if (await self.log.astate(topic)).closed is not None:
            return topic  # it had the key, and is over
        for _ in range(LOOKS):
            leads = await self.log.apointer(key)
            lease = None if leads is None else await self.log.alease(leads)
            if leads is not None and (leads == topic or (lease is not None and lease.alive)):
                return leads
            await asyncio.sleep(LOOK_SECONDS)
        return topic

    async def _instead(self, topic: str) -> Handler | HttpResponseBase:
        """Another run has the key."""
        lease = await self.log.alease(topic) if self.c.request.method == "GET" else None
        return await self._read(lease, topic, "resume") if lease is not None else await self._conflict(topic)

    async def _resume_by_post(self) -> Handler | HttpResponseBase:
        """Some clients heal a cut by sending the same request again: that never starts anything."""
        id = self.names.asked_id() or self.names.named_id()
        if id is None:
            raise Http404(
                "a POST with Last-Event-ID resumes the run that X-Run-Id names, and none is; without Last-Event-ID it starts one"
            )
        found = await self._find(id)
        return await self._read(*found, "resume")

    def _begun(self, id: str, topic: str) -> Handler | HttpResponseBase:
        if not _prefers_async(self.c):
            self._name_run(id)
            return self._reader(id, topic, begun=True)
        path = self.names.path_of(id)
        headers = {**self.route.wire.run_headers(id, path), "Location": path, "Preference-Applied": "respond-async"}
        return self.c.json({"run": id, "url": path, "stop": f"{path}stop"}, status=202, headers=headers)

    async def _conflict(self, topic: str) -> HttpResponse:
        """Another run has the key: say where it is, to whom it may concern."""
        lease = await self.log.alease(topic)
        message = "another run goes on here: follow it, stop it, or wait for its end. Nothing was started"
        counters.refused(self.c.route, Refusal.ERROR)
        about: dict[str, str] = {}
        headers: dict[str, str] = {}
        if lease is not None and await self._refused("resume", lease.holder, topic) is None:
            path = self.names.path_of(lease.holder)
            about, headers = {"run": lease.holder, "url": path}, {"Location": path}
        return self.c.json(error_body(409, message, **about), status=409, headers=headers)

    # Resuming

    async def resume(self) -> Handler | HttpResponseBase:
        """Send what the client has not had of a run; 204 where there is none. Starts nothing, but for ``resumable=True``.

        HEAD gets the headers of that, and starts nothing at all.
        """
        id = self.names.asked_id() or self.names.named_id()
        if id is not None:
            return await self._read(*await self._find(id), "resume")
        key = await self.names.key(self.c.params.get(KEY))
        topic = None if key is None else await self.log.apointer(key)
        lease = None if topic is None else await self.log.alease(topic)
        new = self.c.last_event_id is None and not self.c._position.malformed
        starts = self.route.starts_on_get and new
        if starts and (topic is None or lease is None or not lease.alive):
            return head_response() if self.c.request.method == "HEAD" else await self.start(resumes=False)
        if topic is None or lease is None:
            return ended_response()
        over = not lease.alive
        return await self._read(lease, topic, "resume", over=over)

    async def _read(self, lease: Lease, topic: str, verb: Verb, *, over: bool = False) -> Handler | HttpResponseBase:
        if (refusal := await self._refused(verb, lease.holder, topic)) is not None:
            return refusal
        if self._wants_state():
            if lease.expired:
                await self.log.aexpire(topic)
            return self.c.json(await self._state(lease.holder, topic, (await self.log.astate(topic)).closed))
        where = await self._where(topic)
        if over and where is None and not self.route.replay:
            return ended_response()
        self._name_run(lease.holder)
        return self._reader(lease.holder, topic)

    async def _where(self, topic: str) -> str | None:
        """Find where the client wants to go on, and have its stream begin there."""
        c, position = self.c, self.route.wire.position
        asked = position(c.request)
        state = await self.log.astate(topic)
        if isinstance(asked, int):
            self.counts = True
            if asked < 0 and self.route.wire.tail_header:
                c.set_header(self.route.wire.tail_header, str(state.top - 1))
            asked = str(Position(state.epoch, asked if asked >= 0 else max(state.top + asked, state.floor)))
        elif asked is None:
            return "malformed" if c._position.malformed else None
        if asked is not None and not self.control and _at_the_end(asked, state):
            before = str(Position(state.epoch, state.top - 1))  # its last event says to the client that it was the last
            self.has_all = self.counts and self.route.wire.numbered
            if self.route.wire.repeat_last:  # whoever knows its id takes it without one
                (self.repeated,) = map(without_id, await Topic(topic).aread(before, 1))
            else:
                asked = before
        c._go_on_after(asked)
        return asked

    def _reader(self, id: str, topic: str, *, begun: bool = False) -> Handler:
        async def read(stream: Stream) -> None:
            async def leave() -> None:
                if stream.ending in (Ending.CLIENT_DISCONNECT, Ending.SLOW_CLIENT):
                    await self.log.arequest_stop(topic, id)

            if self.has_all:
                return
            if begun and self.route.stops:
                stream.on_abort(leave)
            if self.repeated is not None:
                await stream.write(self.repeated)
            counts = self.counts or begun  # whoever counts events does so from the first one on
            stream._id_first = self.route.wire.id_first
            result = await stream.follow(topic, fold=None if counts else self.route.wire.fold)
            if result.reason in BROKEN:
                stream._incomplete = not await self._ends_whole(topic)

        return read

    async def _ends_whole(self, topic: str) -> bool:
        """Whether the last event has told the client that the run broke."""
        state = await self.log.astate(topic)
        events = await Topic(topic).aread(str(Position(state.epoch, max(state.top - 1, state.floor))), 1)
        return any(map(self.route.wire.ends_whole, events))

    # Stopping

    async def stop(self) -> HttpResponse | HttpResponseBase:
        """Ask one run to stop; as often as one likes."""
        id = self.names.asked_id() or self.names.named_id()
        if id is None:
            raise QueryInvalid(
                "which run? Its id comes with the response that started it, in Location or the header of the protocol: send "
                "DELETE to that address, or its id as ?run_id= or X-Run-Id. Nothing was stopped"
            )
        _, topic = await self._find(id)
        if (refusal := await self._refused("stop", id, topic)) is not None:
            return refusal
        try:
            run = await astop_run(self.log, topic, id)
        except RunNotFound as error:  # deleted since, or another one's
            raise Http404(str(error)) from error
        body = await self._state(id, topic, run.ending, stopped=True)
        return self.c.json(body, status=202 if run.ending is None else 200)

    # The state

    def _wants_state(self) -> bool:
        """Whether the client wants a run's state now, and not its events."""
        wire, request = self.route.wire, self.c.request
        asks = wire.state is not no_state and request.method in ("GET", "HEAD") and wire.position(request) is None
        return asks and accepts(request, "application/json") and not names_event_stream(self.c.request)

    async def _state(self, id: str, topic: str, ending: str | None, *, stopped: bool = False) -> dict[str, Any]:
        """Return what is told of a run; in the wire's words one that was asked to stop is ``stopped`` from then on."""
        wire = self.route.wire
        words: Mapping[str, object] = {}
        if wire.state is not no_state:
            otherwise = RunEnding.STOPPED if ending or stopped else None  # somebody may have closed it with a word of their own
            told = next((one for one in RunEnding if one == ending), otherwise)
            words = await self.log._run_read(lambda: wire.state(told, wire.folded(history(self.log, topic))))
        return {"run": id, "ending": ending, **words}

    # Finding

    async def _find(self, id: str) -> tuple[Lease, str]:
        """Return a run's lease and topic.

        Raises:
            Http404: There is no such run, or none that is still kept.
        """
        topic: str | None = f"{self.names.base}.{id}"
        lease = await self.log.alease(topic or "") if self.names.belongs(id) else None
        if lease is None and isinstance(self.route.key, str):  # perhaps one that other code has begun, by ``produce(…, key=…)``
            topic = await self.log.apointer(filled(self.route.key, self.names.values))
            lease = None if topic is None else await self.log.alease(topic)
        if topic is None or lease is None or lease.holder != id:
            raise Http404(f"there is no run {id!r} here, or it is no longer kept; a POST starts another one")
        return lease, topic

    # Answers

    def _name_run(self, id: str) -> None:
        wire = self.route.wire
        for name, value in {**wire.headers, **wire.run_headers(id, self.names.path_of(id))}.items():
            self.c.set_header(name, value)

    async def _refused(self, verb: Verb, id: str, topic: str, *, own: bool | None = None) -> HttpResponseBase | None:
        about = RunAccess(verb=verb, id=id, topic=topic, own=is_own(self.c, id) if own is None else own)

        async def access(c: Context) -> bool | HttpResponseBase:
            return await self.route.access(c, about)

        access.__qualname__ = f"access of the runs {self.route.name!r}"
        refusal = await run_guards((access,), self.c)
        if refusal is not None:
            counters.refused(self.c.route, Refusal.GUARD, str(refusal.status_code))
            return refusal

        async def access_again(c: Context) -> bool | HttpResponseBase:
            return await self.route.access(c, RunAccess(verb="resume", id=id, topic=topic, own=is_own(c, id)))

        access_again.__qualname__ = access.__qualname__
        self.c._asks = (access_again,)
        return None

    def overloaded(self, reason: str) -> HttpResponse:
        """Come back later."""
        counters.refused(self.c.route, Refusal.OVERLOADED)
        return overloaded_response(self.control, reason)


def _at_the_end(asked: str, state: TopicState) -> bool:
    """Whether a client that asks so has all of a run that is over."""
    position = Position.parse(asked)
    at = position is not None and position.epoch == state.epoch and position.offset >= state.top
    return at and state.closed is not None and state.top > state.floor


def _prefers_async(c: Context) -> bool:
    """Whether the client wants no stream now: RFC 7240, section 4.1."""
    return any(part.partition(";")[0].strip().lower() == "respond-async" for part in (c.header("Prefer") or "")[:1000].split(","))
