"""Servers that speak Redis and keep their address: stopped, killed, held still, restarted, made replicas of each other."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from .services import free_port, redis_binary

PATIENCE = 60.0


class Valkey:
    """One server with a directory of its own.

    Args:
        sentinel: Whether it watches others instead.
        options: Of its command line: ``appendonly="yes"`` is ``--appendonly yes``.
    """

    def __init__(self, *, sentinel: bool = False, **options: str) -> None:
        self.sentinel = sentinel
        self.port = free_port()
        self.home = Path(tempfile.mkdtemp(prefix="sse-valkey-"))
        self.options = {"save": "", "appendonly": "no", "daemonize": "no", "bind": "127.0.0.1", "loglevel": "warning", **options}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Any:
        """A client for the test itself."""
        made: Any = redis.Redis(port=self.port, protocol=2, **options)
        weakref.finalize(made, made.connection_pool.disconnect)  # it is in a cycle: its socket would be collected before it
        return made

    def start(self) -> Valkey:
        """Start it, and wait until it answers."""
        if self.sentinel:
            (self.home / "sentinel.conf").write_text(f"port {self.port}\ndir {self.home}\nsentinel resolve-hostnames no\n")
        given = [part for name, value in self.options.items() for part in (f"--{name.replace('_', '-')}", value)]
        with (self.home / "log").open("ab") as log:
            command = [redis_binary(), "--port", str(self.port), "--dir", str(self.home), *given]
            if self.sentinel:
                command = [redis_binary(), str(self.home / "sentinel.conf"), "--sentinel"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.client(password=self.options.get("requirepass")).ping()
                return self
            except redis.exceptions.RedisError:
                assert self.process.poll() is None, (self.home / "log").read_text()
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.02)

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def hold(self) -> None:
        """Keep its connections, and answer nothing."""
        self.send(signal.SIGSTOP)

    def release(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash does."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Stop it; it can be started again."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(PATIENCE)

    def empty(self) -> None:
        """Forget what it wrote; it must not run."""
        for path in self.home.iterdir():
            if path.name != "log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def valkey(*, sentinel: bool = False, **options: str) -> Iterator[Valkey]:
    """A server that runs until the test is over."""
    made = Valkey(sentinel=sentinel, **options)
    try:
        yield made.start()
    finally:
        made.end(signal.SIGKILL)
        shutil.rmtree(made.home, ignore_errors=True)
