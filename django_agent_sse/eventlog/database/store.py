"""The rows of one database: every query of ``DatabaseEventLog``. Whoever changes anything of a topic has its lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from django.db import connections, router
from django.db.models import Case, F, Func, Q, QuerySet, Subquery, TextField, Value, When

from ...exceptions import EventLogUnavailable, EventUnreadable
from ...models import LogKey, LogRow, LogTopic
from ...wire.event import RESERVED, Event
from ..base import PAGE_BYTES
from ..position import new_epoch
from ..records import Appended, Head, Record
from ..validation import size_of
from .notes import DELETED, FOLLOWED, Notes, portions
from .serialization import pack, unpack

ROW_EVENTS = 256
ROW_BYTES = 262_144
"""An append of more becomes several rows: a reader who needs one event of it does not read all of them, and no statement that
inserts several is longer: drivers escape and copy a whole one before they send any of it, and hold up the process meanwhile.
"""
PARAMETERS = 90
"""PostgreSQL's ``concat()`` takes a hundred."""

Sized = list[tuple[Event, int]]


class Found(NamedTuple):
    """A topic as it was found; the fields are those of ``LogTopic``."""

    pk: int
    name: str
    epoch: str
    floor: int
    top: int
    closed: str
    total: int
    gone: int
    oldest_at: float
    appended_at: float


class Row(NamedTuple):
    """Some events, without them."""

    last: int
    events: int
    total: int
    at: float


class Rows:
    """The tables of one database."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self.notes = Notes(alias)

    @staticmethod
    def database() -> str:
        """The one that the project's routers write topics to."""
        return router.db_for_write(LogTopic)

    @property
    def _topics(self) -> QuerySet[LogTopic]:
        return LogTopic._default_manager.using(self._alias)

    def _rows(self, topic: Found) -> QuerySet[LogRow]:
        return LogRow._default_manager.using(self._alias).filter(topic=topic.pk)

    def _keys(self, topic: Found) -> QuerySet[LogKey]:
        return LogKey._default_manager.using(self._alias).filter(topic=topic.pk)

    # Topics

    def find(self, name: str) -> Found | None:
        """A topic as it is now."""
        found = self._topics.filter(name=name).values_list(*Found._fields).first()
        return None if found is None else Found(*found)

    def lock(self, name: str) -> Found | None:
        """The same, and nobody else changes it before the transaction ends. It writes, so SQLite gives the lock at once."""
        return self.find(name) if self._topics.filter(name=name).update(top=F("top")) else None

    def advance(self, name: str, count: int, size: int, now: float, expect: int | None) -> Found | None:
        """Lock the topic with its ``top`` moved on, if it is open and ends as expected; ``None`` where it is not so."""
        takes = self._topics.filter(name=name, closed="")
        if expect is not None:
            takes = takes.filter(top=expect)
        at = {"appended_at": now} if count else {}
        return self.find(name) if takes.update(top=F("top") + count, total=F("total") + size, **at) else None

    def make(self, name: str, now: float, closed: str = "") -> None:
        """Make a topic, if nobody else just has."""
        topic = LogTopic(name=name, epoch=new_epoch(), closed=closed, oldest_at=now, appended_at=now)
        self._topics.bulk_create([topic], ignore_conflicts=True)

    def close(self, name: str, reason: str) -> bool:
        """Close an open topic; whether there was one."""
        return self._topics.filter(name=name, closed="").update(closed=reason) > 0

    def delete(self, topic: Found) -> None:
        """Delete a topic that is locked."""
        # Not delete(): it would load every row where somebody listens to the deletion of every model.
        self._rows(topic)._raw_delete(self._alias)
        self._keys(topic)._raw_delete(self._alias)
        self._topics.filter(pk=topic.pk)._raw_delete(self._alias)

    def make_room(self, most: float, new: str, followed_since: float) -> list[str]:
        """Delete topics beyond ``most``, and return their names: closed ones first, then those longest without an event.

        The new one stays, and so do this package's own and those that are followed.
        """
        ours = Q(name__gte=RESERVED, name__lt=f"{RESERVED}\x7f")
        surplus = self._topics.exclude(ours).count() - most
        if surplus <= 0:
            return []
        followed = self.notes.since(FOLLOWED, followed_since).values("name")
        victims = self._topics.exclude(ours).exclude(name=new).exclude(name__in=followed)
        victims = victims.order_by(Case(When(closed="", then=Value(1)), default=Value(0)), "appended_at", "pk")
        if connections[self._alias].features.has_select_for_update_skip_locked:
            victims = victims.select_for_update(skip_locked=True)  # one that is being written to is none
        gone = [Found(*found) for found in victims.values_list(*Found._fields)[: int(surplus)]]
        for victim in gone:
            self.delete(victim)
        names = [victim.name for victim in gone]
        self.notes.forget(DELETED, names)
        return names

    def heads(self, names: list[str]) -> Iterator[tuple[str, Head, float]]:
        """Where topics are, and when they were last appended to: one query for as many as the database takes."""
        for some in portions(self._alias, names):
            found = self._topics.filter(name__in=some)
            for name, epoch, floor, top, closed, at in found.values_list(
                "name", "epoch", "floor", "top", "closed", "appended_at"
            ):
                yield name, Head(epoch, floor, top, closed or None), at

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """A page of names, sorted by their bytes."""
        found = self._topics.filter(name__gte=prefix, name__lt=f"{prefix}\x7f", name__gt=after)  # names are below DEL
        return [*found.order_by("name").values_list("name", flat=True)[:limit]]

    def clear(self) -> None:
        """Delete everything."""
        for model in (LogRow, LogKey, LogTopic):
            model._default_manager.using(self._alias).all()._raw_delete(self._alias)
        self.notes.clear()

    # Events

    def add(self, topic: Found, events: Sized, now: float) -> Appended:
        """Add rows for what ``advance`` has made room for."""
        first = topic.top - len(events) + 1
        last, total = topic.top - len(events), topic.total - sum(size for _, size in events)
        rows: list[LogRow] = []
        length = 0
        for part in _parts(events):
            last, total = last + len(part), total + sum(size for _, size in part)
            payload = pack(event for event, _ in part)
            length += len(payload)
            if rows and length > ROW_BYTES:
                self._rows(topic).bulk_create(rows)
                rows, length = [], len(payload)
            rows.append(LogRow(topic_id=topic.pk, last=last, events=len(part), total=total, at=now, payload=self._bound(payload)))
        self._rows(topic).bulk_create(rows)
        if events and first == topic.floor + 1 and topic.oldest_at != now:
            self._topics.filter(pk=topic.pk).update(oldest_at=now)
        return Appended(topic.epoch, first, topic.top)

    def _bound(self, payload: str) -> Any:
        """A large payload as several parameters where the driver escapes each in one step, with the interpreter's lock held."""
        if len(payload) <= 2 * ROW_BYTES or connections[self._alias].vendor != "postgresql":
            return payload
        step = max(ROW_BYTES, len(payload) // PARAMETERS + 1)
        pieces = [Value(payload[at : at + step]) for at in range(0, len(payload), step)]
        return Func(*pieces, function="CONCAT", output_field=TextField())

    def records(self, topic: Found, offset: int, limit: int) -> list[Record]:
        """Consecutive events after ``offset``, which is not below the floor; none where the topic has changed since."""
        after = self._rows(topic).filter(last__gt=offset).order_by("last")
        room = Subquery(after.values("total")[:1])
        found: list[Record] = []
        left = PAGE_BYTES
        for last, count, at, payload in after.filter(last__lte=topic.top, total__lte=room + PAGE_BYTES).values_list(
            "last", "events", "at", "payload"
        )[:limit]:
            first = last - count + 1
            if first > offset + 1:
                break
            try:
                events = self._unpacked(topic, last, count, payload)
            except EventUnreadable:
                if found:
                    break  # what comes before it can be read
                raise
            for event in events[offset + 1 - first :]:
                left -= size_of(event)
                if found and (left < 0 or len(found) >= limit):
                    return found
                offset += 1
                found.append(Record(offset, event, at))
        return found

    def row_after(self, topic: Found, offset: int) -> Row | None:
        """The row with the event after ``offset``."""
        found = self._rows(topic).filter(last__gt=offset).order_by("last").values_list(*Row._fields).first()
        return None if found is None else Row(*found)

    def last_where(self, topic: Found, goes: Callable[[Row], bool], after: int) -> int:
        """By halving, the offset up to which rows go: where one does, those before it do. ``after`` where none does."""
        low, high = after, topic.top
        while low < high:
            row = self.row_after(topic, (low + high) // 2)
            if row is None:
                raise _broken(topic, topic.top, "is missing")
            if goes(row):
                low = row.last
            else:
                high = row.last - row.events
        return low

    def sizes(self, topic: Found, row: Row) -> list[int]:
        """The sizes of a row's events."""
        payload = self._rows(topic).filter(last=row.last).values_list("payload", flat=True).first()
        return [size_of(event) for event in self._unpacked(topic, row.last, row.events, payload or "")]

    def bytes_until(self, topic: Found, offset: int, row: Row | None) -> int:
        """Bytes of the topic up to ``offset``, after which ``row`` goes on."""
        if row is None:
            return topic.total
        inside = offset - (row.last - row.events)
        return row.total - sum(self.sizes(topic, row)[inside:])

    def drop(self, topic: Found, floor: int) -> None:
        """Move the floor of a topic that is locked, and delete the rows that are wholly below it."""
        if floor <= topic.floor:
            return
        row = self.row_after(topic, floor)
        gone = self.bytes_until(topic, floor, row)
        self._rows(topic).filter(last__lte=floor)._raw_delete(self._alias)
        oldest = topic.appended_at if row is None else row.at
        self._topics.filter(pk=topic.pk).update(floor=floor, gone=gone, oldest_at=oldest)

    def lacks(self, topic: Found, offset: int) -> EventLogUnavailable:
        """What to raise where the row after ``offset`` is not there."""
        row = self.row_after(topic, offset)
        return _broken(topic, topic.top if row is None else row.last - row.events, "is missing")

    def _unpacked(self, topic: Found, last: int, count: int, payload: str) -> list[Event]:
        try:
            events = unpack(payload)
        except ValueError as error:
            raise _broken(topic, last, f"cannot be decoded ({error})") from error
        if len(events) != count:
            raise _broken(topic, last, f"has {len(events)} events, not {count}")
        return events

    # Keys

    def repeated(self, topic: Found, key: str, oldest: float) -> Appended | None:
        """What was appended with this key since ``oldest``."""
        found = self._keys(topic).filter(digest=_digest(key), at__gt=oldest).values_list("first", "last").first()
        return None if found is None else Appended(topic.epoch, *found)

    def remember(self, topic: Found, key: str, appended: Appended, now: float) -> None:
        """Keep the key, also where it was used before the window."""
        about = {"first": appended.first, "last": appended.last, "at": now}
        if not self._keys(topic).filter(digest=_digest(key)).update(**about):
            self._keys(topic).bulk_create([LogKey(topic_id=topic.pk, digest=_digest(key), **about)])

    def forget_keys(self, topic: Found, until: float) -> None:
        """Delete the keys that are as old as that."""
        self._keys(topic).filter(at__lte=until)._raw_delete(self._alias)


def _parts(events: Sized) -> Iterator[Sized]:
    part: Sized = []
    size = 0
    for event in events:
        if part and (len(part) >= ROW_EVENTS or size + event[1] > ROW_BYTES):
            yield part
            part, size = [], 0
        part.append(event)
        size += event[1]
    if part:
        yield part


def _digest(key: str) -> str:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _broken(topic: Found, last: int, what: str) -> EventUnreadable:
    return EventUnreadable(
        f"the topic {topic.name!r} is damaged: its row in {LogRow._meta.db_table} with topic_id={topic.pk} and last={last} "
        f"{what}. Restore it, or give up what is older: event_log().trim({topic.name!r}, max_events={topic.top - last}), or the "
        f"whole topic: Topic({topic.name!r}).delete()",
        last,
    )
