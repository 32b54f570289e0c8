"""The test project on a server of its own, as a process, and what a test asks of it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests import warm
from tests.live.client import PATIENCE, Client
from tests.live.parser import Received
from tests.live.servers import LATE_ANSWERS, ROOT, poll
from tests.services import free_port

PROJECT = ROOT / "testproject"
MANAGE = str(PROJECT / "manage.py")
DATABASE = "db.sqlite3"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Without the certificates of all authorities, which take long to read, for servers without any."""
START_SECONDS = 120.0
STOP_SECONDS = 30.0
ATTEMPTS = 3
OFTEN = 0.25
"""Seconds between two looks at all processes: more often, and the builds would have to wait for them."""

PASSWORD = "only for a test"
KEY = "the superuser's, only for a test"
BY_KEY = {"X-API-Key": KEY}
PEOPLE = f"""
from django.contrib.auth.models import Permission, User
from builds.models import ApiKey
admin = User.objects.create_superuser("admin", password={PASSWORD!r})
ApiKey.objects.create(user=admin, name="tests", digest=ApiKey.digest_of({KEY!r}))
viewer = User.objects.create_user("viewer", password={PASSWORD!r}, is_staff=True)
viewer.user_permissions.add(Permission.objects.get(codename="view_build"))
User.objects.create_user("stranger", password={PASSWORD!r}, is_staff=True)
"""
"""Who can sign in: the superuser, who has an API key too; staff who may look at builds; staff who may not."""

COMMANDS = {
    "uvicorn": "-m uvicorn --host 127.0.0.1 --port {port} --log-level warning testproject.asgi:application",
    "two workers": f"-m uvicorn --workers 2 {LATE_ANSWERS}"
    " --host 127.0.0.1 --port {port} --log-level warning testproject.asgi:application",
    "daphne": "-m daphne -b 127.0.0.1 -p {port} -v 0 testproject.asgi:application",
    "granian": "-m granian --interface asgi --host 127.0.0.1 --port {port} --log-level warning testproject.asgi:application",
    "hypercorn": "-m hypercorn -w 0 -b 127.0.0.1:{port} --log-level warning testproject.asgi:application",
    "runserver": "testproject/manage.py runserver --noreload 127.0.0.1:{port}",
    "reloader": "testproject/manage.py runserver 127.0.0.1:{port}",
}


def environment(state: Path) -> dict[str, str]:
    """What every process of the project gets: the settings with the tests' recipes, and a folder of its own."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.testproject.settings",
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(ROOT)]),
        "TESTPROJECT_STATE": str(state),
    }


def migrate(variables: dict[str, str]) -> None:
    """Make the tables, and ``PEOPLE``, in the database that the environment names."""
    for arguments in (["migrate", "-v", "0"], ["shell", "-c", PEOPLE]):
        command = [sys.executable, MANAGE, *arguments]
        warm.run(command, cwd=ROOT, env=variables, check=True, timeout=START_SECONDS, stdout=subprocess.DEVNULL)


@functools.cache
def migrated() -> tempfile.TemporaryDirectory[str]:
    """A folder with a fresh database in which ``PEOPLE`` are known, to be copied."""
    folder = tempfile.TemporaryDirectory(prefix="testproject-")
    migrate(environment(Path(folder.name)))
    atexit.register(folder.cleanup)
    return folder


def alive(pid: int) -> bool:
    """Whether a process runs: one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int], within: float) -> None:
    """Fail where one of them runs after ``within`` seconds."""
    poll(f"the end of {pids}", lambda: not any(map(alive, pids)), within)


def runners(state: Path) -> list[psutil.Process]:
    """The processes that run builds, whoever has started them, also those that have only just begun."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it may end at any moment, or be somebody else's
            if "run_build" in process.cmdline() and process.environ().get("TESTPROJECT_STATE") == str(state):
                found.append(process)
    return found


def kill_runners(state: Path) -> None:
    """End the builds that a server left when it was ended."""
    for runner in runners(state):
        with contextlib.suppress(psutil.NoSuchProcess):
            runner.kill()
            runner.wait(STOP_SECONDS)


class Server:
    """The project on one server; a folder that another has used before gives it that one's database."""

    def __init__(self, kind: str, state: Path, port: int | None = None, **variables: str) -> None:
        self.kind = kind
        self._port = port
        self.state = state
        self.environment = {**environment(state), **variables}
        self.log_file = state / "server.log"
        self._cookies: dict[str | None, dict[str, str]] = {}
        if not (state / DATABASE).exists() and "DATABASE_URL" not in variables:
            shutil.copy(Path(migrated().name) / DATABASE, state)
        for _ in range(ATTEMPTS):
            self._spawn()
            if self._answers():
                return
        raise AssertionError(f"{kind} does not start:\n{self.log()}")

    def _spawn(self) -> None:
        self.port = self._port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, *COMMANDS[self.kind].format(port=self.port).split()]
        begin = subprocess.Popen if self.kind == "reloader" else warm.Popen  # which begins again as its command line says
        with self.log_file.open("ab") as log:
            self.process = begin(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _answers(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return httpx.get(f"{self.url}/login/", verify=NO_TLS, timeout=120).status_code == 200
            except httpx.TransportError:
                time.sleep(0.05)
        self.kill()
        return False

    def start(self, recipe: str) -> int:
        """Start a build as the page does; return its id."""
        answer = self.post("/builds/start/", recipe=recipe)
        assert answer.status_code == 302, answer.text
        return int(re.fullmatch(r"/builds/(\d+)/", answer.headers["Location"])[1])  # type: ignore[index]

    @contextlib.contextmanager
    def client(self, name: str | None = "admin") -> Iterator[httpx.Client]:
        """A client with a CSRF cookie, and the session of one of ``PEOPLE``."""
        with httpx.Client(base_url=self.url, verify=NO_TLS, timeout=PATIENCE) as client:
            client.get("/login/")
            if name is not None:
                form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
                client.post("/login/", data=form)
                assert "sessionid" in client.cookies
            yield client

    @contextlib.contextmanager
    def _again(self, name: str | None) -> Iterator[httpx.Client]:
        """A client with the session that this person got here first, which is never signed out."""
        if name not in self._cookies:
            with self.client(name) as client:
                self._cookies[name] = dict(client.cookies)
        with httpx.Client(base_url=self.url, verify=NO_TLS, timeout=PATIENCE, cookies=self._cookies[name]) as client:
            yield client

    def sign_in(self, context: Any, who: str = "admin") -> None:
        """Give a browser's context the session of one of ``PEOPLE``, as its log-in page would."""
        with self.client(who) as client:
            context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"], "url": self.url}])
        context.set_default_timeout(2 * PATIENCE * 1000)

    def get(self, address: str, who: str | None = "admin") -> httpx.Response:
        """Ask for a page, signed in as one of ``PEOPLE`` or as nobody."""
        with self._again(who) as client:
            return client.get(address)

    def post(self, address: str, who: str | None = "admin", **form: str) -> httpx.Response:
        """Send a form as a page does."""
        with self._again(who) as client:
            return client.post(address, data={**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]})

    def watch(self, build: int, last: str | None = None, **options: Any) -> Client:
        """Open the stream of a build's log, after the line with the id ``last`` where one is given."""
        headers = BY_KEY | ({} if last is None else {"Last-Event-ID": last})
        return Client(f"{self.url}/builds/{build}/logs/", headers=headers, **options)

    def whole_log(self, build: int, last: str | None = None, within: float = 2 * PATIENCE) -> list[Received]:
        """Every event of a build's log but the control events; the last one is ``complete``."""
        with self.watch(build, last) as client:
            return client.own_events(within)

    def finish(self, recipe: str) -> int:
        """Run a build to its end; return its id."""
        build = self.start(recipe)
        self.whole_log(build)
        return build

    def open_gate(self, build: int, name: str) -> None:
        """Let a build go on that waits at this gate."""
        (folder,) = poll("the build's folder", lambda: list(self.state.glob(f"build-{build}-*")))
        (folder / name).touch()

    def runners(self) -> list[psutil.Process]:
        """See ``runners``."""
        return runners(self.state)

    def commands(self) -> list[psutil.Process]:
        """What the builds have started themselves, without the reapers of ``sse_run``."""
        found = []
        for runner in self.runners():
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in runner.children():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        if child.status() != psutil.STATUS_ZOMBIE and "sse-run-reaper" not in child.cmdline():
                            found.append(child)
        return found

    @contextlib.contextmanager
    def terminal(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """``manage.py`` with these arguments in a terminal of its own, beside the server."""
        with subprocess.Popen(
            [sys.executable, MANAGE, *arguments],
            cwd=self.state,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the server, and nothing else, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """End it as a process manager would, and then the builds that it leaves."""
        try:
            self._stop()
        finally:
            kill_runners(self.state)

    def _stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.kind} ignored SIGTERM for {STOP_SECONDS} s:\n{self.log()}") from None

    def log(self) -> str:
        """What the server printed."""
        return self.log_file.read_text(errors="replace")


def numbered(events: list[Received]) -> list[tuple[str, str]]:
    """The lines of a log, as (stream, text), checked to be numbered from 1 without gap or repetition, then complete."""
    *told, last = events
    assert last.name == "complete"
    lines = [event for event in told if event.name not in ("status", "progress")]
    assert [number_of(line) for line in lines] == list(range(1, len(lines) + 1))
    assert {line.name for line in lines} <= {"stdout", "stderr"}
    return [(line.name, line.data) for line in lines]


def number_of(line: Received) -> int:
    """The number of a line: its offset in the build's topic, or the number that it is kept under."""
    return int((line.id or "").rpartition(".")[2])


def outcome(events: list[Received]) -> dict[str, Any]:
    """What ``complete`` said."""
    assert events[-1].name == "complete"
    return dict(json.loads(events[-1].data))


__all__ = ["BY_KEY", "PATIENCE", "Server", "alive", "environment", "number_of", "numbered", "outcome", "wait_until_gone"]
