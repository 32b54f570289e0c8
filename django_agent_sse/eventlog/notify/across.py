"""Which way a process has to the others: a channel layer where one is configured, else what the log's own database offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from ...runtime.under_test import under_test
from ..base import EventLog
from .channel_layer import ChannelLayerNotifier, layer_configured
from .postgresql import PostgresNotifier
from .remote import PendingTopics, RemoteNotifier
from .sqlite import SqliteWatcher


class Way(NamedTuple):
    """A way to other processes."""

    kind: type[RemoteNotifier]
    alias: str = ""
    """The name in ``DATABASES``, where it is a database."""

    def begin(
        self,
        pending: PendingTopics,
        followed: Callable[[], set[str]],
        on_notify: Callable[[set[str]], object],
        hurry: Callable[[], object],
    ) -> RemoteNotifier:
        """Return what goes this way: see ``ChannelLayerNotifier`` and ``PostgresNotifier`` for the arguments."""
        if self.kind is PostgresNotifier:
            return PostgresNotifier(self.alias, pending, followed, hurry)
        if self.kind is SqliteWatcher:
            return SqliteWatcher(self.alias, pending, followed, hurry)
        return ChannelLayerNotifier(pending, followed, on_notify)


def way_to_others(log: EventLog | None) -> Way | None:
    """Return the way for a log; ``None`` where there is the poll alone."""
    if layer_configured():
        return Way(ChannelLayerNotifier)
    alias = log.notify_alias if log is not None else None
    if alias is None or _in_tests():
        return None
    try:
        connection = connections[alias]
    except (ConnectionDoesNotExist, ImproperlyConfigured):  # whoever asks the log is told
        return None
    if connection.vendor == "postgresql":
        return Way(PostgresNotifier, alias)
    if connection.vendor == "sqlite" and not connection.is_in_memory_db():  # type: ignore[attr-defined]
        return Way(SqliteWatcher, alias)
    return None


def _in_tests() -> bool:
    """Whether a test runner would find a connection of ours in the database that it wants to drop."""
    # Django's runner and pytest-django set up both; an outbox alone is there as well wherever locmem is the way for mail.
    return under_test() or (hasattr(mail, "outbox") and "testserver" in settings.ALLOWED_HOSTS)
