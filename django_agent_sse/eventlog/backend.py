"""The event log of this process, as ``AGENT_SSE["EVENT_LOG"]`` says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any

from django.core.signals import request_started
from django.utils.module_loading import import_string

from .. import conf
from ..exceptions import AsyncRequired, ConfigurationError
from ..runtime.process import PerProcess
from ..runtime.under_test import under_test
from .base import EventLog
from .notify.local import EVERY_TOPIC, local_notifier
from .notify.notifier import notifier
from .outage import outage

_NAMES = re.compile(r"\w+(\.\w+)+")


class _ProcessLog(PerProcess):
    """Holds the log, which is made on first use, and again after ``reset()``, a change of the setting or a fork."""

    # After a fork too: what two processes would write to a copy of one memory would not agree.
    def reset(self) -> None:
        self._lock = threading.Lock()
        self._log: EventLog | None = None
        self.serves = False

    def get(self) -> EventLog:
        log = self._log
        if log is None:
            with self._lock:
                if made := self._log is None:
                    log = build_log(conf.setting("EVENT_LOG"))
                    # Where a log cannot notify other processes itself, the notifier does.
                    asked = log.crosses_processes and log.notifier is None
                    log.on_change = notifier.notify if asked else local_notifier.notify
                    self._log = log
                log = self._log
            if made:
                notifier.serve(log)
        return log


_process_log = _ProcessLog()


def event_log() -> EventLog:
    """Return the event log of this process.

    Raises:
        ConfigurationError: ``AGENT_SSE["EVENT_LOG"]`` names none, or gives it options that it does not take.
    """
    return _process_log.get()


def reset() -> None:
    """Forget the log of this process; the next use makes another one. Streams that follow topics go on there, after a gap."""
    serves = _process_log.serves
    _process_log.reset()
    _process_log.serves = serves
    outage.reset()
    local_notifier.notify(EVERY_TOPIC)


def build_log(value: object) -> EventLog:
    """Return a new log, as a value of ``AGENT_SSE["EVENT_LOG"]`` describes it.

    Raises:
        ConfigurationError: The value is not a description of a log.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("BACKEND"), str) or value.keys() - {"BACKEND", "OPTIONS"}:
        raise ConfigurationError(
            f"AGENT_SSE['EVENT_LOG'] is {conf.shown(value)}; it must be a dict {{'BACKEND': 'path.to.Class', 'OPTIONS': {{…}}}}"
        )
    try:
        backend: Any = import_string(value["BACKEND"])
    except RuntimeError as error:  # its tables need the app
        raise ConfigurationError(f"{value['BACKEND']} needs 'django_agent_sse' in INSTALLED_APPS: {error}") from error
    except (ImportError, ValueError) as error:
        why = error if _NAMES.fullmatch(value["BACKEND"]) else f"{conf.shown(value['BACKEND'])} is not the dotted path of a class"
        raise ConfigurationError(f"AGENT_SSE['EVENT_LOG']['BACKEND'] cannot be imported: {why}") from error
    if not (isinstance(backend, type) and issubclass(backend, EventLog)):
        raise ConfigurationError(f"AGENT_SSE['EVENT_LOG']['BACKEND'] is {conf.shown(value['BACKEND'])}, which is not an EventLog")
    options = value.get("OPTIONS", {})
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ConfigurationError(
            f"AGENT_SSE['EVENT_LOG']['OPTIONS'] is {conf.shown(options)}; it must be a dict of names and values"
        )
    return backend(**options)


def log_to_publish_to() -> EventLog:
    """Return the log of this process, unless nobody could ever read what it appends there.

    Raises:
        ConfigurationError: It keeps its topics in this process, which serves nothing; the message says what to do.
    """
    log = event_log()
    serves = _process_log.serves or "django.core.asgi" in sys.modules  # it had a request; or has an ASGI application and gets one
    if not (log.crosses_processes or serves or under_test()):
        raise ConfigurationError(
            f"{type(log).__name__} keeps its topics in one process, and this one has not served a request: nobody could follow "
            "what is published here. Publish from the server's own process, or set AGENT_SSE['EVENT_LOG'] to a log that "
            "crosses processes. Nothing was appended"
        )
    return log


def refuse_on_a_loop(verb: str, twin: bool = True) -> None:
    """Refuse a sync call where an event loop runs, unless ``DJANGO_ALLOW_ASYNC_UNSAFE`` allows it, as it allows the ORM.

    Args:
        verb: The name of the function.
        twin: Whether it has an async twin, whose name begins with an ``a``.

    Raises:
        AsyncRequired: An event loop runs here.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        instead = f"write `await a{verb}(…)`" if twin else f"write `await sync_to_async({verb})(…)`"
        raise AsyncRequired(f"{verb}() would hold up the event loop that runs here; {instead}. Nothing was done")


def _serves(**_: object) -> None:
    _process_log.serves = True


request_started.connect(_serves, dispatch_uid="django_agent_sse.eventlog.serves")
conf.on_change(reset)
