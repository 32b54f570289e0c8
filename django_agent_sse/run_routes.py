"""What ``router.run()`` was told of one route, and what its ``access`` is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias

from django.http.response import HttpResponseBase

from .runs.produce import LEASE_SECONDS
from .runs.wire import NO_WIRE, Wire
from .streams.context import Context
from .streams.handlers import HandlerSignature

Verb: TypeAlias = Literal["start", "resume", "stop"]
RunKey: TypeAlias = str | Callable[[Context], Awaitable[str | None]]
"""A name with ``{fields}`` of the URL, or ``async (c) -> name``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAccess:
    """A run that somebody wants to start, resume or stop: what a route's ``access`` is asked about.

    Attributes:
        verb: What is wanted: ``start``, ``resume`` or ``stop``.
        id: Of the run.
        topic: Where it writes.
        own: The request comes from whoever started it: the same user, owner of an API key, or session. Also true where that
            was nobody of these, so that the id alone leads there.
    """

    verb: Verb
    id: str
    topic: str
    own: bool


Access: TypeAlias = Callable[[Context, RunAccess], Awaitable["bool | HttpResponseBase"]]
"""``async (c, run) -> True | False | response``: a guard of one run."""


async def own_only(c: Context, run: RunAccess) -> bool:
    """Let whoever started a run resume and stop it, and nobody else."""
    return run.own


@dataclass(slots=True)
class RunRoute:
    """What ``router.run()`` was told: how the runs of one route are started, found, resumed and stopped.

    Attributes:
        handler: Its code.
        shape: The kind of it.
        name: Of the route.
        wire: How the protocol spells a run.
        topic: The beginning of the names of topics, with ``{fields}`` of the URL.
        key: One run at a time has it; ``None``: what the URL captures, if it captures anything.
        access: Asked about each run that somebody starts, resumes or stops.
        lease: Seconds after which a run whose process has died is lost.
        stops: A run is stopped when the client that started it leaves.
        replay: A GET without a position gets a run that is over, too.
        max_body: The most bytes of a request's body; ``None``: ``DATA_UPLOAD_MAX_MEMORY_SIZE``.
        resumable: The handler is one of streams.
        starts_on_get: A GET without a position starts one where nothing runs.
        control_events: That of the route.
        commit_after: That of the route; ``None``: of the project.
    """

    handler: Callable[..., Any]
    shape: HandlerSignature
    _: KW_ONLY
    name: str
    wire: Wire = NO_WIRE
    topic: str
    key: RunKey | None = None
    access: Access = own_only
    lease: float = LEASE_SECONDS
    stops: bool = False
    replay: bool = True
    max_body: int | None = None
    resumable: bool = False
    starts_on_get: bool = False
    control_events: bool | None = None
    commit_after: float | None = None
