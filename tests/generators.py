"""Asynchronous generators that other libraries leave open."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

Generator = AsyncGenerator[Any, Any]
_begun: ContextVar[list[Generator]] = ContextVar("_begun")


@asynccontextmanager
async def leaving_none_open() -> AsyncIterator[None]:
    """Close what is begun here and left half read, as by an SDK whose stream one leaves, or that does not look beyond ``[DONE]``.

    A collection on another thread would hand one of them after the other to the loop, and come upon the next one while the
    first closes it: "async generator already executing", in whatever test runs then.
    """
    begun = list[Generator]()
    token = _begun.set(begun)
    before = sys.get_asyncgen_hooks().firstiter
    if not isinstance(before, _Note):
        sys.set_asyncgen_hooks(firstiter=_Note(before))  # until the loop stops
    try:
        yield
    finally:
        _begun.reset(token)
        for generator in begun:  # those that iterate over others come before them
            await generator.aclose()


class _Note:
    def __init__(self, before: Callable[[Generator], object]) -> None:
        self._before = before

    def __call__(self, generator: Generator) -> None:
        if (begun := _begun.get(None)) is not None:
            begun.append(generator)
        self._before(generator)
