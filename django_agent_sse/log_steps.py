"""Several logs of one thing, as the steps of a build: their states on one stream, and each of them as a log of its own."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

from django.http import Http404

from .eventlog.backend import event_log, refuse_on_a_loop
from .eventlog.base import EventLog
from .eventlog.level_counts import counts
from .eventlog.outage import outage
from .eventlog.records import TopicState
from .eventlog.search import Budget
from .eventlog.validation import fields_of, filled, valid_topic
from .exceptions import EventLogUnavailable, RouteError
from .log_parts import Busy, in_turn
from .streams.context import Context
from .streams.handlers import set_signature
from .streams.stream import Stream
from .streams.topic_access import check_follow_access
from .topics.subscription import Subscription

MOST_STEPS: Final = 16
"""Topics that one stream follows at most."""
INTERVAL: Final = 1.0
"""Seconds between two looks at the states, at least."""
LONGEST: Final = 15.0
"""Seconds between two looks, at most: a notification may be lost."""
STEP: Final = "step"
"""The event that says the state of one step."""
MOST_OF_EXIT: Final = 4096
"""Characters of an ``exit`` event that is looked at for how long its step took."""
SECONDS: Final = 0.05
"""Seconds in which the lines of a step are counted in one look, where its log keeps no index."""

LogSteps: TypeAlias = Mapping[str, str] | Callable[..., Awaitable[Mapping[str, str]]]
"""The topics of steps by the names of these, with ``{fields}`` of the URL; or ``async (c, …)`` that returns such a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """What is known of one step.

    Attributes:
        step: Its name.
        status: ``waiting`` until its topic begins, then ``running``, then the reason that this was closed with.
        events: How many its topic has had.
        errors: Lines that are errors; ``None`` where they are not counted yet, and so for warnings.
        warnings: Lines that are warnings.
        started: When it began, in seconds since 1970: with the first line, or as long before the end as its ``exit`` event says.
        ended: When it ended.
    """

    step: str
    status: str
    events: int
    errors: int | None
    warnings: int | None
    started: float | None
    ended: float | None


def step_states(steps: Mapping[str, str]) -> list[StepState]:
    """Return the states of steps, for a page that is rendered now; ``waiting`` where the log cannot be read.

    Raises:
        AsyncRequired: An event loop runs here.
    """
    refuse_on_a_loop("step_states", twin=False)
    log = event_log()
    try:
        return [_state(log, step, valid_topic(topic)) for step, topic in checked_steps(steps).items()]
    except EventLogUnavailable as error:
        outage.failed(error, [*steps.values()])
        return [_stated(step, TopicState(), None, None) for step in steps]


def steps_views(steps: LogSteps) -> tuple[Any, Callable[..., Awaitable[str]]]:
    """Return a handler for the stream of states, and what tells the topic of one step."""
    steps_of, fields = _steps_of(steps)

    async def topics_of(c: Context, **values: object) -> list[str]:
        return [*(await steps_of(c, **values)).values()]

    async def states(c: Context, stream: Stream, **values: object) -> None:
        topics = await steps_of(c, **values)
        await check_follow_access(c, topics.values())
        async for state in _states(topics):
            await stream.write(asdict(state), event=STEP)

    async def topic_of(c: Context, **values: object) -> str:
        step = str(values.pop("step"))
        topics = await steps_of(c, **values)
        if step not in topics:
            raise Http404(f"There is no step {step}.")
        return topics[step]

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("c", *fields, "step")]
    topic_of.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    for handler in (states, topic_of):
        vars(handler)["login_required"] = getattr(steps, "login_required", True)
    return set_signature(states, fields, "c", "stream", called="router.logs()", topics_of=topics_of), topic_of


def checked_steps(steps: object) -> Mapping[str, str]:
    """Return steps; ``RouteError`` for what is not some of them."""
    if not isinstance(steps, Mapping) or not 1 <= len(steps) <= MOST_STEPS:
        raise RouteError(f"steps are a mapping from 1 to {MOST_STEPS} names to topics, not {steps!r:.80}")
    for step in steps:
        if not isinstance(step, str) or not step.replace("-", "").replace("_", "").isalnum() or not step.isascii():
            raise RouteError(f"{step!r:.80} cannot be a step's name: it stands in a URL, and has letters, digits, - and _")
    return steps


def _steps_of(steps: LogSteps) -> tuple[Callable[..., Awaitable[Mapping[str, str]]], list[str]]:
    if isinstance(steps, Mapping):
        templates = checked_steps(steps)

        async def filled_steps(c: Context, **values: object) -> Mapping[str, str]:
            return {step: filled(topic, values) for step, topic in templates.items()}

        return filled_steps, sorted({field for topic in templates.values() for field in fields_of(topic)})
    if not inspect.iscoroutinefunction(steps):
        raise RouteError(f"logs(): steps are {{'test': 'builds.{{id}}.test'}}, or `async def steps(c, …)`, not {steps!r:.80}")
    _, *fields = inspect.signature(steps).parameters

    async def returned_steps(c: Context, **values: object) -> Mapping[str, str]:
        return {step: valid_topic(topic) for step, topic in checked_steps(await steps(c, **values)).items()}

    return returned_steps, fields


async def _states(steps: Mapping[str, str]) -> AsyncIterator[StepState]:
    """Yield the state of each step, and each time that it changes, until all of them have ended."""
    log, woken = event_log(), asyncio.Event()
    subscription = Subscription([*steps.values()], "live", woken.set)
    await subscription.open(None, malformed=False)
    told: dict[str, StepState] = {}
    try:
        while True:
            woken.clear()
            while subscription.pull() is not None:
                pass  # what the lines say is for who reads the log
            looked = await _look(log, steps)
            for state in looked:
                if told.get(state.step) != state:
                    told[state.step] = state
                    yield state
            if looked and (subscription.over or all(state.ended for state in looked)):
                return
            await asyncio.sleep(INTERVAL)
            if not looked:
                continue  # it is not known yet whether there is anything to wait for
            try:
                async with asyncio.timeout(LONGEST):
                    await woken.wait()
            except TimeoutError:
                continue
    finally:
        subscription.close()


async def _look(log: EventLog, steps: Mapping[str, str]) -> list[StepState]:
    try:
        return await in_turn(lambda: [_state(log, step, topic) for step, topic in steps.items()])
    except (Busy, EventLogUnavailable):
        return []  # next time


def _state(log: EventLog, step: str, topic: str) -> StepState:
    state = log.state(topic)
    if not state.exists:
        return _stated(step, state, None, None)
    counted = counts.of(log, topic, Budget(seconds=SECONDS), first=False)
    known = counted.upto >= state.top
    took = _took(log, topic, state) if state.closed is not None else None
    return _stated(step, state, counted.errors if known else None, counted.warnings if known else None, took)


def _took(log: EventLog, topic: str, state: TopicState) -> float | None:
    """Return the seconds that the last event says, where it is an ``exit``: a command works before it prints its first line."""
    for record in log.read_after(topic, max(0, state.top - 1), 1).records:
        if record.event.event != "exit" or len(record.event.data) > MOST_OF_EXIT:
            break
        try:
            told = json.loads(record.event.data)
        except (ValueError, RecursionError):
            break
        seconds = told.get("seconds", told.get("duration")) if isinstance(told, dict) else None
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= record.at:
            return float(seconds)
    return None


def _stated(step: str, state: TopicState, errors: int | None, warnings: int | None, took: float | None = None) -> StepState:
    ended = (state.newest_at or 0.0) if state.closed is not None else None
    status = "waiting" if not state.exists else "running" if state.closed is None else state.closed
    return StepState(
        step=step,
        status=status,
        events=state.top,
        errors=errors,
        warnings=warnings,
        started=ended - took if ended and took is not None else state.oldest_at,
        ended=ended,
    )
