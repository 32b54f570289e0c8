"""One build, run in this process to its end: its lines are published, and its end is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone

from . import holds, overview, runs
from .keeper import keeper
from .lines import LineSplitter
from .log import BuildLog, Source
from .models import Build
from .process import ChildProcess
from .progress import Meter, Progress
from .recipes import all_recipes

logger = logging.getLogger(__name__)

READ = 65536
"""Bytes that are taken from a pipe at once."""
LEFT_OVER = 5.0
"""Seconds that output may go on after the process: what it left behind holds the pipes, and is being ended."""
NOT_STARTED = 127
"""The exit code of a command that does not exist: the shell's, as no process is there to give one."""
TOLD_EVERY = 0.25
"""Seconds between two tellings of how far a build is."""

Echo = Callable[[Source, Sequence[str]], None]


def run(build: Build, hold: int, echo: Echo) -> int:
    """Run a claimed build; its exit code, negative for the signal that ended it.

    Args:
        build: Which; recorded as running.
        hold: See ``holds.take``.
        echo: Is told the lines as they come.
    """
    try:
        return asyncio.run(_Run(build, echo).work(hold))
    finally:
        holds.release(build.pk, hold)
        runs.go_on()


class _Run:
    def __init__(self, build: Build, echo: Echo) -> None:
        self._build = build
        self._echo = echo
        self._log = BuildLog(build.pk)
        self._meter = Meter()
        self._telling: asyncio.Task[None] | None = None
        self._pid: int | None = None
        self._cancelled = False

    async def work(self, hold: int) -> int:
        """Run the command to its end, and record the end."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._cancel)
        holds.sign(hold)  # who cancels from now on sends a signal, and who did before has said so in the database
        exit_code = NOT_STARTED
        try:
            await sync_to_async(self._build.refresh_from_db)()
            self._cancelled = self._cancelled or self._build.cancelling
            if not self._cancelled:
                exit_code = await self._execute()
        except Exception:
            logger.exception("build %d could not be run", self._build.pk)
            await self._log.extend("stderr", ["This build could not be run; the log of its process has the reason."])
        await self._log.flush()
        await self._told_enough()
        await sync_to_async(self._record_end)(None if self._cancelled and self._pid is None else exit_code)
        return exit_code

    def _record_end(self, exit_code: int | None) -> None:
        self._build.refresh_from_db()
        ended = Build.Status.FAILED if exit_code else Build.Status.PASSED
        status = Build.Status.CANCELLED if self._cancelled else ended
        runs.end(self._build, status, exit_code=exit_code, lines=self._log.top, ended_at=timezone.now())

    def _cancel(self) -> None:
        """End the command and all that it started: SIGTERM, two seconds later SIGKILL."""
        self._cancelled = True
        if self._pid is not None:
            keeper.end(self._pid)

    async def _execute(self) -> int:
        with _folder(self._build.pk) as workdir:
            argv, cwd = self._command(workdir)
            try:
                process = await ChildProcess.start(argv, cwd=cwd, env=_environment())
            except OSError as error:
                await self._extend("stderr", [f"cannot start {argv[0]}: {error.strerror}"])
                return NOT_STARTED
            keeper.watch(process.pid)
            self._pid = process.pid
            if self._cancelled:
                keeper.end(process.pid)
            with contextlib.closing(process):
                return await self._read(process)

    def _command(self, workdir: Path) -> tuple[list[str], Path]:
        if not self._build.recipe:
            return self._build.command, Path.cwd()
        recipe = all_recipes()[self._build.recipe]
        return recipe.command(workdir), recipe.cwd

    async def _read(self, process: ChildProcess) -> int:
        readers = [asyncio.create_task(self._pump(pipe, source)) for pipe, source in _pipes(process)]
        try:
            exit_code = await process.wait()
            keeper.end(process.pid)
            await asyncio.wait(readers, timeout=LEFT_OVER)
            return exit_code
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _pump(self, pipe: asyncio.StreamReader, source: Source) -> None:
        lines = LineSplitter()
        while data := await pipe.read(READ):
            await self._extend(source, lines.feed(data))
        await self._extend(source, lines.finish())

    async def _extend(self, source: Source, lines: Sequence[str]) -> None:
        self._echo(source, lines)
        if self._meter.feed(lines) and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_progress())
        await self._log.extend(source, lines)

    async def _tell_progress(self) -> None:
        told = None
        while told != self._meter.progress:
            told = self._meter.progress
            await sync_to_async(self._record_progress)(told)
            await asyncio.sleep(TOLD_EVERY)

    async def _told_enough(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            (failed,) = await asyncio.gather(self._telling, return_exceptions=True)
            if isinstance(failed, Exception):
                logger.error("the progress of build %d could not be told", self._build.pk, exc_info=failed)

    def _record_progress(self, now: Progress) -> None:
        self._build.fraction, self._build.step = now.fraction, now.step or ""
        self._build.save(update_fields=["fraction", "step"])
        overview.tell(self._build)


def _pipes(process: ChildProcess) -> tuple[tuple[asyncio.StreamReader, Source], ...]:
    return (process.stdout, "stdout"), (process.stderr, "stderr")


def _environment() -> dict[str, str]:
    """This process's own, without its Django: output unbuffered, as UTF-8, without colours."""
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}


@contextlib.contextmanager
def _folder(build_id: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"build-{build_id}-", dir=settings.STATE))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
