"""Notes about topics' names, kept apart from the topics: which are followed, and which were deleted."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connections
from django.db.models import QuerySet

from ...models import TopicNote

FOLLOWED = "followed"
DELETED = "deleted"
_MOST_NAMES = 10_000


class Notes:
    """The table of notes in one database."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def since(self, kind: str, at: float) -> QuerySet[TopicNote]:
        """Return the notes that are newer than ``at``."""
        return TopicNote._default_manager.using(self._alias).filter(kind=kind, at__gt=at)

    def put(self, kind: str, names: list[str], now: float, lasts: float) -> None:
        """Write notes of a kind, and delete those of the kind that are older than ``lasts`` seconds."""
        target = connections[self._alias].features.supports_update_conflicts_with_target
        TopicNote._default_manager.using(self._alias).bulk_create(
            [TopicNote(name=name, kind=kind, at=now) for name in sorted(names)],  # in one order: no two processes lock each other
            update_conflicts=True,
            update_fields=["at"],
            unique_fields=["name", "kind"] if target else None,
        )
        TopicNote._default_manager.using(self._alias).filter(kind=kind, at__lte=now - lasts)._raw_delete(self._alias)

    def missing(self, kind: str, names: list[str], since: float) -> list[str]:
        """Return those of these names that have no note since then."""
        noted = self.since(kind, since)
        found = {
            name for some in portions(self._alias, names) for name in noted.filter(name__in=some).values_list("name", flat=True)
        }
        return [name for name in names if name not in found]

    def forget(self, kind: str, names: list[str]) -> None:
        """Remove the notes about these names."""
        for some in portions(self._alias, names):
            TopicNote._default_manager.using(self._alias).filter(kind=kind, name__in=some)._raw_delete(self._alias)

    def clear(self) -> None:
        """Forget everything."""
        TopicNote._default_manager.using(self._alias).all()._raw_delete(self._alias)


def portions(alias: str, names: list[str]) -> Iterator[list[str]]:
    """Yield the names in portions that fit into one query, with a few other parameters."""
    most = (connections[alias].features.max_query_params or _MOST_NAMES) - 2
    return (names[start : start + most] for start in range(0, len(names), most))
