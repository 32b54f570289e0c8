"""Every query of ``DatabaseEventLog``. Whatever changes a topic or its rows must hold the topic's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Case, F, Func, Q, QuerySet, Subquery, TextField, Value, When
from django.db.models.functions import Cast

from ...exceptions import EventLogUnavailable, EventUnreadable
from ...models import LogKey, LogMark, LogRow, LogTopic, TopicLease, TopicNote, TopicPointer
from ...wire.event import RESERVED, Event
from ...wire.line_levels import Marks
from ..base import PAGE_BYTES
from ..position import new_epoch
from ..records import Appended, Head, Record
from ..validation import size_of
from .leases import LeaseStore, PointerStore, portions
from .marks import ROW_EVENTS, MarkStore
from .serialization import pack, unpack, unpack_together
from .statements import digest_of, rows_directly, topics_directly
from .sweeping import STEP_ROWS, Sweeper
from .transactions import is_direct

ROW_BYTES = 262_144
"""A larger append becomes several rows, so that a reader who needs one event of it does not read all. No statement that inserts
several rows is longer: drivers escape and copy a whole one before they send any of it, and hold up the process meanwhile.
"""
PARAMETERS = 90
"""PostgreSQL's ``concat()`` takes a hundred."""

FOLLOWED = "followed"
DELETED = "deleted"

Sized = list[tuple[Event, int]]


class TopicRow(NamedTuple):
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


COLUMNS = ("id", *TopicRow._fields[1:])
"""What a database calls them."""
SUMMARY = ("name", "epoch", "floor", "top", "closed", "appended_at")


class EventRow(NamedTuple):
    """A row of events, without the events."""

    last: int
    events: int
    total: int
    at: float


class TopicStore:
    """The tables of one database."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    @property
    def leases(self) -> LeaseStore:
        """The leases of topics."""
        return LeaseStore(self._alias)

    @property
    def pointers(self) -> PointerStore:
        """The names that lead to topics."""
        return PointerStore(self._alias)

    @property
    def sweeper(self) -> Sweeper:
        """What deletes many rows."""
        return Sweeper(self._alias)

    @property
    def marks(self) -> MarkStore:
        """Where errors and warnings stand."""
        return MarkStore(self._alias)

    @property
    def _topics(self) -> QuerySet[LogTopic]:
        return LogTopic._default_manager.using(self._alias)

    def rows(self, topic: TopicRow) -> QuerySet[LogRow]:
        """Return the rows of a topic."""
        return LogRow._default_manager.using(self._alias).filter(topic=topic.pk)

    def _keys(self, topic: TopicRow) -> QuerySet[LogKey]:
        return LogKey._default_manager.using(self._alias).filter(topic=topic.pk)

    # Topics

    def find(self, name: str) -> TopicRow | None:
        return next((TopicRow(*row) for row in self._those(COLUMNS, [name])), None)

    def _those(self, columns: tuple[str, ...], names: list[str]) -> Iterable[Any]:
        """Return columns of topics, of no more than one statement takes."""
        if is_direct(self._alias):
            return topics_directly(connections[self._alias], columns, names)
        return self._topics.filter(name__in=names).values_list(*columns)

    def lock(self, name: str) -> TopicRow | None:
        """Return a topic, locked until the transaction ends. It is a write, so that SQLite locks at once."""
        return self.find(name) if self._topics.filter(name=name).update(top=F("top")) else None

    def advance(self, name: str, count: int, size: int, now: float, expect: int | None) -> TopicRow | None:
        """Lock a topic and move its ``top`` on, if it is open and ends as expected; else return ``None``."""
        takes = self._topics.filter(name=name, closed="")
        if expect is not None:
            takes = takes.filter(top=expect)
        at = {"appended_at": now} if count else {}
        return self.find(name) if takes.update(top=F("top") + count, total=F("total") + size, **at) else None

    def make(self, name: str, now: float) -> None:
        """Make a topic, unless another process just has."""
        topic = LogTopic(name=name, epoch=new_epoch(), oldest_at=now, appended_at=now)
        self._topics.bulk_create([topic], ignore_conflicts=True)

    def close(self, name: str, reason: str) -> bool:
        """Close an open topic. Return whether there was one."""
        return self._topics.filter(name=name, closed="").update(closed=reason) > 0

    def delete(self, topic: TopicRow) -> None:
        """Delete a locked topic; of one that has had many events the rows are left to be swept."""
        # Not delete(): it would load every row where somebody listens to the deletion of every model.
        if topic.top > STEP_ROWS:
            self.sweeper.leave(topic.pk)
        else:
            self.rows(topic)._raw_delete(self._alias)
            self.marks.remove(topic.pk)
            self._keys(topic)._raw_delete(self._alias)
        self._topics.filter(pk=topic.pk)._raw_delete(self._alias)
        self.leases.remove([topic.name])

    def make_room(self, most: float, new: str, followed_since: float) -> list[str]:
        """Delete topics beyond ``most``, and return their names: closed ones first, then those longest without an event.

        The new one stays, and so do this package's own, those that are followed and those that somebody works on.
        """
        ours = Q(name__gte=RESERVED, name__lt=f"{RESERVED}\x7f")
        surplus = self._topics.exclude(ours).count() - most
        if surplus <= 0:
            return []
        followed = self.notes(FOLLOWED).filter(at__gt=followed_since).values("name")
        victims = self._topics.exclude(ours).exclude(name=new).exclude(name__in=followed)
        victims = victims.exclude(name__in=self.leases.alive().values("name"))
        victims = victims.order_by(Case(When(closed="", then=Value(1)), default=Value(0)), "appended_at", "pk")
        if connections[self._alias].features.has_select_for_update_skip_locked:
            victims = victims.select_for_update(skip_locked=True)  # one that is being written to is none
        gone = [TopicRow(*row) for row in victims.values_list(*TopicRow._fields)[: int(surplus)]]
        for victim in gone:
            self.delete(victim)
        names = [victim.name for victim in gone]
        for some in portions(self._alias, names):
            self.notes(DELETED).filter(name__in=some)._raw_delete(self._alias)
        return names

    def summaries(self, names: list[str]) -> Iterator[tuple[str, Head, float]]:
        """Yield where topics are, and when they were last appended to, by one query for as many as it can hold."""
        for some in portions(self._alias, names):
            for name, epoch, floor, top, closed, at in self._those(SUMMARY, some):
                yield name, Head(epoch, floor, top, closed or None), at

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return a page of names, sorted by their bytes."""
        topics = self._topics.filter(name__gte=prefix, name__lt=f"{prefix}\x7f", name__gt=after)  # names are below DEL
        return [*topics.order_by("name").values_list("name", flat=True)[:limit]]

    def clear(self) -> None:
        for model in (LogRow, LogMark, LogKey, LogTopic, TopicNote, TopicLease, TopicPointer):
            model._default_manager.using(self._alias).all()._raw_delete(self._alias)

    # Events

    def add(self, topic: TopicRow, events: Sized, now: float, marks: Mapping[int, Marks]) -> Appended:
        """Add rows for what ``advance`` has made room for; ``marks`` are of these events, by their number."""
        first = topic.top - len(events) + 1
        last, total = topic.top - len(events), topic.total - sum(size for _, size in events)
        rows: list[LogRow] = []
        spans: list[tuple[int, int]] = []
        length = 0
        for part in _parts(events):
            spans.append((last + 1, last + len(part)))
            last, total = last + len(part), total + sum(size for _, size in part)
            payload = pack(event for event, _ in part)
            length += len(payload)
            if rows and length > ROW_BYTES:
                self.rows(topic).bulk_create(rows)
                rows, length = [], len(payload)
            rows.append(LogRow(topic_id=topic.pk, last=last, events=len(part), total=total, at=now, payload=self._bound(payload)))
        self.rows(topic).bulk_create(rows)
        if marks or (events and first == 1):
            self.marks.add(topic.pk, spans, {first + number: found for number, found in marks.items()}, begins=first == 1)
        if events and first == topic.floor + 1 and topic.oldest_at != now:
            self._topics.filter(pk=topic.pk).update(oldest_at=now)
        return Appended(topic.epoch, first, topic.top)

    def _bound(self, payload: str) -> Any:
        """Return a large payload as several parameters where the driver escapes each one while it holds the GIL."""
        if len(payload) <= 2 * ROW_BYTES or connections[self._alias].vendor != "postgresql":
            return payload
        step = max(ROW_BYTES, len(payload) // PARAMETERS + 1)
        # With server_side_binding the server has to be told of what type each one is: CONCAT() takes any.
        pieces = [Cast(Value(payload[at : at + step]), TextField()) for at in range(0, len(payload), step)]
        return Func(*pieces, function="CONCAT", output_field=TextField())

    def records(self, topic: TopicRow, offset: int, limit: int) -> list[Record]:
        """Return consecutive events after ``offset``, which is not below the floor; none where the topic has changed since."""
        # One query, and no more than PAGE_BYTES of it: the running total of the row before tells where to stop.
        newest = min(topic.top, offset + limit + ROW_EVENTS - 1)  # no row has more events: those after it are not wanted
        found = self._found(topic, offset, newest, limit)
        records: list[Record] = []
        left, until = PAGE_BYTES, None
        try:
            for (last, count, total, at, _), events in zip(found, self._unpacked_each(topic, found), strict=True):
                first = last - count + 1
                if first > offset + 1:
                    break
                if until is not None and total - until <= left and len(records) + count <= limit:  # all of them fit
                    records += map(Record._make, zip(range(first, last + 1), events, repeat(at), repeat("")))
                    offset, left, until = last, left - (total - until), total
                    continue
                until = total
                for event in events[offset + 1 - first :]:
                    left -= size_of(event)
                    if records and (left < 0 or len(records) >= limit):
                        return records
                    offset += 1
                    records.append(Record(offset, event, at))
        except EventUnreadable:
            if not records:
                raise  # else what comes before it can be read
        return records

    def _found(self, topic: TopicRow, offset: int, newest: int, limit: int) -> list[Any]:
        if is_direct(self._alias):
            return rows_directly(connections[self._alias], topic.pk, offset, newest, PAGE_BYTES, limit)
        after = self.rows(topic).filter(last__gt=offset).order_by("last")
        room = Subquery(after.values("total")[:1])
        rows = after.filter(last__lte=newest, total__lte=room + PAGE_BYTES)
        return [*rows.values_list("last", "events", "total", "at", "payload")[:limit]]

    def row_after(self, topic: TopicRow, offset: int) -> EventRow | None:
        """Return the row that holds the event after ``offset``."""
        row = self.rows(topic).filter(last__gt=offset).order_by("last").values_list(*EventRow._fields).first()
        return None if row is None else EventRow(*row)

    def last_where(self, topic: TopicRow, goes: Callable[[EventRow], bool], after: int) -> int:
        """Return the last offset of the rows that go, or ``after``, by bisection: where a row goes, all before it go."""
        low, high = after, topic.top
        while low < high:
            middle = (low + high) // 2
            row = self.row_after(topic, middle)
            if row is not None and goes(row):
                low = row.last
            else:  # where nobody holds the topic's lock, rows may have gone meanwhile: the next one may lie far behind
                high = middle if row is None else min(middle, row.last - row.events)
        return low

    def sizes(self, topic: TopicRow, row: EventRow) -> list[int]:
        payload = self.rows(topic).filter(last=row.last).values_list("payload", flat=True).first()
        return [size_of(event) for event in self._unpacked(topic, row.last, row.events, payload or "")]

    def bytes_until(self, topic: TopicRow, offset: int, row: EventRow | None) -> int:
        """Return the bytes of the topic up to ``offset``; ``row`` is the one with the next event."""
        if row is None:
            return topic.total
        inside = offset - (row.last - row.events)
        return row.total - sum(self.sizes(topic, row)[inside:])

    def drop(self, topic: TopicRow, floor: int) -> bool:
        """Move the floor of a locked topic, and delete the rows that are wholly below it; return whether to sweep."""
        if floor <= topic.floor:
            return False
        row = self.row_after(topic, floor)
        gone = self.bytes_until(topic, floor, row)
        if floor - topic.floor > STEP_ROWS:
            self.sweeper.leave(topic.pk)
        else:  # and not those below: they may be many, and are being swept
            self.rows(topic).filter(last__gt=topic.floor, last__lte=floor)._raw_delete(self._alias)
            self.marks.remove(topic.pk, topic.floor, floor)
        oldest = topic.appended_at if row is None else row.at
        self._topics.filter(pk=topic.pk).update(floor=floor, gone=gone, oldest_at=oldest)
        return floor - topic.floor > STEP_ROWS

    def lacks(self, topic: TopicRow, offset: int) -> EventLogUnavailable:
        """Return the error for a missing row after ``offset``."""
        row = self.row_after(topic, offset)
        return _broken(topic, topic.top if row is None else row.last - row.events, "is missing")

    def _unpacked_each(self, topic: TopicRow, rows: list[Any]) -> Iterator[list[Event]]:
        """Yield the events of rows, all read together where that can be done."""
        together = unpack_together([row[4] for row in rows], [row[1] for row in rows])
        if together is not None:
            yield from together
        else:
            yield from (self._unpacked(topic, row[0], row[1], row[4]) for row in rows)

    def _unpacked(self, topic: TopicRow, last: int, count: int, payload: str) -> list[Event]:
        try:
            events = unpack(payload)
        except ValueError as error:
            raise _broken(topic, last, f"cannot be decoded ({error})") from error
        if len(events) != count:
            raise _broken(topic, last, f"has {len(events)} events, not {count}")
        return events

    # Keys

    def repeated(self, topic: TopicRow, key: str, oldest: float) -> Appended | None:
        """Return what was appended with this key since ``oldest``, if anything was."""
        before = self._keys(topic).filter(digest=digest_of(key), at__gt=oldest).values_list("first", "last").first()
        return None if before is None else Appended(topic.epoch, *before)

    def remember(self, topic: TopicRow, key: str, appended: Appended, now: float) -> None:
        """Store a key; one that was used before the window is used again."""
        about = {"first": appended.first, "last": appended.last, "at": now}
        if not self._keys(topic).filter(digest=digest_of(key)).update(**about):
            self._keys(topic).bulk_create([LogKey(topic_id=topic.pk, digest=digest_of(key), **about)])

    def forget_keys(self, topic: TopicRow, until: float) -> None:
        """Delete the keys that are as old as ``until``."""
        self._keys(topic).filter(at__lte=until)._raw_delete(self._alias)

    # Notes about topics' names, kept apart from the topics: which are followed, and which were deleted

    def notes(self, kind: str) -> QuerySet[TopicNote]:
        return TopicNote._default_manager.using(self._alias).filter(kind=kind)

    def note(self, kind: str, names: list[str], now: float, lasts: float) -> None:
        """Write notes of a kind, and delete those of the kind that are older than ``lasts`` seconds."""
        target = connections[self._alias].features.supports_update_conflicts_with_target
        TopicNote._default_manager.using(self._alias).bulk_create(
            [TopicNote(name=name, kind=kind, at=now) for name in sorted(names)],  # in one order: no two processes lock each other
            update_conflicts=True,
            update_fields=["at"],
            unique_fields=["name", "kind"] if target else None,
        )
        self.notes(kind).filter(at__lte=now - lasts)._raw_delete(self._alias)

    def without_note(self, kind: str, names: list[str], since: float) -> list[str]:
        """Return those of these names that have no note that is newer than ``since``."""
        newer = self.notes(kind).filter(at__gt=since).values_list("name", flat=True)
        noted = {name for some in portions(self._alias, names) for name in newer.filter(name__in=some)}
        return [name for name in names if name not in noted]


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


def _broken(topic: TopicRow, last: int, what: str) -> EventUnreadable:
    return EventUnreadable(
        f"the topic {topic.name!r} is damaged: its row in {LogRow._meta.db_table} with topic_id={topic.pk} and last={last} "
        f"{what}. Restore it, or give up what is older: event_log().trim({topic.name!r}, max_events={topic.top - last}), or the "
        f"whole topic: Topic({topic.name!r}).delete()",
        last,
    )
