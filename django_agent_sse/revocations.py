"""Signed addresses that are taken back before their time: events of one topic, which each process reads when an address is used.

Each is signed with the project's ``SECRET_KEY``: whoever can only write to the log takes nobody's address away.
"""

from __future__ import annotations

import time

from django.core import signing

from .eventlog.backend import event_log
from .eventlog.base import EventLog
from .eventlog.validation import InternalTopic
from .exceptions import EventUnreadable
from .runtime.process import PerProcess
from .wire.event import Event

REVOCATIONS = InternalTopic("sse.signed.revoked")
MAX_BYTES = 1_000
"""The most bytes of one of these events."""
MOST_KEPT = 10_000
"""Revocations that a process keeps in mind; then those that no address is old enough for are dropped."""


class Revocations(PerProcess):
    """What this process has read: from when on the addresses of one key are good again."""

    def reset(self) -> None:
        """Know nothing: the next look reads all that the log keeps. Also after a fork."""
        self._log: EventLog | None = None
        self._epoch = ""
        self._cursor = 0
        self._nonce = ""  # of the event there
        self._since: dict[str, float] = {}
        self._all_since = 0.0

    def event_of(self, key: str, at: float) -> Event:
        """Return the event that takes back what was signed for a key until then."""
        return Event(_signer().sign_object([key, at]), event="revoked")

    async def look(self) -> None:
        """Read what is new.

        Raises:
            EventLogError: The log cannot be read: nothing is known then of what was revoked.
        """
        log = event_log()
        if log is not self._log:
            self._log, self._epoch, self._cursor, self._nonce = log, "", 0, ""
        while True:
            epoch, cursor, nonce = self._epoch, self._cursor, self._nonce  # others look meanwhile
            try:
                page = await log.aread_after(REVOCATIONS, cursor)
            except EventUnreadable as error:  # nobody knows what it took back
                self._all_since = time.time()
                self._cursor, self._nonce = max(self._cursor + 1, error.offset), ""
                continue
            fork = page.epoch == epoch and (page.top < cursor or bool(nonce and page.before not in ("", nonce)))
            if fork and nonce:  # a failover has lost some, and others may stand there: another epoch tells everybody
                await log.afork(REVOCATIONS, epoch)
                continue
            if page.epoch != self._epoch or fork:
                before, self._epoch, self._nonce = self._epoch, page.epoch, ""
                if before:  # what the log held is not there any more
                    self._all_since, self._cursor = time.time(), 0
                    continue
            if page.floor > self._cursor and page.records:  # and so is what was trimmed
                self._all_since = max(self._all_since, page.records[0].at)
            for record in page.records:
                self._take(record.event)
            last, nonce = (page.records[-1].offset, page.records[-1].nonce) if page.records else (page.top, "")
            if last > self._cursor:
                self._cursor, self._nonce = last, nonce
            if self._cursor >= page.top:
                return

    def _take(self, event: Event) -> None:
        try:
            if len(event.data) > MAX_BYTES:
                return
            key, at = _signer().unsign_object(event.data)
            self.note(str(key), float(at))
        except (signing.BadSignature, TypeError, ValueError):  # somebody else's
            return

    def note(self, key: str, at: float) -> None:
        """Keep one in mind."""
        self._since[key] = max(at, self._since.get(key, 0.0))
        if len(self._since) > MOST_KEPT:
            oldest = sorted(self._since.values())[MOST_KEPT // 2]
            self._all_since = max(self._all_since, oldest)
            self._since = {name: since for name, since in self._since.items() if since > oldest}

    def holds(self, keys: tuple[str, ...], at: float) -> bool:
        """Whether what was signed then for all of these keys was taken back since."""
        return at <= max(self._all_since, *(self._since.get(key, 0.0) for key in keys))


def _signer() -> signing.Signer:
    return signing.Signer(salt=f"django_agent_sse.{REVOCATIONS}")


revocations = Revocations()
