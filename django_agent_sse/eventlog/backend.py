"""The event log of this process, as ``AGENT_SSE["EVENT_LOG"]`` says."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from typing import Any

from django.core.signals import request_started, setting_changed
from django.utils.module_loading import import_string

from .. import conf
from ..exceptions import ConfigurationError
from ..runtime.pools import under_test
from ..runtime.process import on_fork
from .base import EventLog
from .notify.local import local_notifier
from .notify.notifier import notifier
from .outage import outage

_NAMES = re.compile(r"\w+(\.\w+)+")


class _Current:
    """Holds the log. Made when it is first used, and anew after ``reset()``, a change of the setting, and a fork."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._log: EventLog | None = None
        self.serves = False

    def get(self) -> EventLog:
        log = self._log
        if log is None:
            with self._lock:
                if self._log is None:
                    made_now = made(conf.setting("EVENT_LOG"))
                    asked = made_now.crosses_processes and made_now.notifier is None
                    made_now.on_change = notifier.notify if asked else local_notifier.notify
                    made_now.on_notify = local_notifier.notify_with
                    self._log = made_now
                log = self._log
        return log


_current = _Current()
on_fork(_current.reset)  # what two processes would write to a copy of one memory would not agree


def event_log() -> EventLog:
    """The log of this process.

    Raises:
        ConfigurationError: ``AGENT_SSE["EVENT_LOG"]`` names none, or gives it options that it does not take.
    """
    return _current.get()


def reset() -> None:
    """Forget the log of this process; the next use makes another. Streams that follow topics go on in it, after a gap."""
    serves = _current.serves
    _current.reset()
    _current.serves = serves
    outage.reset()
    local_notifier.notify_all()


def made(given: object) -> EventLog:
    """A log from a value of ``AGENT_SSE["EVENT_LOG"]``.

    Raises:
        ConfigurationError: It is no such value.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("BACKEND"), str) or given.keys() - {"BACKEND", "OPTIONS"}:
        raise ConfigurationError(
            f"AGENT_SSE['EVENT_LOG'] is {conf.shown(given)}; it is a dict {{'BACKEND': 'path.to.Class', 'OPTIONS': {{…}}}}"
        )
    try:
        backend: Any = import_string(given["BACKEND"])
    except RuntimeError as error:  # its tables need the app
        raise ConfigurationError(f"{given['BACKEND']} needs 'django_agent_sse' in INSTALLED_APPS: {error}") from error
    except (ImportError, ValueError) as error:
        why = error if _NAMES.fullmatch(given["BACKEND"]) else f"{conf.shown(given['BACKEND'])} is no path of a class"
        raise ConfigurationError(f"AGENT_SSE['EVENT_LOG']['BACKEND'] cannot be imported: {why}") from error
    if not (isinstance(backend, type) and issubclass(backend, EventLog)):
        raise ConfigurationError(f"AGENT_SSE['EVENT_LOG']['BACKEND'] is {conf.shown(given['BACKEND'])}, which is no EventLog")
    options = given.get("OPTIONS", {})
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ConfigurationError(f"AGENT_SSE['EVENT_LOG']['OPTIONS'] is {conf.shown(options)}; it is a dict of names and values")
    return backend(**options)


def check_reach(log: EventLog) -> None:
    """Refuse to append where nobody could ever read it: to a log of this process's own, in a process that serves nothing.

    Raises:
        ConfigurationError: With the mend.
    """
    if not (log.crosses_processes or _serves_here() or under_test()):
        raise ConfigurationError(
            f"{type(log).__name__} keeps its topics in one process, and this one has not served a request: nobody could follow "
            "what is published here. Publish from the server's own process, or set AGENT_SSE['EVENT_LOG'] to a log that "
            "crosses processes. Nothing was appended"
        )


def _serves_here() -> bool:
    """Whether this process is a server: it had a request, or has made an ASGI application, as before it has its first one."""
    return _current.serves or "django.core.asgi" in sys.modules


def _serves(**_: object) -> None:
    _current.serves = True


def _forget(*, setting: str, **_: object) -> None:
    if setting == "AGENT_SSE":
        reset()


request_started.connect(_serves, dispatch_uid="django_agent_sse.eventlog.serves")
setting_changed.connect(_forget, dispatch_uid="django_agent_sse.eventlog")
