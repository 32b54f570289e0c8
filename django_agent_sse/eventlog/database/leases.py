"""The tables of leases and of pointers in one database: every query of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import F, FloatField, Func, QuerySet, Value
from django.db.models.expressions import Combinable

from ...models import TopicLease, TopicPointer
from ..leases import Lease

CLOCKS = {"postgresql": "EXTRACT(EPOCH FROM CLOCK_TIMESTAMP())::double precision", "mysql": "(UNIX_TIMESTAMP(NOW(6)) + 0e0)"}
"""Seconds since 1970 by the server's clock, now and not when the transaction began."""


MOST_NAMES = 10_000
"""Names of one query, where the database does not say how many it takes."""


class LeaseRow(NamedTuple):
    """A lease as it was found, and the seconds that were left of it."""

    name: str
    holder: str
    deadline: float
    left: float
    stop: bool

    def shown(self) -> Lease:
        return Lease(holder=self.holder, deadline=self.deadline, left=self.deadline and self.left, stop=self.stop)


class LeaseStore:
    """The table of leases in one database. Deadlines are told by its own clock: those of machines may differ."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    @property
    def _now(self) -> Combinable:
        vendor = connections[self._alias].vendor
        if vendor in CLOCKS:
            return Func(template=CLOCKS[vendor], output_field=FloatField())
        return Value(time.time(), output_field=FloatField())  # SQLite is on this machine

    @property
    def _leases(self) -> QuerySet[TopicLease]:
        return TopicLease._default_manager.using(self._alias)

    def find(self, names: list[str]) -> Iterator[LeaseRow]:
        """Yield the leases of these topics."""
        for some in portions(self._alias, names):
            found = self._leases.filter(name__in=some).annotate(left=F("deadline") - self._now)
            yield from (LeaseRow(*row) for row in found.values_list(*LeaseRow._fields))

    def alive(self) -> QuerySet[TopicLease]:
        """Return the leases that have not run out."""
        return self._leases.filter(deadline__gt=self._now)

    def is_held(self, name: str, holder: str) -> bool:
        """Return whether this one holds the lease. Under the topic's lock it cannot be lost by anything but time."""
        return self.alive().filter(name=name, holder=holder).exists()

    def put(self, name: str, holder: str, seconds: float, last: str, *, stop: bool) -> None:
        """Write the lease of a locked topic."""
        about: dict[str, Any] = {"holder": holder, "deadline": self._now + Value(seconds), "last": last, "stop": stop}
        if not self._leases.filter(name=name).update(**about):
            self._leases.bulk_create([TopicLease(name=name, **about)])

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """Move the deadline of a lease that is held. One statement: it stands or falls with the row as it is then."""
        return self.alive().filter(name=name, holder=holder).update(deadline=self._now + Value(seconds)) > 0

    def request_stop(self, name: str, holder: str) -> bool:
        """Set the flag at the lease of this holder, where its work is not over."""
        return self._leases.filter(name=name, holder=holder, deadline__gt=0).update(stop=True) > 0

    def remove(self, names: list[str], holder: str | None = None) -> bool:
        """Remove leases; with ``holder`` only its own, where its work is not over."""
        removed = 0
        for some in portions(self._alias, names):
            found = self._leases.filter(name__in=some)
            if holder is not None:
                found = found.filter(holder=holder, deadline__gt=0)
            removed += found._raw_delete(self._alias)
        return removed > 0

    def end(self, name: str) -> None:
        """End the lease of a topic that is closed; its holder stays known."""
        self._leases.filter(name=name, deadline__gt=0).update(deadline=0.0)

    def last_words(self, name: str) -> str | None:
        """Return what the holder of a lease has left for its end."""
        return self._leases.filter(name=name).values_list("last", flat=True).first()

    def lapse(self, name: str, holder: str) -> bool:
        """End the lease of a locked topic if this holder's has run out."""
        lapsed = self._leases.filter(name=name, holder=holder, deadline__gt=0, deadline__lte=self._now)
        return lapsed.update(deadline=0.0) > 0


class PointerStore:
    """The table of pointers in one database."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    @property
    def _pointers(self) -> QuerySet[TopicPointer]:
        return TopicPointer._default_manager.using(self._alias)

    def find(self, name: str) -> str | None:
        """Return where a pointer leads."""
        return self._pointers.filter(name=name).values_list("topic", flat=True).first()

    def move(self, name: str, to: str | None, expect: str | None, now: float) -> str | None:
        """Move a pointer if it leads where it is expected to. Return where it leads then."""
        if expect is None and to is not None:
            self._pointers.bulk_create([TopicPointer(name=name, topic=to, at=now)], ignore_conflicts=True)
        elif to is None:
            self._pointers.filter(name=name, topic=expect)._raw_delete(self._alias)
        else:
            self._pointers.filter(name=name, topic=expect).update(topic=to, at=now)
        return self.find(name)

    def forget(self, oldest: float) -> None:
        """Remove those that were last moved before."""
        self._pointers.filter(at__lte=oldest)._raw_delete(self._alias)


def portions(alias: str, names: list[str]) -> Iterator[list[str]]:
    """Yield the names in portions that fit into one query, with a few other parameters."""
    most = (connections[alias].features.max_query_params or MOST_NAMES) - 2
    return (names[start : start + most] for start in range(0, len(names), most))
