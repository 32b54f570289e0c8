"""The leases of the runs of this process: renewed while they go on, whether or not they write; a wish to stop is found here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from functools import partial
from typing import Protocol

from ..eventlog.base import EventLog
from ..eventlog.leases import Lease
from ..exceptions import EventLogUnavailable
from ..runtime.backoff import FailureLog
from ..runtime.connections import give_connections_back
from ..runtime.loop import background, in_pool
from ..runtime.pools import Pool
from ..runtime.process import on_fork
from ..runtime.safe_text import without_run_id
from ..streams.registry import registry
from .stops import StopListener

logger = logging.getLogger("django_agent_sse.runs")

TICK = 0.2
"""Seconds between two looks at the leases of all runs of this process, by one query; one more where a stop is notified."""
RENEW_AT = 2 / 3
"""The share of a lease that may be left when it is renewed: two renewals may fail before it is lost."""

END_SECONDS = 4.3
"""Seconds that the code of runs gets to end by itself while the process ends: servers are held up for 5."""
END_INTERVAL = 0.02
_renewals = Pool("sse-runs", 1)
"""Its own thread: no lease waits for what runs write."""


class KeptRun(Protocol):
    """A run as its keeper sees it. The callbacks come from any thread."""

    id: str
    topic: str
    log: EventLog
    seconds: float

    def lease_seen(self, lease: Lease | None) -> None:
        """The lease was looked at, or renewed."""

    def lease_over(self) -> None:
        """It was not renewed in time."""

    def interrupt(self) -> None:
        """The process ends: the code is asked to."""

    @property
    def deserted(self) -> bool:
        """Whether nothing carries out any more what it does."""

    def forked(self) -> None:
        """This process is a child of the one that carries it out, and has no part in it."""

    @property
    def over_with_its_loop(self) -> bool:
        """Whether nothing will ever carry out any more what it does."""

    def close_interrupted(self) -> None:
        """Close the topic without the code, which had its time. May wait for the log."""


class Keeper:
    """One background task for all runs of the process, from the first one's start to the last one's end.

    Attributes:
        ending_topics: See ``Companion``.
    """

    def __init__(self) -> None:
        self._forget()
        on_fork(self._forked)

    def _forked(self) -> None:
        runs = [*self._runs]
        self._forget()
        for run in runs:
            run.forked()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self.ending_topics: frozenset[str] = frozenset()
        self._runs: dict[KeptRun, float] = {}
        self._at_work = False
        self._trouble = FailureLog(
            "leases of runs cannot be renewed",
            "A run whose lease runs out before that works again is lost.",
            logger="django_agent_sse.notify",
        )

    def add(self, run: KeptRun) -> None:
        """Keep the lease of a run, which has just been taken."""
        with self._lock:
            self._runs[run] = time.monotonic() + run.seconds
            if not self._at_work:
                try:
                    background.start("sse-runs", self._keep)
                except RuntimeError:  # the system has no more threads: the next one tries it again
                    del self._runs[run]
                    raise
                self._at_work = True

    def remove(self, run: KeptRun) -> None:
        """Keep it no more."""
        with self._lock:
            self._runs.pop(run, None)

    def running(self) -> list[KeptRun]:
        """Return the runs that go on in this process."""
        return list(self._runs)

    # The end of the process: see ``Companion``

    @property
    def busy(self) -> bool:
        """Whether a run goes on."""
        return bool(self._runs)

    def shut_down(self) -> None:
        """Have every run end as ``interrupted``. The process does not end before the thread that sees to it."""
        runs = list(self._runs)  # no lock: a signal handler may interrupt the very thread that holds it
        self.ending_topics |= {run.topic for run in runs}
        if runs:
            with contextlib.suppress(RuntimeError):  # the interpreter ends already, and starts no thread
                threading.Thread(target=self._end, args=(runs,), name="sse-runs-end").start()

    def _end(self, runs: list[KeptRun]) -> None:
        for run in runs:
            run.interrupt()
        deadline, deserted = time.monotonic() + END_SECONDS, set[KeptRun]()
        while (left := [run for run in runs if run in self._runs]) and time.monotonic() < deadline:
            for run in left:
                if run not in deserted:
                    deserted |= {run} if run.deserted else set()
                elif run.deserted:  # twice: not between two of a loop's last turns
                    self._close(run)
            time.sleep(END_INTERVAL)
        for run in left:
            self._close(run)
        give_connections_back()

    def _close(self, run: KeptRun) -> None:
        self.remove(run)
        try:
            run.close_interrupted()
        except Exception as error:  # whoever follows it sees it lost at the deadline
            logger.warning("the topic %r of an interrupted run cannot be closed: %s", without_run_id(run.topic), error)

    async def _keep(self) -> None:
        stops = StopListener()
        try:
            while self._goes_on():
                try:
                    stops.follow(await self._look())
                except Exception:  # one run's fault must not cost all others their leases
                    logger.exception("leases of runs could not be looked at; it is tried again")
                await stops.wait(TICK)
            await stops.close()
        except BaseException:  # the process ends; or a fault of ours, and whoever comes next begins again
            with self._lock:
                self._at_work = False
            raise

    def _goes_on(self) -> bool:
        with self._lock:
            self._at_work = bool(self._runs)
            return self._at_work

    async def _look(self) -> set[EventLog]:
        """Look at the leases of all runs. Return the logs that they are in."""
        with self._lock:
            runs = [*self._runs]
        for run in runs:
            if run.over_with_its_loop:  # renewed by nobody else, it would never end
                await in_pool(partial(self._close, run))
        runs = [run for run in runs if run in self._runs]
        logs = {run.log for run in runs}
        for log in logs:
            of_log = [run for run in runs if run.log is log]
            try:
                leases = await asyncio.wrap_future(_renewals.submit(partial(self._renewed, log, of_log)))
                for run in of_log:
                    self._tell(run, leases.get(run.topic))
            except EventLogUnavailable as error:
                self._trouble.failed(error)
                self._end_late(of_log)
            else:
                self._trouble.recovered()
        return logs

    def _renewed(self, log: EventLog, runs: list[KeptRun]) -> dict[str, Lease]:
        """Look at the leases of these runs, and renew those that are due."""
        with log.keen():
            return self._renewed_keenly(log, runs)

    def _renewed_keenly(self, log: EventLog, runs: list[KeptRun]) -> dict[str, Lease]:
        leases = log.leases([run.topic for run in runs])
        due = [
            (run.topic, run.id, run.seconds)
            for run in runs
            if (lease := leases.get(run.topic)) and lease.holder == run.id and 0 < lease.left <= run.seconds * RENEW_AT
        ]
        if not due:
            return leases
        for run in runs:
            if (lease := leases.get(run.topic)) and lease.stop:  # it waits for no renewal, which waits for its turn to write
                run.lease_seen(lease)
        renewed = log.renew_all(due)
        if lost := [topic for topic, *_ in due if topic not in renewed]:
            with contextlib.suppress(EventLogUnavailable):  # what was renewed is known all the same
                found = log.leases(lost)
                leases = {topic: lease for topic, lease in leases.items() if topic not in lost} | found
        return {**leases, **renewed}

    def _tell(self, run: KeptRun, lease: Lease | None) -> None:
        with self._lock:
            if run not in self._runs:
                return
            if lease is not None and lease.alive:
                self._runs[run] = time.monotonic() + lease.left
        run.lease_seen(lease)

    def _end_late(self, runs: list[KeptRun]) -> None:
        """Whoever could not renew for as long as its lease lasts has lost it, whatever the log says later."""
        now = time.monotonic()
        with self._lock:
            late = [run for run in runs if self._runs.get(run, now) < now]
        for run in late:
            run.lease_over()


keeper = Keeper()
registry.companions.append(keeper)
