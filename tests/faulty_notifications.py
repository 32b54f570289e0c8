"""Notifications that get lost, come twice, and come late, at random: the log and the poll have to make up for it."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.poll import Poll

LATEST = 0.3
"""Seconds by which one is late at most."""


class Faults:
    """Calls what is to be called never, once or twice, at once or later.

    Args:
        seed: Of what happens.
        later: ``later(seconds, call)``: calls it then.
        latest: Seconds by which a call is late at most.
        note: Called with each fate.

    Attributes:
        counts: How many were ``lost``, ``doubled``, ``late`` and ``passed`` on as they came.
    """

    def __init__(
        self,
        seed: object,
        later: Callable[[float, Callable[[], Any]], Any],
        latest: float = LATEST,
        note: Callable[[str], Any] = str,
    ) -> None:
        self._chance = random.Random(str(seed))
        self._later = later
        self._latest = latest
        self._note = note
        self.counts: Counter[str] = Counter()

    def __call__(self, call: Callable[[], Any]) -> None:
        fate = self._chance.choice(("lost", "doubled", "late", "passed"))
        self.counts[fate] += 1
        self._note(fate)
        if fate in ("doubled", "passed"):
            call()
        if fate in ("doubled", "late"):
            self._later(self._chance.uniform(0, self._latest), call)


def _in_a_thread(seconds: float, call: Callable[[], Any]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


def install(directory: str) -> None:
    """Have every notification of this process meet its fate: those of its own appends, and those that other processes' bring.

    Each fate is a line of a file of this process in a directory: see ``counted``.
    """
    seed = os.getpid()
    notes = (Path(directory) / f"{seed}.fates").open("ab", buffering=0)
    faults = Faults(seed, _in_a_thread, note=lambda fate: notes.write(f"{fate}\n".encode()))
    notify, hurry = LocalNotifier.notify, Poll.hurry

    def notify_perhaps(self: LocalNotifier, topic: str, *page: Any) -> None:
        faults(partial(notify, self, topic, *page))

    def hurry_perhaps(self: Poll) -> None:
        faults(partial(asyncio.get_running_loop().call_soon_threadsafe, hurry, self))

    LocalNotifier.notify, Poll.hurry = notify_perhaps, hurry_perhaps  # type: ignore[method-assign]


def counted(directory: Path) -> Counter[str]:
    """How many notifications met which fate, in all processes."""
    return Counter(fate for file in directory.glob("*.fates") for fate in file.read_text().splitlines())
