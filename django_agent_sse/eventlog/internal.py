"""The package's own topics in an event log: hidden from lists of topics, and listed here for those who ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..exceptions import TopicNameInvalid
from ..wire.event import RESERVED
from .validation import InternalTopic, valid_topic

PAGE = 200
_AFTER_RESERVED = f"{RESERVED}\x7f"
"""Sorts after every topic's name that begins with ``RESERVED``, and before all others that come after these."""


def without_internal(read: Callable[[str, str, int], list[str]], prefix: str, after: str, limit: int) -> list[str]:
    """Return a page of names without reserved and invalid ones, as long as if those were not there.

    Args:
        read: ``(prefix, after, limit)``: asks the store, which knows of no reserved names.
        prefix: See ``EventLog.topics``, as for ``after`` and ``limit``.
    """
    found: list[str] = []
    while len(found) < limit:
        names = read(prefix, after, limit - len(found))
        if not names:
            break
        found += filter(_valid, names)
        after = _AFTER_RESERVED if names[-1].startswith(RESERVED) else names[-1]
    return found


def internal_names(read: Callable[[str, str, int], list[str]]) -> Iterator[InternalTopic]:
    """Yield the package's own topics, sorted; and those that others have written under such names.

    Args:
        read: See ``without_internal``.
    """
    after = ""
    while names := read(RESERVED, after, PAGE):
        yield from filter(_valid, map(InternalTopic, names))
        after = names[-1]


def _valid(name: str) -> bool:
    try:
        valid_topic(name)
    except TopicNameInvalid:
        return False
    return True
