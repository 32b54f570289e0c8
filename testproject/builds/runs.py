"""The builds that this process runs: one subprocess and one reader each, however many watch."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from django_agent_sse.streams.kv import KV

from .keeper import keeper
from .lines import LineSplitter
from .log import BuildLog, Source
from .models import Build
from .process import ChildProcess
from .recipes import Recipe

logger = logging.getLogger(__name__)

READ = 65536
"""Bytes that are taken from a pipe at once."""
LEFT_OVER = 5.0
"""Seconds that output may go on after the process: what it left behind holds the pipes, and is being ended."""
STOPPING = 0.25
"""Seconds that the server's own end waits for a process that was told to end; the keeper does the rest."""
NOT_STARTED = 127
"""The exit code of a command that does not exist: the shell's, as no process is there to give one."""
LOST = "lost"
"""The status of a build whose server ended without recording the build's end."""


class Run:
    """One running build.

    Attributes:
        log: What it has printed so far; closed when the build's end is in the database.
    """

    def __init__(self, build_id: int, recipe: Recipe) -> None:
        self.build_id = build_id
        self.recipe = recipe
        self.log = BuildLog(build_id, KV("default"))

    async def work(self) -> None:
        """Run the command to its end, and record the end."""
        status, exit_code = Build.Status.STOPPED, None
        try:
            exit_code = await self._execute()
            status = Build.Status.FAILED if exit_code else Build.Status.PASSED
        except Exception:
            logger.exception("build %d could not be run", self.build_id)
            status = Build.Status.FAILED
            await self.log.extend("stderr", ["The server could not run this build; its own log has the reason."])
        finally:
            try:
                await self.log.flush()
                await sync_to_async(_record, thread_sensitive=False)(self.build_id, status, exit_code, self.log.top)
            finally:
                self.log.close()  # whatever fails, nobody may wait for ever

    async def _execute(self) -> int:
        async with _folder(self.build_id) as workdir:
            argv = self.recipe.command(workdir)
            try:
                process = await ChildProcess.start(argv, cwd=self.recipe.cwd, env=_environment())
            except OSError as error:
                await self.log.extend("stderr", [f"cannot start {argv[0]}: {error.strerror}"])
                return NOT_STARTED
            keeper.watch(process.pid)
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
            await self.log.extend(source, lines.feed(data))
        await self.log.extend(source, lines.finish())


class Runs:
    """The builds that are running in this process, by id."""

    def __init__(self) -> None:
        self._running: dict[int, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, build_id: int) -> Run | None:
        """The run of a build, or ``None`` where this process does not run it (any more)."""
        return self._running.get(build_id)

    def status(self, build: Build) -> str:
        """The build's status as it is now: ``LOST`` where the database says running and this process does not run it."""
        return LOST if build.status == Build.Status.RUNNING and build.pk not in self._running else build.status

    async def start(self, recipe: Recipe) -> Build:
        """Start a build of ``recipe``; return when it is recorded and under way."""
        build = await sync_to_async(self._create)(recipe)
        # An empty context: what the request's own context ties to the request's thread ends with the request.
        task = asyncio.create_task(self._work(build.pk), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return build

    def _create(self, recipe: Recipe) -> Build:
        """Whoever finds the build in the database finds its run here: it is entered before the commit."""
        with transaction.atomic():
            build = Build.objects.create(recipe=recipe.name)
            self._running[build.pk] = Run(build.pk, recipe)
        return build

    async def _work(self, build_id: int) -> None:
        try:
            await self._running[build_id].work()
        finally:
            del self._running[build_id]


runs = Runs()


def _record(build_id: int, status: Build.Status, exit_code: int | None, lines: int) -> None:
    try:
        ended = {"status": status, "exit_code": exit_code, "lines": lines, "ended_at": timezone.now()}
        Build.objects.filter(pk=build_id).update(**ended)
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
