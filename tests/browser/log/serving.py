"""The site with logs as a process: uvicorn, with a home of its own, which can be killed and started again at the same place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests import warm
from tests.live.servers import ROOT
from tests.services import free_port

START_SECONDS = 120.0
STOP_SECONDS = 30.0
SEED = """
import django; django.setup()
from django.contrib.auth.models import Group, User
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
User.objects.create_superuser("admin", "admin@example.com", "secret")
User.objects.create_user("guest", "guest@example.com", "secret")
User.objects.create_user("staff", "staff@example.com", "secret", is_staff=True)
for number in range(1, 6):
    Group.objects.create(name=f"Build {number}")
"""
RENEW = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
"""


class LogSite:
    """One running site. ``url`` stays the same when it is started again.

    Args:
        home: A directory of its own.
        like: The home of another one, it begins with what that began with.
        kept: Its home is that of one before.
        environment: More variables.
    """

    def __init__(self, home: Path, like: Path | None = None, *, kept: bool = False, **environment: str) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.browser.log.site.settings",
            "PYTHONPATH": str(ROOT),
            "LOGSITE_HOME": str(home),
            **environment,
        }
        if kept:
            subprocess.run([sys.executable, "-c", RENEW], cwd=ROOT, env=self.environment, check=True, timeout=300)
        elif like is None:
            subprocess.run([sys.executable, "-c", SEED], cwd=ROOT, env=self.environment, check=True, timeout=300)
            shutil.copytree(home, home / "seeded")
        else:
            shutil.copytree(like / "seeded", home, dirs_exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = f"uvicorn --host 127.0.0.1 --port {self.port} --log-level warning tests.browser.log.site.asgi:application"
        with (self.home / "server.log").open("ab") as log:
            self.process = warm.Popen(
                [sys.executable, "-m", *command.split()],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.post("_publish/logs.nothing/")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"the site does not start:\n{(self.home / 'server.log').read_text()}")

    def kill(self) -> None:
        """End it without a farewell."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def post(self, path: str, body: object = None) -> None:
        """Send a request, and wait for its end."""
        data = json.dumps(body if body is not None else []).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{path}", data, method="POST"), timeout=60) as answer:
            answer.read()

    def publish(self, name: str, *lines: str | tuple[str, str], close: str = "", prefix: str = "logs.") -> None:
        """Append lines to a log, the topic ``prefix + name``: text for ``stdout``, or event and data; and close it."""
        events = [line if isinstance(line, tuple) else ("stdout", line) for line in lines]
        for start in range(0, len(events), 20_000):
            self.post(f"_publish/{prefix}{name}/", events[start : start + 20_000])
        if close:
            self.post(f"_publish/{prefix}{name}/?close={quote(close)}")

    def produce(self, name: str, rate: int, seconds: float, size: int = 0, *, ends: bool = True) -> None:
        """Let the site write ``rate`` lines of ``size`` characters a second for so many ``seconds``, and then end the log."""
        self.post(f"_produce/{name}/?rate={rate}&seconds={seconds}&size={size}&ends={ends:d}")

    def count(self, name: str) -> int:
        """How many events a log has had."""
        with urllib.request.urlopen(f"{self.url}/logs/{name}/log/range/?from=-1&count=1", timeout=60) as answer:
            return int(json.loads(answer.read())["top"])

    def events(self, name: str) -> list[Any]:
        """What the log holds, ``[event, data]``."""
        with urllib.request.urlopen(f"{self.url}/_text/{name}/", timeout=60) as answer:
            return list(json.loads(answer.read())["events"])
