"""Whether processes share a cache: on local memory, what a task's worker stores is never seen by the server."""

from __future__ import annotations

import logging

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.utils.module_loading import import_string

logger = logging.getLogger("django_agent_sse.kv")

_noted: set[str] = set()


def is_per_process(alias: str) -> bool:
    """Whether what one process stores in this cache is there for no other one."""
    return issubclass(import_string(caches.settings[alias]["BACKEND"]), (LocMemCache, DummyCache))


def note_absence(alias: str, ns: str, key: str) -> None:
    """Log why nothing may be there, once for each cache in a process.

    Only a missing key is a sign that another process was to store it: one process that does everything finds what it has stored.
    """
    if alias in _noted or not is_per_process(alias):
        return
    _noted.add(alias)
    logger.warning(
        "c.kv has no %.60r in %.60r, and would not see it if a task, a command or another worker had stored it: CACHES[%r] is "
        "%s, which each process has of its own. Point AGENT_SSE['CACHE'] at a cache that processes share, or publish to a topic. "
        "This is said once.",
        key,
        ns,
        alias,
        caches.settings[alias]["BACKEND"].rpartition(".")[2],
    )
