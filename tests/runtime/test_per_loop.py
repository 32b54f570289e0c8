"""Each event loop has one of its own, and a closed loop none."""

from __future__ import annotations

import asyncio

from django_agent_sse.runtime.per_loop import PerLoop


def test_each_loop_has_its_own_and_a_closed_one_none() -> None:
    made: list[asyncio.AbstractEventLoop] = []
    own = PerLoop(lambda loop: made.append(loop) or object())

    async def twice() -> object:
        first = own.here()
        assert own.here() is first
        assert own.all() == [first]
        return first

    first, second = asyncio.run(twice()), asyncio.run(twice())
    assert first is not second
    assert len(made) == 2
    assert own.all() == []
    assert len(own._by_loop) == 1, "that of the first loop was let go when the second one was made"
    own.reset()
    assert own._by_loop == {}


def test_loops_that_are_open_at_once_have_one_each() -> None:
    own = PerLoop(lambda loop: object())

    async def here() -> object:
        return own.here()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        found = [one.run(here()), other.run(here())]
        assert own.all() == found
