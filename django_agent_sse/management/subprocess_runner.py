"""A command in a process group of its own: what it prints, the signals it gets, and how it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO, Final, Literal

Source = Literal["stdout", "stderr"]
Take = Callable[[Source, bytes], None]
Due = Callable[[Source], float | None]

CHUNK_BYTES: Final = 65_536
OUTPUT_TIMEOUT: Final = 2.0
"""Seconds that output may go on after the command: what it left behind may hold the pipes for ever."""
PIPE_BYTES: Final = 65_536
"""What a pipe holds, where the system does not say."""
POLL_INTERVAL: Final = 0.02
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""The exit codes of a shell for commands that it cannot start."""
FORWARDED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_REAPER: Final = """
read -r group || exit 0
read -r _ || kill -s TERM -- "-$group" || exit 0
left=$1
while [ "$left" -gt 0 ]; do kill -s 0 -- "-$group" || exit 0; sleep 0.1; left=$((left - 1)); done
kill -s KILL -- "-$group"
"""
"""Reads a process group, and a line when a signal was passed on to it; at the end of its input it sends SIGTERM itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended.

    Attributes:
        code: Its exit code as a shell has it: 128 and the signal's number where one ended it.
        signal: That signal's name.
        seconds: How long it ran.
        left_behind: Whether something that it started still holds its output.
        refused: Why it could not be started.
    """

    code: int
    signal: str | None = None
    seconds: float = 0.0
    left_behind: bool = False
    refused: str | None = None


def never(source: Source) -> None:
    """Return the time that never comes."""


class Signals:
    """Passes signals on to the command's process group.

    The command has a session of its own, so that a terminal's Ctrl-C comes here only, and reaches it once, through here.

    Attributes:
        received: The names of the signals that came.
    """

    def __init__(self) -> None:
        self.received: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._passed_on: Callable[[], object] = lambda: None
        self._early: list[int] = []
        self._woken: socket.socket | None = None
        self._wakes: socket.socket | None = None

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take the signals over, as long as this lasts. Those that are ignored stay so: ``nohup`` means it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._woken, self._wakes = socket.socketpair()
        with self._woken, self._wakes:
            self._wakes.setblocking(False)
            waker = signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
            before = {}
            for name in FORWARDED:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._pass_on)
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(waker)

    def belong_to(self, process: subprocess.Popen[bytes], passed_on: Callable[[], object]) -> None:
        """Pass them on to this one, also those that have come before it was there, and call ``passed_on`` for each."""
        self._process, self._passed_on = process, passed_on
        early, self._early = self._early, []
        for number in early:
            self._send(number)

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it ends, and pass on meanwhile what comes.

        A signal that comes just before the thread waits in the system, or to another thread, would only be seen when the
        command is over. So another thread waits for that, and this one for a byte from there or of a signal.
        """
        if (woken := self._woken) is None:
            process.wait()
            return
        threading.Thread(target=self._wait_and_wake, args=(process,), name="sse-run-wait", daemon=True).start()
        while process.returncode is None:
            woken.recv(CHUNK_BYTES)

    def _wait_and_wake(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        assert self._wakes is not None
        with contextlib.suppress(OSError):  # full of wakes, or nobody waits any more
            self._wakes.send(b"\0")

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
        self._passed_on()


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    take: Take,
    signals: Signals,
    kill_after: float | None = None,
    due: Due = never,
) -> CommandResult:
    """Run ``command`` to its end. What it prints is given to ``take`` by two threads, as it comes.

    Its standard input is this process's. Returns at most ``OUTPUT_TIMEOUT`` seconds after its end.

    Args:
        command: The program and its arguments.
        environment: The command's.
        take: Called with ``stdout`` or ``stderr`` and a chunk.
        signals: Passes signals on.
        kill_after: Leave nothing of its process group running: seconds between SIGTERM, or a signal that was passed on, and
            SIGKILL. A shell beside this process sees to it, also when this process is killed: the kernel then closes its pipe.
        due: Called with ``stdout`` or ``stderr``: when to call ``take`` without data, by ``time.monotonic()``, if nothing comes.
    """
    begun = time.monotonic()
    with _reaper(kill_after) as reaper:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True, bufsize=0
            )
        except (OSError, ValueError) as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            return CommandResult(code=code, refused=getattr(error, "strerror", None) or str(error))
        reaper(b"%d\n" % process.pid)
        signals.belong_to(process, lambda: reaper(b"\n"))
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [_Reader("stdout", process.stdout, take, due), _Reader("stderr", process.stderr, take, due)]
        signals.wait(process)
        seconds = time.monotonic() - begun
    held = _joined(readers, signals)
    code = process.returncode
    if code < 0:
        return CommandResult(code=128 - code, signal=_name(-code), seconds=seconds, left_behind=held)
    return CommandResult(code=code, seconds=seconds, left_behind=held)


@contextlib.contextmanager
def _reaper(kill_after: float | None) -> Iterator[Callable[[bytes], None]]:
    """What writes to a new reaper; at the end, wait until it has ended all that is left.

    It is there before the command: whoever is killed in between leaves nothing either.
    """
    if kill_after is None:
        yield lambda line: None
        return
    process = subprocess.Popen(
        ["sh", "-c", _REAPER, "sse-run-reaper", str(max(1, round(kill_after * 10)))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # what ends this process does not end it
    )

    def write(line: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has heard enough, or somebody has ended it
            assert process.stdin is not None
            process.stdin.write(line)

    with process:
        yield write


class _Reader(threading.Thread):
    """Reads one pipe to its end.

    Attributes:
        read: Bytes so far.
        capacity: Bytes that the pipe holds: what comes beyond them when the command is over, others have printed.
        taking: What was read is being taken, which may wait for a slow log or terminal.
    """

    def __init__(self, source: Source, pipe: IO[bytes], take: Take, due: Due) -> None:
        super().__init__(name=f"sse-run-{source}", daemon=True)
        self.read = 0
        self.capacity = _capacity(pipe.fileno())
        self.taking = False
        self._source: Source = source
        self._pipe = pipe
        self._take = take
        self._due = due
        self.start()

    def run(self) -> None:
        with self._pipe:
            number = self._pipe.fileno()
            while True:
                due = self._due(self._source)
                if due is not None and not _readable(number, due - time.monotonic()):
                    self._take(self._source, b"")
                    continue
                if not (data := os.read(number, CHUNK_BYTES)):
                    return
                self.read += len(data)
                self.taking = True
                self._take(self._source, data)
                self.taking = False


def _readable(descriptor: int, seconds: float) -> bool:
    """Whether a pipe has something, or its end, after so many seconds at most; always where the system cannot say."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, seconds) * 1000))


def _joined(readers: Sequence[_Reader], signals: Signals) -> bool:
    """Whether something else than the command still prints, or could: not at once, and not for what waits to be taken."""
    came, waited = len(signals.received), 0.0
    own = sum(reader.read + reader.capacity for reader in readers)
    while alive := [reader for reader in readers if reader.is_alive()]:
        foreign = sum(reader.read for reader in readers) > own
        if len(signals.received) > came or (waited >= OUTPUT_TIMEOUT and (foreign or not any(reader.taking for reader in alive))):
            return True
        alive[0].join(POLL_INTERVAL)
        if foreign or not any(reader.taking for reader in alive):
            waited += POLL_INTERVAL
    return False


def _capacity(descriptor: int) -> int:
    try:
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except (ImportError, AttributeError, OSError):
        return PIPE_BYTES


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
