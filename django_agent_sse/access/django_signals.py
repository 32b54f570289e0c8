"""Django's signals: what changes for a user or a session is told to every process, when it commits.

What they say nothing of is found when the guards are asked again: ``QuerySet.update()``, raw SQL, sessions that a cache forgets.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.signed_cookies import SessionStore as InTheCookie
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.utils import timezone
from django.utils.connection import ConnectionDoesNotExist

from .. import conf
from ..eventlog.backend import event_log
from ..exceptions import AgentSSEError, ConfigurationError
from ..runtime.backoff import Backoff
from ..runtime.pools import writers
from ..runtime.process import PerProcess, on_exit
from .identity import SESSION_USER, session_text, text_of, user_text
from .orders import AccessOrder, Close, Recheck, in_parts
from .service import access

logger = logging.getLogger("django_agent_sse.access")

PAUSE = 0.25
"""Seconds between two tellings of this process, at least: what changes meanwhile is told together, so that a site that saves a
user with every request appends four events a second. On SQLite each change is told by itself, where it was made."""
RETRIES = 1.0, 3.0
"""Seconds until what the log could not take is told again, at first and at most: soon after it is back again."""
MOST_UNDELIVERED = 100
"""Orders that wait for the log; where there would be more, everybody is asked about instead, and the ends are put together."""
MOST_ENDED = 10_000
"""Users and sessions whose ends wait for the log then, those that came first; a megabyte or so."""
UNIMPORTANT = frozenset({"last_login"})
"""Fields of a user that say nothing about what they may see; Django saves this one at each log-in."""


class _Changes:
    """What has changed in one transaction, told together when it has committed."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.sessions: set[str] = set()
        self.signed_out: set[str] = set()
        self.leaving: set[str] = set()
        self.everybody = False

    def add(
        self,
        users: Iterable[str] = (),
        sessions: Iterable[str] = (),
        signed_out: Iterable[str] = (),
        leaving: Iterable[str] = (),
        everybody: bool = False,
    ) -> None:
        self.users.update(filter(None, users))
        self.sessions.update(filter(None, sessions))
        self.signed_out.update(filter(None, signed_out))
        self.leaving.update(filter(None, leaving))
        self.everybody |= everybody

    def __call__(self) -> None:
        teller.tell(self)

    def orders(self) -> Iterator[AccessOrder]:
        for sessions in in_parts(self.signed_out):
            yield Close(sessions=sessions)
        for users in in_parts(self.leaving):
            yield Close(users=users)
        if self.everybody:
            yield Recheck(everybody=True)
            return
        for users in in_parts(self.users):
            yield Recheck(users=users)
        for sessions in in_parts(self.sessions):
            yield Recheck(sessions=sessions)


class Teller(PerProcess):
    """Tells what has changed: at once, and where changes come one after another, ``PAUSE`` seconds' worth together."""

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting = _Changes()
        self._timer: threading.Timer | None = None
        self._told_at = -math.inf
        self._undelivered: list[AccessOrder] = []
        self._retry = Backoff(*RETRIES)
        self._retrying = False

    def tell(self, changes: _Changes) -> None:
        with self._lock:
            self._waiting.add(**vars(changes))
            if self._timer is not None:
                return  # it takes this along
            pause = self._told_at + PAUSE - time.monotonic()
            if pause > 0 and not _is_told_to_sqlite():
                self._timer = _later(pause, self.flush)
                if self._timer is not None:
                    return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:  # a signal that was sent on an event loop, which must not wait for the log
            writers.submit(self.flush)

    def flush(self) -> None:
        """Tell what waits, also what the log could not take before; blocks, and never fails."""
        with self._lock:
            waiting, self._waiting, self._timer = self._waiting, _Changes(), None
            self._told_at = time.monotonic()
        told = [*waiting.orders()]
        for order in told:
            access.execute(order)
        if told or self._undelivered:
            self._publish(told)

    def _publish(self, told: Sequence[AccessOrder] = ()) -> None:
        """Tell other processes, also of what the log could not take before."""
        with self._lock:
            orders, self._undelivered = [*self._undelivered, *told], []
            if not told:
                self._retrying = False
        while orders and not access.publish_quietly(orders[0]):
            del orders[0]
        with self._lock:
            if not orders:
                self._retry.reset()
                return
            orders += self._undelivered
            self._undelivered = orders if len(orders) <= MOST_UNDELIVERED else _together(orders)
            if not self._retrying:
                self._retrying = _later(self._retry.next(), self._publish) is not None


def _together(orders: Iterable[AccessOrder]) -> list[AccessOrder]:
    """Return orders that do what these do, and more: everybody is asked about.

    Who has signed out is named all the same, since guards find nothing where sessions are in signed cookies.
    """
    ends = [order for order in orders if isinstance(order, Close) and not (order.route or order.topic)]
    users = dict.fromkeys(name for order in ends if not order.sessions for name in order.users)
    sessions = dict.fromkeys(name for order in ends if not order.users for name in order.sessions)
    if len(users) + len(sessions) > MOST_ENDED:
        logger.error(
            "the event log has been away for so many log-outs that other processes are told of the first %d, and only ask the "
            "guards of all other streams",
            MOST_ENDED,
        )
    first = [*islice(users, MOST_ENDED)]
    return [
        Recheck(everybody=True),
        *(Close(users=some) for some in in_parts(first)),
        *(Close(sessions=some) for some in in_parts(islice(sessions, MOST_ENDED - len(first)))),
    ]


def _is_told_to_sqlite() -> bool:
    """Whether the log is in a database with one writer.

    Another thread that writes meanwhile would be that one, and a transaction of the project's own that has read something before
    it writes would fail: "database is locked", in a command that nobody shares the database with.
    """
    try:
        log = event_log()
        return log.transactional and connections[log.alias].vendor == "sqlite"
    except (AgentSSEError, ConnectionDoesNotExist):  # a check says it
        return False


def _later(seconds: float, do: Callable[[], None]) -> threading.Timer | None:
    timer = threading.Timer(seconds, writers.submit, [do])
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # the interpreter ends, or there are too many threads
        return None
    return timer


teller = Teller()
on_exit(teller.flush, twice=True)


def connect() -> None:
    """Listen to the signals of the project's models, which are loaded. ``AGENT_SSE["RECHECK_ON_SIGNALS"]`` switches it off."""
    given = getattr(settings, "AGENT_SSE", {})
    if isinstance(given, dict) and given.get("RECHECK_ON_SIGNALS", True) is False:
        return  # with a receiver Django deletes rows one by one, as it does not otherwise
    if apps.is_installed("django.contrib.auth"):
        _connect_auth()
    if apps.is_installed("django.contrib.sessions") and (session := _session_model()) is not None:
        _connect_all(post_delete, _session_deleted, session)


def _connect_all(signal: Any, receiver: Any, base: Any) -> None:
    """Connect a model with its proxies and children, which send signals of their own."""
    for model in apps.get_models():
        if issubclass(model._meta.concrete_model or model, base._meta.concrete_model):
            _connect(signal, receiver, model)


def _connect(signal: Any, receiver: Any, sender: Any) -> None:
    signal.connect(receiver, sender=sender, dispatch_uid=f"django_agent_sse.access.{receiver.__name__}")


def _connect_auth() -> None:
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group, Permission
    from django.contrib.auth.signals import user_logged_out

    project: Any = get_user_model()
    _connect_all(post_save, _user_saved, project)
    _connect_all(post_delete, _user_deleted, project)
    for field in _fields_of_rights(project):
        through = field.remote_field.through
        _connect(m2m_changed, _users_rights_changed, through)
        if not through._meta.auto_created:  # a model of the project's own, whose rows send signals of their own
            _connect_all(post_save, _users_right_saved, through)
            _connect_all(post_delete, _users_right_deleted, through)
    _connect(m2m_changed, _rights_changed, Group.permissions.through)
    _connect_all(post_delete, _right_deleted, Group)
    _connect_all(post_delete, _right_deleted, Permission)
    _connect(user_logged_out, _logged_out, None)


def _fields_of_rights(project: Any) -> list[Any]:
    """Return the fields of the project's users that hold their groups and their permissions."""
    return [field for field in project._meta.many_to_many if field.name in ("groups", "user_permissions")]


def _session_model() -> Any:
    """Return the model that keeps sessions, where one does."""
    try:
        store: Any = import_module(settings.SESSION_ENGINE).SessionStore
        return store.get_model_class()
    except (AttributeError, ImportError, ImproperlyConfigured, RuntimeError):
        return None


# Receivers


def _user_saved(
    sender: Any, instance: Any, created: bool, using: str, update_fields: Iterable[str] | None = None, **_: Any
) -> None:
    if not created and (update_fields is None or not UNIMPORTANT.issuperset(update_fields)):
        _change(using, users=[user_text(instance)])


def _user_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    _change(using, users=[user_text(instance)])


def _users_rights_changed(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: set[Any] | None, using: str, **_: Any
) -> None:
    if not action.startswith("post_"):
        return
    if not reverse:
        _change(using, users=[user_text(instance)])
    elif pk_set is None:
        _change(using, everybody=True)
    elif pk_set:
        _change(using, users=[text_of(model, pk) for pk in pk_set])


def _users_right_saved(sender: Any, instance: Any, created: bool, using: str, **_: Any) -> None:
    if created:
        _users_right_deleted(sender, instance, using)
    else:  # it may have been somebody else's
        _change(using, everybody=True)


def _users_right_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    from django.contrib.auth import get_user_model

    project: Any = get_user_model()
    for field in _fields_of_rights(project):
        if isinstance(instance, field.remote_field.through):
            user = instance._meta.get_field(field.m2m_field_name())
            if user.target_field.primary_key:
                _change(using, users=[text_of(project, getattr(instance, user.attname))])
            else:
                _change(using, everybody=True)


def _rights_changed(sender: Any, action: str, pk_set: set[Any] | None, using: str, **_: Any) -> None:
    if action.startswith("post_") and (pk_set is None or pk_set):
        _change(using, everybody=True)


def _right_deleted(sender: Any, using: str, **_: Any) -> None:
    _change(using, everybody=True)


def _session_deleted(sender: Any, instance: Any, using: str, **_: Any) -> None:
    if instance.expire_date <= timezone.now():  # its streams have ended
        return
    # Guards may go by what else a project keeps in a session. One with nothing but Django's own goes with each log-in.
    if any(name == SESSION_USER or not name.startswith("_") for name in instance.get_decoded()):
        _change(using, sessions=[session_text(instance.session_key)])


def _logged_out(sender: Any, request: Any, user: Any, **_: Any) -> None:
    session = getattr(request, "session", None)
    if isinstance(session, InTheCookie):  # nothing of it is here to be gone, and each answer gives it another key
        _change(None, leaving=[user_text(user)])
    elif key := getattr(session, "session_key", None):
        # Where nobody was signed in by Django, who may see what may hang on something else that is flushed now.
        _change(None, **{"sessions" if user is None else "signed_out": [session_text(key)]})


def _change(using: str | None, **what: Any) -> None:
    try:
        if not conf.setting("RECHECK_ON_SIGNALS"):
            return
    except ConfigurationError:  # a check says it, and every request for a stream
        return
    connection = None if using is None else connections[using]
    if connection is None or not connection.in_atomic_block:
        changes = _Changes()
        changes.add(**what)
        changes()
        return
    # A savepoint that is rolled back takes its own changes along; ``None`` stands for a block without one.
    registered: list[Any] = connection.run_on_commit
    savepoints, waiting, _ = registered[-1] if registered else (set(), None, None)
    if not isinstance(waiting, _Changes) or {*savepoints, None} != {*connection.savepoint_ids, None}:
        connection.on_commit(waiting := _Changes(), robust=True)
    waiting.add(**what)
