"""The tables of ``DatabaseEventLog``, and what Django's admin and its permissions need a model for."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import ExactField


class _Nothing(models.Manager[Any]):
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class AdminPage(models.Model):
    """A page of the admin without a table: its place in the index, and the permission to see it.

    Never has rows, and never asks the database for any: ``dumpdata`` reads unmanaged models too.
    """

    objects: models.Manager[Any] = _Nothing()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self._meta.verbose_name_plural)


class KeyValueStore(AdminPage):
    """The page "Key-value store"."""

    class Meta(AdminPage.Meta):
        verbose_name = _("key-value store")
        verbose_name_plural = _("key-value store")


class LogTopic(models.Model):
    """One topic. Its row is also the lock: who changes anything of the topic updates it first.

    Attributes:
        floor: The newest offset that is no longer kept; it may lie inside a ``LogRow``.
        closed: Why it was closed; empty while it is open.
        total: Bytes that were ever appended.
        gone: Those up to ``floor``: the difference is what is kept.
        oldest_at: When the oldest event that is kept was appended, in seconds since 1970.
        appended_at: When the newest one was.
    """

    name = ExactField(max_length=200)
    epoch = models.CharField(max_length=8)
    floor = models.BigIntegerField(default=0)
    top = models.BigIntegerField(default=0)
    closed = models.CharField(max_length=200, default="")
    total = models.BigIntegerField(default=0)
    gone = models.BigIntegerField(default=0)
    oldest_at = models.FloatField()
    appended_at = models.FloatField()

    class Meta:
        default_permissions = ("view", "delete")
        permissions = (
            ("view_payloads", "Can see what is in topics, and the ids that handlers write"),
            ("publish_logtopic", "Can publish to topics"),
            ("stop_logtopic", "Can stop the runs that write topics"),
            ("close_logtopic", "Can close topics"),
            ("trim_logtopic", "Can trim topics"),
        )
        verbose_name = _("topic")
        verbose_name_plural = _("topics")
        constraints = (models.UniqueConstraint(fields=("name",), name="agent_sse_topic_name"),)

    def __str__(self) -> str:
        return str(self.name)


class LogRow(models.Model):
    """The events of one append, or a part of them where they are many.

    Attributes:
        last: The offset of the last of them.
        events: How many they are.
        total: Bytes of the topic up to ``last``: with it, bytes are found by halving, as offsets are.
        payload: See ``eventlog.database.serialization``.
    """

    # No constraint, no index of its own: rows are only reached by (topic, last), under the topic's lock.
    topic = models.ForeignKey(LogTopic, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    last = models.BigIntegerField()
    events = models.IntegerField()
    total = models.BigIntegerField()
    at = models.FloatField()
    payload = models.TextField()

    class Meta:
        default_permissions = ()
        verbose_name = _("events of a topic")
        verbose_name_plural = _("events of topics")
        constraints = (models.UniqueConstraint(fields=("topic", "last"), name="agent_sse_row_last"),)

    def __str__(self) -> str:
        return f"{self.topic_id}: {self.last - self.events + 1} to {self.last}"


class LogMark(models.Model):
    """Events of a row of ``LogRow`` that have errors or warnings, or take lines back: a table of its own, as most do not.

    A topic all of whose events were looked at has one with 0 everywhere.

    Attributes:
        first: The offset of the first of them.
        last: The offset of the last one.
        errors: Lines in it that are errors.
        warnings: Lines in it that are warnings.
        taken: Lines before it that are taken back.
        taken_errors: Those of them that are errors.
        taken_warnings: Those of them that are warnings.
    """

    topic = models.ForeignKey(LogTopic, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    errors = models.IntegerField()
    warnings = models.IntegerField()
    taken = models.IntegerField()
    taken_errors = models.IntegerField()
    taken_warnings = models.IntegerField()

    class Meta:
        default_permissions = ()
        verbose_name = _("mark of a topic")
        verbose_name_plural = _("marks of topics")
        constraints = (models.UniqueConstraint(fields=("topic", "last"), name="agent_sse_mark_last"),)

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


class LogKey(models.Model):
    """An idempotency key that was used: a table of its own, so that it outlives the events.

    Attributes:
        digest: Of the key, which may hold characters that a database does not take.
        first: The offset of the first event that it named.
        last: The offset of the last one.
        at: When, in seconds since 1970.
    """

    topic = models.ForeignKey(LogTopic, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    digest = models.CharField(max_length=32)
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    at = models.FloatField()

    class Meta:
        default_permissions = ()
        verbose_name = _("key of a topic")
        verbose_name_plural = _("keys of topics")
        constraints = (models.UniqueConstraint(fields=("topic", "digest"), name="agent_sse_key_digest"),)
        indexes = (models.Index(fields=("topic", "at"), name="agent_sse_key_at"),)

    def __str__(self) -> str:
        return f"{self.topic_id}: {self.digest}"


class TopicLease(models.Model):
    """Who works on a topic. A table of its own: a topic without a lease costs nothing, and renewing one waits for no lock.

    It is written under the topic's lock, but for a renewal and a request to stop, which are one statement each.

    Attributes:
        deadline: When it runs out, in seconds since 1970 by the clock of the database; 0 once the topic is closed.
        stop: The holder was asked to stop.
        last: What the topic ends with if it runs out: see ``eventlog.database.serialization``.
    """

    name = ExactField(max_length=200)
    holder = ExactField(max_length=200)
    deadline = models.FloatField()
    stop = models.BooleanField(default=False)
    last = models.TextField()

    class Meta:
        default_permissions = ()
        verbose_name = _("lease of a topic")
        verbose_name_plural = _("leases of topics")
        constraints = (models.UniqueConstraint(fields=("name",), name="agent_sse_lease_name"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"


class TopicPointer(models.Model):
    """A name that leads to a topic, as that of a chat to its present run.

    Attributes:
        at: When it was moved, in seconds since 1970.
    """

    name = ExactField(max_length=200)
    topic = ExactField(max_length=200)
    at = models.FloatField()

    class Meta:
        default_permissions = ()
        verbose_name = _("pointer to a topic")
        verbose_name_plural = _("pointers to topics")
        constraints = (models.UniqueConstraint(fields=("name",), name="agent_sse_pointer_name"),)
        indexes = (models.Index(fields=("at",), name="agent_sse_pointer_at"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.topic}"


class TopicNote(models.Model):
    """Something about a name of a topic that is no part of the topic: that somebody follows it, or that it was deleted.

    A table of its own: noting it waits for no transaction that holds the topic's row, and outlives that row.

    Attributes:
        kind: What: see ``eventlog.notes``.
        at: When, in seconds since 1970.
    """

    name = ExactField(max_length=200)
    kind = models.CharField(max_length=8)
    at = models.FloatField()

    class Meta:
        default_permissions = ()
        verbose_name = _("note about a topic")
        verbose_name_plural = _("notes about topics")
        constraints = (models.UniqueConstraint(fields=("name", "kind"), name="agent_sse_note_name"),)
        indexes = (models.Index(fields=("kind", "at"), name="agent_sse_note_at"),)

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}"
