"""Rows that nobody can read any more, deleted in steps: no transaction holds a topic, or all of SQLite, for long.

A topic that ends, or a floor that moves far, is one short transaction, which leaves a note. Whoever left it deletes the rows
afterwards; of one that died, whoever sweeps next.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from django.db import connections
from django.db.models import QuerySet

from ...exceptions import EventLogUnavailable
from ...models import LogKey, LogMark, LogRow, LogTopic, TopicNote
from ...runtime.pools import writers
from .transactions import read, write

logger = logging.getLogger("django_agent_sse.eventlog")

SWEPT: Final = "rows"
"""The kind of the notes. Their names are the numbers of topics, of which rows up to the floor go, or all where it is gone."""
STEP_ROWS: Final = 1_000
"""Rows that go in one transaction."""
STEP_BYTES: Final = 8_388_608
"""Bytes of events in them, unless one row has more."""
LONGEST_PAUSE: Final = 0.1
CLAIM_SECONDS: Final = 60.0
"""A note whose sweeper has not moved on for so long is another's to sweep."""


class Sweeper:
    """Notes what is to be deleted in one database, and deletes it.

    Args:
        alias: The name in ``DATABASES``.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias

    @property
    def _notes(self) -> QuerySet[TopicNote]:
        return TopicNote._default_manager.using(self._alias).filter(kind=SWEPT)

    def _of(self, model: Any, topic: int) -> QuerySet[Any]:
        objects: QuerySet[Any] = model._default_manager.using(self._alias)
        return objects.filter(topic=topic)

    def leave(self, topic: int) -> None:
        """Note, in the transaction that ends a topic or moves its floor, that rows of it are to be deleted."""
        target = connections[self._alias].features.supports_update_conflicts_with_target
        TopicNote._default_manager.using(self._alias).bulk_create(
            [TopicNote(name=str(topic), kind=SWEPT, at=0.0)],
            update_conflicts=True,
            update_fields=["at"],
            unique_fields=["name", "kind"] if target else None,
        )

    def sweep(self) -> None:
        """Delete what was noted, in transactions of their own, and wait for that.

        Never raises: the topic has ended, or was trimmed, before this. Where the database fails the next sweep does the rest.
        """
        steps = self._steps()
        while _has_more(steps):
            pass

    def sweep_soon(self) -> None:
        """The same on the threads that write, between other work of theirs, where nobody waits for it."""
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            writers.submit(self._go_on, self._steps())

    def _go_on(self, steps: Iterator[None]) -> None:
        if _has_more(steps):
            with contextlib.suppress(RuntimeError):
                writers.submit(self._go_on, steps)

    def _steps(self) -> Iterator[None]:
        """Yield after each transaction, and after a pause as long as it took, in which others can write."""
        unclaimed = self._notes.filter(at__lte=time.time() - CLAIM_SECONDS)
        for name in read(self._alias, lambda: [*unclaimed.values_list("name", flat=True)]):
            done: tuple[float, int] | None = (0.0, 0)
            while done is not None:
                began = time.monotonic()
                done = write(self._alias, self._step, name, *done)
                time.sleep(min(LONGEST_PAUSE, time.monotonic() - began))
                yield

    def _step(self, name: str, claimed: float, after: int) -> tuple[float, int] | None:
        """Delete the oldest rows of a topic; return when that was and up to where, ``None`` where no more is to be done here.

        Looks for none up to ``after``, where they are gone: PostgreSQL would pass over all of them again until a vacuum.
        """
        now = max(time.time(), claimed + 0.001)
        note = self._notes.filter(name=name)
        mine = note.filter(at=claimed) if claimed else note.filter(at__lte=now - CLAIM_SECONDS)
        if not mine.update(at=now):  # or it was left again: another floor, another sweep
            return None
        topic = int(name)
        floor = LogTopic._default_manager.using(self._alias).filter(pk=topic).values_list("floor", flat=True).first()
        rows, marks, newest = self._of(LogRow, topic).filter(last__gt=after), self._of(LogMark, topic), None
        gone: dict[str, int] = {}
        if floor is not None:
            marks, gone = marks.filter(last__gt=0), {"last__lte": floor}
        first = rows.filter(**gone).order_by("last").values_list("total", flat=True).first()
        if first is not None:
            newest = _delete_some(rows, "last", rows.filter(**gone, total__lte=first + STEP_BYTES))
        left = newest is not None
        left |= _delete_some(marks, "last", marks.filter(**gone)) is not None
        if floor is None:
            keys = self._of(LogKey, topic)
            left |= _delete_some(keys, "digest", keys) is not None
        if not left:
            note.filter(at=now)._raw_delete(self._alias)
        return (now, after if newest is None else newest) if left else None


def _delete_some(rows: QuerySet[Any], column: str, first: QuerySet[Any]) -> Any:
    """Delete the first of some rows by a column of their index; return where the last of them was, ``None`` without any.

    ``rows`` have no bound above: of two SQLite takes either to find rows by, and looks at each that it finds for the other.
    """
    values = [*first.order_by(column).values_list(column, flat=True)[:STEP_ROWS]]
    if values:
        rows.filter(**{f"{column}__lte": values[-1]})._raw_delete(rows.db)
    return values[-1] if values else None


def _has_more(steps: Iterator[None]) -> bool:
    """Take a step; return whether there may be another one."""
    try:
        return next(steps, False) is None
    except EventLogUnavailable as error:
        logger.warning("what nobody can read any more is not deleted yet; the next trim or deletion does it: %s", error)
        return False
