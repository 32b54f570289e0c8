"""How far a build is, read from what it prints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_STEP = re.compile(r"==> ([1-9]\d{0,5})/([1-9]\d{0,5}) (.{1,200})")
_PERCENT = re.compile(r"\[ *(\d{1,3})%\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a build is.

    Attributes:
        fraction: From 0 to 1, in hundredths; ``None`` where it prints nothing of the kind.
        step: What it is at, where it says so: ``"2/3 Test the wire format"``.
    """

    fraction: float | None = None
    step: str | None = None


class Meter:
    """Reads ``==> 2/3 Name of the step``, and the ``[ 42%]`` at the end of a line of pytest, which counts within the step."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._step, self._steps, self._name = 1, 1, ""

    def feed(self, lines: Iterable[str]) -> bool:
        """Read more output; return whether the progress has changed."""
        before = self.progress
        for line in lines:
            if line.startswith("==> "):
                step = _STEP.fullmatch(line)
                if step and int(step[1]) <= int(step[2]):
                    self._step, self._steps = int(step[1]), int(step[2])
                    self._name = f"{self._step}/{self._steps} {step[3]}"
                    self._set(0)
            elif line.endswith("%]"):
                percent = _PERCENT.search(line)
                if percent and int(percent[1]) <= 100:
                    self._set(int(percent[1]))
        return self.progress != before

    def _set(self, percent: int) -> None:
        done = (self._step - 1 + percent / 100) / self._steps
        self.progress = Progress(fraction=round(done, 2), step=self._name or None)
