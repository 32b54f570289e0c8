"""The builds that this process runs: one subprocess and one reader each, however many watch."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from django_agent_sse.streams.kv import KV

from .board import board
from .keeper import keeper
from .lines import LineSplitter
from .log import BuildLog, Source
from .models import Build
from .process import ChildProcess
from .progress import Meter
from .recipes import Recipe, all_recipes

logger = logging.getLogger(__name__)

READ = 65536
"""Bytes that are taken from a pipe at once."""
LEFT_OVER = 5.0
"""Seconds that output may go on after the process: what it left behind holds the pipes, and is being ended."""
STOPPING = 0.25
"""Seconds that the server's own end waits for a process that was told to end; the keeper does the rest."""
USUAL_OF = 5
"""Builds of which the usual duration is the median."""
NOT_STARTED = 127
"""The exit code of a command that does not exist: the shell's, as no process is there to give one."""


class TooManyBuilds(Exception):
    """As many builds wait as may."""


class Run:
    """One build that waits or runs.

    Attributes:
        log: What it has printed so far; closed when the build's end is in the database.
        left_queue: Set when it runs, or is over without having run.
        running: It waits no more: its command is being, or has been, started.
        meter: How far it says that it is.
        usual: Seconds that the recipe takes when it passes, where it ever did.
    """

    def __init__(self, build_id: int, recipe: Recipe, usual: float | None = None) -> None:
        self.build_id = build_id
        self.recipe = recipe
        self.usual = usual
        self.meter = Meter()
        self.log = BuildLog(build_id, KV("default"))
        self.left_queue = asyncio.Event()
        self.running = False
        self._pid: int | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """End the command and all that it started: SIGTERM, two seconds later SIGKILL. ``work()`` records the end."""
        self._cancelled = True
        if self._pid is not None:
            keeper.end(self._pid)

    async def work(self) -> None:
        """Run the command to its end, and record the end."""
        status, exit_code = Build.Status.STOPPED, None
        try:
            await _record(self.build_id, status=Build.Status.RUNNING, started_at=timezone.now())
            self.left_queue.set()
            exit_code = await self._execute()
            ended = Build.Status.FAILED if exit_code else Build.Status.PASSED
            status = Build.Status.CANCELLED if self._cancelled else ended
        except Exception:
            logger.exception("build %d could not be run", self.build_id)
            status = Build.Status.FAILED
            await self.log.extend("stderr", ["The server could not run this build; its own log has the reason."])
        finally:
            try:
                await self.log.flush()
                await _record(self.build_id, status=status, exit_code=exit_code, lines=self.log.top, ended_at=timezone.now())
            finally:
                self.left_queue.set()
                await self.log.close()  # whatever fails, nobody may wait for ever

    async def _execute(self) -> int:
        async with _folder(self.build_id) as workdir:
            argv = self.recipe.command(workdir)
            try:
                process = await ChildProcess.start(argv, cwd=self.recipe.cwd, env=_environment())
            except OSError as error:
                await self.log.extend("stderr", [f"cannot start {argv[0]}: {error.strerror}"])
                return NOT_STARTED
            keeper.watch(process.pid)
            self._pid = process.pid
            if self._cancelled:
                keeper.end(process.pid)
            with contextlib.closing(process):
                return await self._read(process)

    async def _read(self, process: ChildProcess) -> int:
        readers = [asyncio.create_task(self._pump(pipe, source)) for pipe, source in _pipes(process)]
        try:
            exit_code = await process.wait()
        except asyncio.CancelledError:
            keeper.end(process.pid)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOPPING)
            raise
        else:
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
        if self.meter.feed(lines):  # first: whoever reads the line is told how far it is
            board.changed(self.build_id)
        await self.log.extend(source, lines)


class Runs:
    """The builds that wait or run in this process, by id. One process serves one database's builds."""

    def __init__(self) -> None:
        self._current: dict[int, Run] = {}
        self._waiting: deque[Run] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovered = False

    def get(self, build_id: int) -> Run | None:
        """The run of a build, or ``None`` where this process does not run it (any more)."""
        return self._current.get(build_id)

    def status(self, build: Build) -> str:
        """The build's status as it is now: lost where it should be under way, and this process does not know it."""
        return build.status if build.is_over or build.pk in self._current else Build.Status.LOST

    def recover(self) -> None:
        """Record as lost what a server left behind that was killed. Asks the database once."""
        if not self._recovered:
            left = Build.objects.filter(status__in=[Build.Status.QUEUED, Build.Status.RUNNING])
            left.exclude(pk__in=list(self._current)).update(status=Build.Status.LOST)  # when it ended, nobody knows
            self._recovered = True

    async def start(self, recipe: Recipe, user: Any = None) -> Build:
        """Start a build of ``recipe``, or let it wait; return when it is recorded.

        Raises:
            TooManyBuilds: ``settings.BUILDS_WAITING`` wait; nothing was recorded.
        """
        if len(self._waiting) >= settings.BUILDS_WAITING:
            raise TooManyBuilds(f"{len(self._waiting)} builds are waiting. Start this one when some of them are over.")
        build = await sync_to_async(self._create)(recipe, user)
        board.changed(build.pk)
        self._waiting.append(self._current[build.pk])
        self._go_on()
        return build

    async def again(self, build: Build, user: Any = None) -> Build:
        """Start another build of the same recipe.

        Raises:
            TooManyBuilds: See ``start``.
            LookupError: Settings know the recipe no more.
        """
        recipe = all_recipes().get(build.recipe)
        if recipe is None:
            raise LookupError(f"There is no recipe {build.recipe!r} any more.")
        return await self.start(recipe, user)

    async def cancel(self, build_id: int, user: Any = None) -> bool:
        """End a build that waits or runs; ``False`` where it does neither. What it printed stays."""
        run = self._current.get(build_id)
        if run is None:
            return False
        by = getattr(user, "pk", None)
        if run in self._waiting:
            self._waiting.remove(run)
            try:
                await _record(build_id, status=Build.Status.CANCELLED, cancelled_by=by, ended_at=timezone.now())
            finally:
                del self._current[build_id]
                await run.log.close()
                run.left_queue.set()
        else:
            await _record(build_id, cancelled_by=by)
            run.cancel()
        return True

    def _create(self, recipe: Recipe, user: Any) -> Build:
        """Whoever finds the build in the database finds its run here: it is entered before the commit."""
        self.recover()
        with transaction.atomic():
            build = Build.objects.create(recipe=recipe.name, started_by_id=getattr(user, "pk", None))
            self._current[build.pk] = Run(build.pk, recipe, _usual(recipe.name))
        return build

    def _go_on(self) -> None:
        while self._waiting and len(self._tasks) < settings.BUILDS_AT_ONCE:
            run = self._waiting.popleft()
            run.running = True
            # An empty context: what the request's own context ties to the request's thread ends with the request.
            task = asyncio.create_task(self._work(run), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():  # the server's end cancels them all
            self._go_on()

    async def _work(self, run: Run) -> None:
        try:
            await run.work()
        finally:
            del self._current[run.build_id]


runs = Runs()


async def _record(build_id: int, **values: Any) -> None:
    await sync_to_async(_update, thread_sensitive=False)(build_id, values)
    board.changed(build_id)


def _usual(recipe: str) -> float | None:
    passed = Build.objects.filter(recipe=recipe, status=Build.Status.PASSED)[:USUAL_OF]
    durations = [build.duration for build in passed if build.duration is not None]
    return median(durations) if durations else None


def _update(build_id: int, values: dict[str, Any]) -> None:
    try:
        Build.objects.filter(pk=build_id).update(**values)
    finally:
        connection.close()  # this thread is no request's: nobody else would


def _pipes(process: ChildProcess) -> tuple[tuple[asyncio.StreamReader, Source], ...]:
    return (process.stdout, "stdout"), (process.stderr, "stderr")


def _environment() -> dict[str, str]:
    """The server's own, without its Django: output unbuffered, as UTF-8, without colours."""
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}


@contextlib.asynccontextmanager
async def _folder(build_id: int) -> AsyncIterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"build-{build_id}-", dir=settings.STATE))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
