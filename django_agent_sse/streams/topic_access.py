"""``AGENT_SSE["CAN_FOLLOW"]``: who may follow which topic. Asked before a client gets anything of it, and again meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.utils.module_loading import import_string

from .. import conf
from ..exceptions import ConfigurationError, GuardError, TopicForbidden
from .context import Context
from .endings import Ending
from .stream import late_error

CanFollow = Callable[[Any, str], Any]


def can_follow() -> CanFollow | None:
    """Return what ``AGENT_SSE["CAN_FOLLOW"]`` names.

    Raises:
        ConfigurationError: It cannot be imported, or is not a function of a user and a topic's name.
    """
    setting = conf.setting("CAN_FOLLOW")
    try:
        function = import_string(setting) if isinstance(setting, str) else setting
    except ImportError as error:
        raise ConfigurationError(f"AGENT_SSE['CAN_FOLLOW'] is {setting!r}, which cannot be imported: {error}") from error
    if function is not None and (not callable(function) or isinstance(function, type)):
        raise ConfigurationError(
            "AGENT_SSE['CAN_FOLLOW'] must be, or name, a function (user, topic) that returns True or False, or None; not "
            f"{setting!r}"
        )
    return function


async def may_follow(c: Context, topics: Iterable[str]) -> bool:
    """Whether the user of a request may follow all of these topics.

    Raises:
        GuardError: The project's function returned something else than ``True`` or ``False``.
    """
    function = can_follow()
    if function is None:
        return True
    user, names = c.user, list(topics)
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        answers = [await function(user, name) for name in names]
    else:
        answers = await sync_to_async(lambda: [function(user, name) for name in names])()
    for name, answer in zip(names, answers, strict=True):
        if not isinstance(answer, bool):
            raise GuardError(
                f"AGENT_SSE['CAN_FOLLOW'] returned {type(answer).__name__} for the topic {name!r}: return True or False "
                "(bool(…) makes one of a value)"
            )
    return all(answers)


async def check_follow_access(c: Context, topics: Iterable[str], revoke: Callable[[], object] = lambda: None) -> None:
    """Check that the user of a request may follow these topics.

    Raises:
        TopicForbidden: They may not.
        StreamClosed: The same, where the response has begun: the stream is revoked.
    """
    asked = tuple(topics)
    c._topics = tuple(dict.fromkeys((*c._topics, *asked)))  # at once: what changes while it is asked is asked about again
    if not await may_follow(c, asked):
        if c.started:
            revoke()
            raise late_error(Ending.REVOKED)
        raise TopicForbidden("you may not follow this topic")
