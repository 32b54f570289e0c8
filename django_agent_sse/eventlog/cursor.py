"""Where topics end now: taken while a page is rendered, it starts a stream exactly there."""

from __future__ import annotations

from ..exceptions import ArgumentInvalid
from .backend import event_log, refuse_on_a_loop
from .position import MAX_TOPICS, Position, short_name, vector_id
from .records import TopicState


def topic_cursor(*topics: str) -> str:
    """Return the id of the place after everything that these topics have now, for ``?last_event_id=`` or ``follow(…, after=…)``.

    Take it before you query what the page shows: what happens in between is then told twice, and never lost.

    Raises:
        ArgumentInvalid: Not 1 to 16 names.
        TopicNameInvalid: No topic can have such a name.
        EventLogUnavailable: The log cannot be read.
        AsyncRequired: An event loop runs here.
    """
    _check(topics)
    refuse_on_a_loop("topic_cursor")
    log = event_log()
    return _id({topic: log.state(topic) for topic in topics})


async def atopic_cursor(*topics: str) -> str:
    """See ``topic_cursor``."""
    _check(topics)
    log = event_log()
    return _id({topic: await log.astate(topic) for topic in topics})


def _check(topics: tuple[object, ...]) -> None:
    if not 0 < len(topics) <= MAX_TOPICS:
        raise ArgumentInvalid(f"topic_cursor() takes 1 to {MAX_TOPICS} topics, as follow() does, not {len(topics)}")
    if wrong := next((type(topic).__name__ for topic in topics if not isinstance(topic, str)), None):
        raise ArgumentInvalid(f"topic_cursor() takes names, not {wrong}: write topic_cursor(*names) where you have a list")


def _id(states: dict[str, TopicState]) -> str:
    positions = {short_name(topic): Position(state.epoch, state.top, state.nonce) for topic, state in states.items()}
    return str(*positions.values()) if len(positions) == 1 else vector_id(positions)
