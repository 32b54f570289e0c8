"""Regular expressions of strangers, searched by a process of its own: one that explodes holds up nobody, and is killed."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

PROCESSOR_SECONDS: Final = 1
"""Seconds of processor time that one pattern may take, in all."""
WALL_SECONDS: Final = 10.0
"""Seconds that it may take to answer on a machine that does much else."""
MEMORY: Final = 536_870_912
"""Bytes of the process at most."""
READY: Final = "ready"

_CODE: Final = f"""
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + {PROCESSOR_SECONDS} + 1, used + {PROCESSOR_SECONDS} + 2))
except (ImportError, ValueError, OSError):
    pass
def say(value):
    sys.stdout.write(json.dumps(value) + "\\n")
    sys.stdout.flush()
text, case = json.loads(sys.stdin.readline())
try:
    pattern = re.compile(text, 0 if case else re.IGNORECASE)
except (re.error, OverflowError, RecursionError, MemoryError) as error:
    say(str(error) or type(error).__name__)
    sys.exit()
say("{READY}")
for line in sys.stdin:
    lines, times = json.loads(line)
    if times:
        say([sum(1 for found in pattern.finditer(one) if found[0]) for one in lines])
    else:
        say([number for number, one in enumerate(lines) if pattern.search(one)])
"""


class PatternError(ValueError):
    """A pattern is none, or took too long; the text says which."""


class PatternProcess:
    """A process that searches lines for one regular expression of Python's ``re``.

    Args:
        pattern: The expression.
        case: Whether case counts.

    Raises:
        PatternError: It is none, or no such process can be started here.
    """

    def __init__(self, pattern: str, *, case: bool) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise PatternError(f"regular expressions cannot be searched here ({error}); search for text") from error
        try:
            said = self._ask([pattern, case], "to understand")
        except BaseException:
            self.close()
            raise
        if said != READY:
            self.close()
            raise PatternError(f"it is not a regular expression: {said}")

    def search(self, lines: Sequence[str]) -> list[int]:
        """Return the numbers, from 0, of the lines in which it is found.

        Raises:
            PatternError: It took too long; the process is gone.
        """
        return self._searched(lines, times=False)

    def times(self, lines: Sequence[str]) -> list[int]:
        """Return how often it is found in each line, as more than nothing.

        Raises:
            PatternError: As ``search``.
        """
        return self._searched(lines, times=True)

    def _searched(self, lines: Sequence[str], *, times: bool) -> list[int]:
        found: list[int] = self._ask([[*lines], times], f"on {len(lines):,} lines")
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()

    def _ask(self, value: object, doing: str) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(value).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            answer = b""
        else:
            answer = self._answer()
        if not answer.endswith(b"\n"):
            self.close()
            raise PatternError(
                f"it took too long {doing}: more than {PROCESSOR_SECONDS} s. Write it simpler, without repetitions inside of "
                "repetitions, or search for text"
            )
        return json.loads(answer)

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._process.stdout, select.POLLIN)
            if not poll.poll(WALL_SECONDS * 1000):
                return b""
        return self._process.stdout.readline()
