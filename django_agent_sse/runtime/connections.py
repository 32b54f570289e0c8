"""Database connections of our own threads: clean when they are taken, seen while they are in use, and passed on clean.

Django keeps connections by thread. One of our threads meets one stream after another, and what a stream did to a connection
(``SET ROLE``, a tenant, an open cursor, an attribute on Django's wrapper) no other one may meet. So between two users of a thread
its wrappers go, and with them the connections: a PostgreSQL connection is reset in one round trip, as by ``DISCARD ALL``, and
given to the next wrapper as Django's own pool would do it; any other one is closed.

What is used of Django beyond its documentation is pinned by ``tests/connections/``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .database_drivers import Kept, can_be_reset, close, in_transaction, pooled, set_up_pooled

Prepare: TypeAlias = Callable[[BaseDatabaseWrapper], object]


class _Thread(threading.local):
    own: OwnConnections | None = None
    """Those of the running thread, where it is one of ours."""


_thread = _Thread()


class OwnConnections:
    """The connections of one of our threads; used on that thread only, but for ``wake``.

    Args:
        wake: Called, from any thread and at any moment, when an iterator over rows has ended.
        cleans_pooled: Whether what comes from Django's connection pool is reset before it is used: others put it there.
        commits: Whether each statement commits by itself, whatever ``AUTOCOMMIT`` says: nobody else would commit it.
    """

    def __init__(self, wake: Callable[[], object] | None = None, *, cleans_pooled: bool = True, commits: bool = False) -> None:
        self._wake = wake
        self._commits = commits
        self._cleans_pooled = cleans_pooled
        self._prepare: Prepare | None = None
        self._preparing = False
        self._in_session: set[str] = set()
        self._open: dict[str, Kept] = {}
        self._kept: dict[str, Kept] = {}
        self._cursors: set[weakref.ref[Any]] = set()

    def enter(self) -> None:
        """Make these the connections of the running thread, for as long as it lives."""
        _watch_django()
        _thread.own = self

    def begin(self, prepare: Prepare | None) -> None:
        """Somebody else uses the thread now: ``prepare`` is called with each of Django's wrappers before it is first used."""
        self._prepare = prepare

    # While they are used

    @property
    def busy(self) -> bool:
        """Whether a transaction is open, or somebody is in the middle of a query's rows."""
        return bool(self._cursors) or any(map(in_transaction, connections.all(initialized_only=True)))

    def made(self, wrapper: BaseDatabaseWrapper) -> None:
        """Django has made a wrapper on this thread."""
        # Instance attributes over methods: the wrapper stays of the class that Django, a package or the project chose.
        wrapper.get_new_connection = partial(self._connect, wrapper, wrapper.get_new_connection)  # type: ignore[method-assign]
        wrapper.chunked_cursor = partial(self._chunked_cursor, wrapper.chunked_cursor)  # type: ignore[method-assign]
        if self._commits and not wrapper.settings_dict["AUTOCOMMIT"]:
            wrapper.settings_dict = {**wrapper.settings_dict, "AUTOCOMMIT": True}  # else Django's own, which test runners change
        if self._prepare is None:
            return
        # Django registers it only after this returns; what prepares it may ask for it by its alias.
        connections[wrapper.alias] = wrapper
        try:
            self._prepare_one(wrapper)
        except BaseException:
            self._drop(wrapper, keep=False)
            raise

    def connected(self, wrapper: BaseDatabaseWrapper) -> None:
        """A wrapper has connected: what it was prepared with in its first session must be in this one."""
        if wrapper.alias not in self._in_session or self._preparing:
            return
        try:
            self._prepare_one(wrapper)
        except BaseException:
            close(wrapper)  # or it would be used as it is
            raise

    def _prepare_one(self, wrapper: BaseDatabaseWrapper) -> None:
        assert self._prepare is not None
        self._preparing = True
        try:
            self._prepare(wrapper)
        finally:
            self._preparing = False
        if wrapper.connection is not None:
            self._in_session.add(wrapper.alias)

    def _connect(self, wrapper: BaseDatabaseWrapper, original: Callable[[Any], Any], params: Any) -> Any:
        # Django asks for a connection and gets the one that the user before has left, reset: connecting to PostgreSQL costs some
        # milliseconds, a reset one round trip. What connecting sets on the wrapper is set on this one too.
        kept = self._kept.pop(wrapper.alias, None)
        if kept is not None and kept.is_fit():
            vars(wrapper).update(kept.attributes)
        else:
            before = set(vars(wrapper))
            raw = original(params)
            if not can_be_reset(wrapper, raw):
                return raw
            if pooled(wrapper) and self._cleans_pooled:
                try:
                    _make_clean(wrapper, raw)
                except Exception:
                    raw = original(params)  # the pool has had one that was broken; two in a row are the caller's error
                    _make_clean(wrapper, raw)
            kept = Kept(raw, {name: value for name, value in vars(wrapper).items() if name not in before})
        self._open[wrapper.alias] = kept
        return kept.raw

    def _chunked_cursor(self, original: Callable[[], Any]) -> Any:
        # The rows of a query that are read in pieces, as by iterator() and aiterator(). Weakly: a loop that breaks off closes
        # nothing, and the collector alone tells that the rows are no longer wanted.
        cursor = original()
        known = weakref.ref(cursor, self._forget)
        self._cursors.add(known)
        finish = cursor.close

        def close() -> None:
            if known in self._cursors:  # else the connection is no longer this user's
                try:
                    finish()
                except Exception:
                    if known in self._cursors:  # else it was let go of in the middle of this, by the thread that cleans
                        raise
                finally:
                    self._forget(known)

        cursor.close = close
        return cursor

    def _forget(self, known: weakref.ref[Any]) -> None:
        """Also called by the garbage collector, in whatever thread: no lock may be needed here."""
        self._cursors.discard(known)
        if self._wake is not None:
            self._wake()

    # When they are not

    def give_pooled_back(self) -> None:
        """Give back what came from Django's connection pool, unless it is in the middle of something; others wait for it."""
        from_pools = [wrapper for wrapper in connections.all(initialized_only=True) if pooled(wrapper)]
        if from_pools and not self.busy:
            for wrapper in from_pools:
                self._drop(wrapper, keep=True)

    def clean(self, *, keep: bool = True) -> None:
        """Let everything go that was done to connections; clean ones are kept for whoever is next."""
        keep = keep and not self._cursors  # or a late end of the iterator would run in somebody else's session
        self._cursors.clear()  # before they are closed: the event loop may end an iterator meanwhile
        for wrapper in connections.all(initialized_only=True):
            self._drop(wrapper, keep=keep)
        self._in_session.clear()
        self._prepare = None
        for alias in [alias for alias, kept in self._kept.items() if kept.is_old(alias)]:
            self._kept.pop(alias).raw.close()

    def close(self) -> None:
        """Close all of them: the thread ends, or has nothing to do."""
        self.clean(keep=False)
        for kept in self._kept.values():
            kept.raw.close()
        self._kept.clear()

    def _drop(self, wrapper: BaseDatabaseWrapper, *, keep: bool) -> None:
        kept = self._open.pop(wrapper.alias, None)
        self._in_session.discard(wrapper.alias)
        del connections[wrapper.alias]  # attributes that a package has set on it (tenant, schema_name) go with it
        if wrapper.connection is None:
            return
        as_new = keep and kept is not None and kept.raw is wrapper.connection and kept.reset(wrapper)
        if pooled(wrapper):
            _give_pooled_back(wrapper, as_new)
        elif as_new and kept is not None and not kept.is_old(wrapper.alias):
            wrapper.connection = None
            self._kept[wrapper.alias] = kept
        else:
            close(wrapper)


def _make_clean(wrapper: BaseDatabaseWrapper, raw: Any) -> None:
    """Make one of the pool as new; where that fails it is given back, closed: else the pool would count it as lent for good."""
    try:
        set_up_pooled(wrapper, raw)
    except BaseException:
        raw.close()
        wrapper.connection = raw
        close(wrapper)
        raise


def _give_pooled_back(wrapper: BaseDatabaseWrapper, as_new: bool) -> None:
    """Whoever gets it next is a stranger: what cannot be made clean is closed, and the pool makes another."""
    if as_new:
        try:
            wrapper._configure_connection(wrapper.connection)  # type: ignore[attr-defined]
        except Exception:
            as_new = False
    if not as_new:
        wrapper.connection.close()
    close(wrapper)


def _watch_django() -> None:
    """Learn of wrappers and connections that Django makes on our threads; of others nothing."""
    global _make
    with _installing:
        if _make is None:
            _make = connections.create_connection
            connections.create_connection = _create_connection  # type: ignore[method-assign]
            connection_created.connect(_connected, dispatch_uid="django_agent_sse.connections")


_make: Callable[[str], BaseDatabaseWrapper] | None = None
_installing = threading.Lock()


def _create_connection(alias: str) -> BaseDatabaseWrapper:
    assert _make is not None
    wrapper = _make(alias)
    if (own := _thread.own) is not None:
        own.made(wrapper)
    return wrapper


def _connected(connection: BaseDatabaseWrapper, **_: object) -> None:
    if (own := _thread.own) is not None:
        own.connected(connection)


def give_pooled_back() -> None:
    """Give back what this thread, one of our own, has of Django's connection pool; see ``OwnConnections``."""
    if (own := _thread.own) is not None:
        own.give_pooled_back()


def give_connections_back() -> None:
    """Close the database connections of this thread, which then holds none."""
    if (own := _thread.own) is not None:
        return own.close()
    for connection in connections.all(initialized_only=True):
        connection.close()
        if connection.connection is not None and not (connection.in_atomic_block or connection.allow_thread_sharing):
            BaseDatabaseWrapper.close(connection)
    return None
