"""Server-Sent Events for Django: progress, build logs, notifications and agent output, with nothing lost and nothing pinned.

Routes:

- ``Router``: ``router.sse(path, …)`` makes URLconf entries from handlers
- ``SSEView``: a stream as a class

What a handler gets:

- ``Context``: the request, its user, values, key-value store and logger
- ``Stream``: one open response to one client
- ``KV``: the store behind ``c.kv``, for other code
- ``Event``: one message, immutable and valid from birth
- ``Ending``: how a stream ended

Topics:

- ``publish``, ``publish_many``, ``close_topic`` and their twins ``apublish``, ``apublish_many``, ``aclose_topic``
- ``Topic``: the same verbs for one name, and reading from Python
- ``produce``: write a topic as a run, which can be stopped and ends with a reason
- ``live_log``: what a block of code logs, in a topic
- ``Run``, ``AsyncRun``: what it gives, in sync code and in coroutines, for annotations
- ``RunAccess``: what ``access=`` of a route of runs is asked about
- ``RunState``: the run of a topic at one moment
- ``RunEnding``: how a run ended
- ``topic_cursor``, ``atopic_cursor``: where topics end now
- ``topic_name``: a name with values from outside in it
- ``event_log``: the event log of this process

Guards:

- ``login_required``, ``staff_required``, ``permission_required``, ``api_key``
- ``signed_required``: for addresses made by ``signed_url``, which ``revoke_signed_urls`` takes back (``arevoke_signed_urls``)
- ``Guard``: the type of one, for annotations
- ``topic_permissions``: who may follow which topic, as a table

Access over time:

- ``close_streams`` and its twin ``aclose_streams``: end the streams of a user, a route, a topic or a session, everywhere

Signals:

- ``stream_opened``, ``stream_closed``, ``process_closing``

Errors are in ``django_agent_sse.exceptions``, the ASGI wrapper in ``django_agent_sse.asgi``. Importing the package touches
neither settings nor models: names are resolved when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "access.closing": ("aclose_streams", "close_streams"),
    "access.topic_rules": ("topic_permissions",),
    "contrib.live_log": ("live_log",),
    "eventlog.backend": ("event_log",),
    "eventlog.cursor": ("atopic_cursor", "topic_cursor"),
    "eventlog.validation": ("topic_name",),
    "guards": ("Guard", "api_key", "login_required", "permission_required", "staff_required"),
    "routing": ("Router",),
    "run_routes": ("RunAccess",),
    "runs.async_run": ("AsyncRun",),
    "runs.endings": ("RunEnding",),
    "runs.produce": ("produce",),
    "runs.run": ("Run",),
    "runs.state": ("RunState",),
    "runs.topic": ("Topic",),
    "signed_urls": ("arevoke_signed_urls", "revoke_signed_urls", "signed_required", "signed_url"),
    "signals": ("process_closing", "stream_closed", "stream_opened"),
    "streams.context": ("Context",),
    "streams.endings": ("Ending",),
    "streams.kv": ("KV",),
    "streams.stream": ("Stream",),
    "topics.publish": ("aclose_topic", "apublish", "apublish_many", "close_topic", "publish", "publish_many"),
    "views": ("SSEView",),
    "wire": ("Event",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = [
    "KV",
    "AsyncRun",
    "Context",
    "Ending",
    "Event",
    "Guard",
    "Router",
    "Run",
    "RunAccess",
    "RunEnding",
    "RunState",
    "SSEView",
    "Stream",
    "Topic",
    "aclose_streams",
    "aclose_topic",
    "api_key",
    "apublish",
    "apublish_many",
    "arevoke_signed_urls",
    "atopic_cursor",
    "close_streams",
    "close_topic",
    "event_log",
    "live_log",
    "login_required",
    "permission_required",
    "process_closing",
    "produce",
    "publish",
    "publish_many",
    "revoke_signed_urls",
    "signed_required",
    "signed_url",
    "staff_required",
    "stream_closed",
    "stream_opened",
    "topic_cursor",
    "topic_name",
    "topic_permissions",
]

if TYPE_CHECKING:
    from .access.closing import aclose_streams, close_streams
    from .access.topic_rules import topic_permissions
    from .contrib.live_log import live_log
    from .eventlog.backend import event_log
    from .eventlog.cursor import atopic_cursor, topic_cursor
    from .eventlog.validation import topic_name
    from .guards import Guard, api_key, login_required, permission_required, staff_required
    from .routing import Router
    from .run_routes import RunAccess
    from .runs.async_run import AsyncRun
    from .runs.endings import RunEnding
    from .runs.produce import produce
    from .runs.run import Run
    from .runs.state import RunState
    from .runs.topic import Topic
    from .signals import process_closing, stream_closed, stream_opened
    from .signed_urls import arevoke_signed_urls, revoke_signed_urls, signed_required, signed_url
    from .streams.context import Context
    from .streams.endings import Ending
    from .streams.kv import KV
    from .streams.stream import Stream
    from .topics.publish import aclose_topic, apublish, apublish_many, close_topic, publish, publish_many
    from .views import SSEView
    from .wire import Event


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
