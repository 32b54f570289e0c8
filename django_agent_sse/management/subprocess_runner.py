"""A command in a process group of its own: what it prints, the signals it gets, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO, Final, Literal

Source = Literal["stdout", "stderr"]
Take = Callable[[Source, bytes], None]

READ: Final = 65536
LINGER: Final = 2.0
"""Seconds that output may go on after the command: what it left behind may hold the pipes for ever."""
PIPE: Final = 65_536
"""Bytes that a pipe holds, where the system does not tell."""
STEP: Final = 0.02
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""The exit codes of a shell for commands that it cannot start."""
FORWARDED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code as a shell has it: 128 and the signal's number where one ended it.
        signal: That signal's name.
        seconds: How long it ran.
        left_behind: Something that it started still holds its output.
        refused: Why it could not be started.
    """

    code: int
    signal: str | None = None
    seconds: float = 0.0
    left_behind: bool = False
    refused: str | None = None


class Signals:
    """Passes signals on to the command's process group.

    The command has a session of its own, so that a terminal's Ctrl-C comes here only, and reaches it once, through here.

    Attributes:
        received: The names of those that came.
    """

    def __init__(self) -> None:
        self.received: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take the signals over, as long as this lasts. Those that are ignored stay so: ``nohup`` means it."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for name in FORWARDED:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._pass_on)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def belong_to(self, process: subprocess.Popen[bytes]) -> None:
        """Pass them on to this one, also those that have come before it was there."""
        self._process = process
        early, self._early = self._early, []
        for number in early:
            self._send(number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number).name)
        if self._process is None:
            self._early.append(number)
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)


def run(command: Sequence[str], environment: Mapping[str, str], take: Take, signals: Signals) -> Ended:
    """Run ``command`` to its end. What it prints is given to ``take`` by two threads, as it comes.

    Its standard input is this process's. Returns at most ``LINGER`` seconds after its end.
    """
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True, bufsize=0
        )
    except (OSError, ValueError) as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        return Ended(code=code, refused=getattr(error, "strerror", None) or str(error))
    signals.belong_to(process)
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [_Reader("stdout", process.stdout, take), _Reader("stderr", process.stderr, take)]
    process.wait()
    seconds = time.monotonic() - begun
    held = _joined(readers, signals)
    code = process.returncode
    if code < 0:
        return Ended(code=128 - code, signal=_name(-code), seconds=seconds, left_behind=held)
    return Ended(code=code, seconds=seconds, left_behind=held)


class _Reader(threading.Thread):
    """Reads one pipe to its end.

    Attributes:
        read: Bytes so far.
        capacity: Bytes that the pipe holds: what comes beyond them when the command is over, others have printed.
        taking: What was read is being taken, which may wait for a slow log or terminal.
    """

    def __init__(self, source: Source, pipe: IO[bytes], take: Take) -> None:
        super().__init__(name=f"sse-run-{source}", daemon=True)
        self.read = 0
        self.capacity = _capacity(pipe.fileno())
        self.taking = False
        self._source: Source = source
        self._pipe = pipe
        self._take = take
        self.start()

    def run(self) -> None:
        with self._pipe:
            number = self._pipe.fileno()
            while data := os.read(number, READ):
                self.read += len(data)
                self.taking = True
                self._take(self._source, data)
                self.taking = False


def _joined(readers: Sequence[_Reader], signals: Signals) -> bool:
    """Whether something else than the command still prints, or could: not at once, and not for what waits to be taken."""
    came, waited = len(signals.received), 0.0
    own = sum(reader.read + reader.capacity for reader in readers)
    while alive := [reader for reader in readers if reader.is_alive()]:
        foreign = sum(reader.read for reader in readers) > own
        if len(signals.received) > came or (waited >= LINGER and (foreign or not any(reader.taking for reader in alive))):
            return True
        alive[0].join(STEP)
        if foreign or not any(reader.taking for reader in alive):
            waited += STEP
    return False


def _capacity(descriptor: int) -> int:
    try:
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except (ImportError, AttributeError, OSError):
        return PIPE


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
