"""What publishers ask of the log of this process: done at once, or when their transaction commits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TypedDict, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections, transaction

from ..exceptions import AsyncRequired, TransactionRefused
from ..wire.event import Event
from .backend import check_reach, event_log
from .base import EventLog
from .position import Position
from .records import Appended

_T = TypeVar("_T")


class Many(TypedDict, total=False):
    """What ``publish_many`` takes beside ``on_commit``, which decides what it returns."""

    event: str | None
    expect: int | None
    key: str | None
    outside_transaction: bool


class One(Many, total=False):
    """And ``publish``."""

    retry: int | None


def done(verb: str, prepare: Callable[[EventLog], Callable[[], _T]], *, on_commit: bool) -> _T | None:
    """Check what is asked for, and do it now; or at the commit, and return nothing.

    Raises:
        AsyncRequired: An event loop runs here; the message names the twin of ``verb``.
    """
    log = event_log()
    check_reach(log)
    refuse_on_a_loop(verb)
    call = prepare(log)
    if on_commit:
        _later(log, call)
        return None
    return call()


async def adone(prepare: Callable[[EventLog], Callable[[], _T]], *, on_commit: bool) -> _T | None:
    """See ``done``."""
    log = event_log()
    check_reach(log)
    call = prepare(log)
    if on_commit:
        await sync_to_async(_later)(log, call)
        return None
    return await log.arun(call)


def refuse_on_a_loop(verb: str, twin: bool = True) -> None:
    """Refuse a plain verb where an event loop runs, unless ``DJANGO_ALLOW_ASYNC_UNSAFE`` allows it, as it allows the ORM.

    Args:
        verb: Its name.
        twin: Whether there is one with an ``a``, for coroutines.

    Raises:
        AsyncRequired: One does.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        instead = f"write `await a{verb}(…)`" if twin else f"write `await sync_to_async({verb})(…)`"
        raise AsyncRequired(f"{verb}() would hold up the event loop that runs here; {instead}. Nothing was done")


def append(
    topic: str, events: list[Event], expect: int | None, key: str | None, outside: bool, on_commit: bool
) -> list[Position] | None:
    """Append events; their positions, which ``on_commit`` cannot know."""
    appended = done("publish", _appending(topic, events, expect, key, outside, on_commit), on_commit=on_commit)
    return None if appended is None else [*appended]


async def aappend(
    topic: str, events: list[Event], expect: int | None, key: str | None, outside: bool, on_commit: bool
) -> list[Position] | None:
    """See ``append``."""
    appended = await adone(_appending(topic, events, expect, key, outside, on_commit), on_commit=on_commit)
    return None if appended is None else [*appended]


def append_one(topic: str, event: Event, expect: int | None, key: str | None, outside: bool, on_commit: bool) -> Position | None:
    """Append one event; its position."""
    found = append(topic, [event], expect, key, outside, on_commit)
    return None if found is None else found[0]


async def aappend_one(
    topic: str, event: Event, expect: int | None, key: str | None, outside: bool, on_commit: bool
) -> Position | None:
    """See ``append_one``."""
    found = await aappend(topic, [event], expect, key, outside, on_commit)
    return None if found is None else found[0]


def close(topic: str, reason: str, outside: bool, on_commit: bool) -> bool | None:
    """Close a topic; whether it was open, which ``on_commit`` cannot know."""
    return done("close", _closing(topic, reason, outside, on_commit), on_commit=on_commit)


async def aclose(topic: str, reason: str, outside: bool, on_commit: bool) -> bool | None:
    """See ``close``."""
    return await adone(_closing(topic, reason, outside, on_commit), on_commit=on_commit)


def _appending(
    topic: str, events: list[Event], expect: int | None, key: str | None, outside: bool, on_commit: bool
) -> Callable[[EventLog], Callable[[], Appended]]:
    _check_together(outside, on_commit)
    return lambda log: log.appending(topic, events, expect=expect, key=key, outside_transaction=outside)


def _closing(topic: str, reason: str, outside: bool, on_commit: bool) -> Callable[[EventLog], Callable[[], bool]]:
    _check_together(outside, on_commit)
    return lambda log: log.closing(topic, reason, outside_transaction=outside)


def _check_together(outside_transaction: bool, on_commit: bool) -> None:
    if outside_transaction and on_commit:
        raise TransactionRefused("outside_transaction=True is at once, on_commit=True is later: ask for one. Nothing was done")


def _later(log: EventLog, call: Callable[[], object]) -> None:
    if connections[log.alias].in_atomic_block:
        transaction.on_commit(call, using=log.alias, robust=True)
    else:
        call()
