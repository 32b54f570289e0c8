"""Where topics end now: taken while a page is rendered, it starts a stream exactly there."""

from __future__ import annotations

import asyncio

from ..exceptions import AsyncRequired
from .current import event_log
from .position import Position
from .records import TopicState
from .vector import short_name, vector_id


def topic_cursor(*topics: str) -> str:
    """The id of the place after everything that these topics have now, for ``?last_event_id=`` or ``follow(…, after=…)``.

    Take it before you query what the page shows: what happens in between is then told twice, and never lost.

    Raises:
        TopicNameInvalid: No topic can have such a name.
        EventLogUnavailable: The log cannot be read.
        AsyncRequired: An event loop runs here.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        log = event_log()
        return _id({topic: log.state(topic) for topic in topics})
    raise AsyncRequired("topic_cursor() would hold up the event loop that runs here; write `await atopic_cursor(…)`")


async def atopic_cursor(*topics: str) -> str:
    """See ``topic_cursor``."""
    log = event_log()
    return _id({topic: await log.astate(topic) for topic in topics})


def _id(states: dict[str, TopicState]) -> str:
    positions = {short_name(topic): Position(state.epoch, state.top, state.nonce) for topic, state in states.items()}
    return str(*positions.values()) if len(positions) == 1 else vector_id(positions)
