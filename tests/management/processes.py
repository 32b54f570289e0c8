"""``manage.py`` in processes of its own, as a shell, cron and CI run it, over one event log that they share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import call_command

from tests import warm

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds that anything may take: far more than it does, also on a busy machine."""


def poll(what: str, probe: Callable[[], Any], within: float = PATIENCE) -> Any:
    """The first truthy result of ``probe``."""
    deadline = time.monotonic() + within
    while not (result := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {within} s, last seen {result!r}"
        time.sleep(0.01)
    return result


class Running:
    """A command that runs, with what it prints in files."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has said on stderr so far."""
        return self._err.read_text(errors="replace")

    def printed(self, text: str) -> None:
        """Wait until it has printed this."""
        poll(f"{text!r} is printed (stderr: {self.err})", lambda: text in self.out)

    def said(self, text: str) -> None:
        """Wait until it has said this on stderr."""
        poll(f"{text!r} is said", lambda: text in self.err)

    def signal(self, number: int) -> None:
        """Send it, and nobody else, a signal."""
        os.kill(self.process.pid, number)

    def code(self, within: float = PATIENCE) -> int:
        """Wait for its end."""
        return self.process.wait(within)

    def kill(self) -> None:
        """End it with all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()


class Project:
    """A project whose commands can be run, in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "PYTHONUNBUFFERED")},
            "DJANGO_SETTINGS_MODULE": "tests.site.settings",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self.reading: Callable[[], AbstractContextManager[None]]
        self._running: list[Running] = []

    def argv(self, *words: str) -> list[str]:
        """The words of a command line."""
        return [sys.executable, "-m", "django", *words]

    def run(self, *words: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = warm.run(
            self.argv(*words),
            input=stdin,
            env={**self.environment, **environment},
            cwd=self.folder,
            capture_output=True,
            timeout=2 * PATIENCE,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, _text(done.stdout), _text(done.stderr))

    def start(self, *words: str, argv: list[str] | None = None, **options: Any) -> Running:
        """Start a command, in a process group of its own."""
        number = len(self._running)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        environment = {**self.environment, **options.pop("environment", {})}
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = warm.Popen(
                argv or self.argv(*words),
                **{"stdin": subprocess.DEVNULL, "stdout": to_out, "stderr": to_err, "start_new_session": True, **options},
                env=environment,
                cwd=self.folder if argv is None else ROOT,
            )
        self._running.append(Running(process, out, err))
        return self._running[-1]

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a line of bash, in which ``manage`` is ``manage.py``; its pipeline fails where a part of it does."""
        manage = f'manage() {{ {sys.executable} -m django "$@"; }}'
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{manage}\n{script}"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            timeout=2 * PATIENCE,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, _text(done.stdout), _text(done.stderr))

    def events(self, topic: str) -> list[dict[str, Any]]:
        """What a topic has."""
        told = self._command("sse_tail", topic, "--from-start", "--no-follow", "--json")
        return [json.loads(line) for line in told.split("\n") if line]

    def _command(self, *words: str) -> str:
        """What a command prints in this process, on the project's event log."""
        out = StringIO()
        with self.reading():
            call_command(*words, stdout=out, stderr=StringIO())
        return out.getvalue()

    def lines(self, topic: str, *names: str) -> list[str]:
        """The data of a topic's events of these names; by default stdout."""
        return [event["data"] for event in self.events(topic) if event["event"] in (names or ("stdout",))]

    def state(self, topic: str) -> dict[str, Any]:
        """What ``sse_topics`` says of a topic; empty where there is none."""
        found = [json.loads(line) for line in self._command("sse_topics", topic, "--json").splitlines()]
        return next((one for one in found if one["topic"] == topic), {})

    def close(self) -> None:
        """End what still runs."""
        for running in self._running:
            running.kill()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
