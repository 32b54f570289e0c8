"""A page followed as a reader would: its files in a fresh project, its commands in a shell, its server as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from django.core.management import call_command

from tests.services import free_port

from .blocks import DOCS, Block, Command, commands_in, prints

ADDRESS = "127.0.0.1:8000"
START_SECONDS = 300.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 300.0


class Shell:
    """A folder, and what a reader types there. The virtual environment of the page is the one that the tests run in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()
        self.address = f"127.0.0.1:{free_port()}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTHON"))}
        path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])  # as in an activated environment
        self.environment = {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1"}  # what a terminal sees at once, a file does too
        (folder / ".venv").symlink_to(sys.prefix)

    def write(self, block: Block) -> None:
        """Write a file; a later block of it goes to its end, as settings do, so that they take the place of the same names."""
        file = self.folder / block.file
        before = file.read_text(encoding="utf-8") + "\n" if file.name == "settings.py" or block.file in self._written else ""
        self._written.add(block.file)
        file.write_text(before + block.text, encoding="utf-8")

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py``, beside what the page says; return what it printed."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, timeout=COMMAND_SECONDS, stdout=subprocess.PIPE, text=True
        ).stdout

    def run(self, block: Block) -> list[tuple[Command, str]]:
        """Run the commands of a block in one shell; return what each printed.

        Raises:
            AssertionError: One of them failed.
        """
        commands = [command for command in commands_in(block) if not prepares(command)]
        lines = [f"{command.text.replace(ADDRESS, self.address)}\nprintf '\\0'" for command in commands]
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(lines)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed = done.stdout.replace(self.address, ADDRESS).replace("\r\n", "\n").split("\0")
        return list(zip(commands, printed[:-1], strict=True))


def prepares(command: Command) -> bool:
    """Whether a command makes the virtual environment, which is there already, with what is installed in it."""
    return command.text.startswith(("python3 -m venv ", ".venv/bin/pip ", "pip "))


class Server:
    """The server of a page, in the foreground of a terminal of its own."""

    def __init__(self, shell: Shell, command: Command) -> None:
        self._shell = shell
        host, _, port = shell.address.partition(":")
        address = ["--host", host, "--port", port] if "uvicorn" in command.text else [shell.address]
        self._words = [*command.text.split(), *address]
        self._log = shell.folder / "server.log"
        self.url = f"http://{shell.address}"
        self.start()

    def start(self) -> None:
        """Run it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words,
                cwd=self._shell.folder,
                env=self._shell.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.get(self.url)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise AssertionError(f"the server does not start:\n{self.printed()}")

    def stop(self) -> None:
        """Press Ctrl-C: every process in the foreground of the terminal gets it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(STOP_SECONDS)
                raise AssertionError(f"Ctrl-C did not end the server:\n{self.printed()}") from None

    def printed(self) -> str:
        """What it printed, in all its runs."""
        return self._log.read_text(errors="replace").replace(self._shell.address, ADDRESS)


@dataclass(slots=True)
class Project:
    """A project in which a page was followed up to its server, which runs.

    Attributes:
        printed: What the commands of the page have printed so far.
    """

    shell: Shell
    server: Server
    printed: list[tuple[Command, str]] = field(default_factory=list)

    @property
    def unlike_the_page(self) -> list[tuple[str, str, str]]:
        """The commands that printed something else than the page says: what it says, and what they printed."""
        return [
            (command.text, command.output, text)
            for command, text in self.printed
            if command.output and not prints(command, text.strip())
        ]

    def run(self, block: Block) -> None:
        """Run the commands of one more block."""
        self.printed += self.shell.run(block)


def new_project(folder: Path) -> None:
    """Make a project named ``mysite``, as ``django-admin startproject mysite .`` does."""
    call_command("startproject", "mysite", str(folder))


def with_apps(*apps: str) -> list[Block]:
    """What the pages take for granted: these apps, and their tables."""
    about = {"page": DOCS / "tutorial.rst", "line": 0}
    settings = f"""INSTALLED_APPS += {[*apps]!r}
DATABASES["default"] |= {{"OPTIONS": {{"transaction_mode": "IMMEDIATE", "timeout": 60}}}}
"""
    return [
        Block(**about, language="python", file="mysite/settings.py", text=settings),
        Block(**about, language="console", file="", text="$ python manage.py migrate --verbosity 0\n"),
    ]


@contextmanager
def followed(
    folder: Path,
    blocks: Sequence[Block],
    command: str,
    *,
    new: bool = True,
    settings: str = "",
    before: Callable[[Path], None] = lambda folder: None,
) -> Iterator[Project]:
    """Write the files and run the commands of these blocks, in order, and then the server.

    Args:
        folder: An empty one.
        blocks: Of one page. Its blocks that are neither Python of a named file nor a session are left out.
        command: What starts the server.
        new: Begin with a new project; a tutorial makes its own.
        settings: More lines at the end of the project's settings.
        before: Called with the folder before the server starts.
    """
    shell = Shell(folder)
    if new:
        new_project(folder)
    printed: list[tuple[Command, str]] = []
    for block in blocks:
        if block.file:
            shell.write(block)
        elif block.language == "console":
            printed += shell.run(block)
    if settings:
        with (folder / "mysite" / "settings.py").open("a") as file:
            file.write(settings)
    before(folder)
    server = Server(shell, Command(block=blocks[0], text=command, output=""))
    try:
        yield Project(shell, server, printed)
    finally:
        server.stop()
