"""``manage.py demo`` as a newcomer meets it: what it prints works as it stands, and Ctrl-C ends it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests import warm
from tests.live.servers import poll
from tests.services import free_port
from tests.timing import bound

from .recipe import MANY
from .server import MANAGE, environment, wait_until_gone

START_SECONDS = 120.0
SOON = bound(5.0, 60.0)
"""Seconds. Alone it takes less than one; what waits for streams or builds, which have no end here, takes for ever."""
ANNOUNCED = "Ctrl-C ends the demo."


class Demo:
    """One demo, and what it has printed."""

    def __init__(self, state: Path, *arguments: str, **variables: str) -> None:
        self.process = warm.Popen(
            [sys.executable, MANAGE, "demo", *arguments],
            cwd=state,
            env={**environment(state), "TMPDIR": str(state), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.printed = ""

    def read_until(self, text: str) -> str:
        """What it has printed when ``text`` is in it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while text not in self.printed:
            ready = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            line = os.read(self.process.stdout.fileno(), 65536).decode() if ready else ""
            assert line, f"{text!r} is not in {self.printed!r}"
            self.printed += line
        return self.printed

    @property
    def page(self) -> str:
        return re.search(r"in a browser +(\S+)", self.read_until(ANNOUNCED))[1]  # type: ignore[index]

    @property
    def admin(self) -> str:
        return re.search(r"in the admin +(\S+)", self.read_until(ANNOUNCED))[1]  # type: ignore[index]

    @property
    def person(self) -> tuple[str, ...]:
        """The user and the password that it printed."""
        return re.search(r"sign in as +(\S+), password (\S+)", self.read_until(ANNOUNCED)).groups()  # type: ignore[union-attr]

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A client that was led to the log-in page, and signed in there with what was printed."""
        user, password = self.person
        with httpx.Client(follow_redirects=True, timeout=120) as browser:
            login = browser.get(self.page).url
            assert login.path == "/login/"
            form = {"username": user, "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            answer = browser.post(login, data={**form, "next": login.params["next"]})
            assert str(answer.url) == self.page
            yield browser

    @property
    def curl(self) -> str:
        return re.search(r"in a terminal +(.+)", self.read_until(ANNOUNCED))[1]  # type: ignore[index]

    def interrupt(self, times: int = 1) -> float:
        """Press Ctrl-C; return how many seconds the end took."""
        began = time.monotonic()
        for _ in range(times):
            self.process.send_signal(signal.SIGINT)
        self._wait()
        took = time.monotonic() - began
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()
        return took

    def _wait(self) -> None:
        """For its end, and press Ctrl-C again where nothing comes of it: Python forgets one that meets a weakref's callback."""
        for _ in range(10):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(START_SECONDS / 10)
                return
            self.process.send_signal(signal.SIGINT)
        raise AssertionError("it does not end")

    def kill(self) -> None:
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)  # which ends its builds too
                self._wait()
        finally:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo with these arguments."""
    demos: list[Demo] = []

    def start(*arguments: str, **variables: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments, **variables))
        return demos[-1]

    yield start
    for one in demos:
        one.kill()


@pytest.fixture
def curl() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Paste a line into a shell."""
    shells: list[subprocess.Popen[str]] = []

    def paste(line: str) -> subprocess.Popen[str]:
        shells.append(
            subprocess.Popen(["sh", "-c", f"exec {line}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        )
        return shells[-1]

    yield paste
    for shell in shells:
        shell.kill()
        shell.communicate()


def test_the_curl_line_streams_as_pasted(demo: Callable[..., Demo], curl: Callable[[str], subprocess.Popen[str]]) -> None:
    line = demo("--port", "0", "--recipe", "many").curl
    assert shlex.split(line)[:2] == ["curl", "-N"]
    printed = curl(line).communicate(timeout=START_SECONDS)[0]
    events = "".join(line for line in printed.splitlines(True) if line != ":\n").strip().split("\n\n")  # without heartbeats
    first = re.sub(r"id: \w+\.1$", "id: 1", events[0])
    # stdout and stderr are two pipes, read by two threads: the first line of either may come first.
    source = "stderr" if first.startswith("event: stderr\n") else "stdout"
    line_of = {"stdout": "line 1", "stderr": "line 10"}
    assert first == f"event: {source}\nretry: 100\ndata: {line_of[source]}\nid: 1"
    assert events[-1].startswith('event: complete\ndata: {"status":"passed","exit_code":0,')
    assert len(events) > MANY


def test_the_line_for_another_build_works_as_pasted(demo: Callable[..., Demo], tmp_path: Path) -> None:
    one = demo("--port", "0", "--recipe", "quiet")
    line = re.search(r"another build +(.+)", one.read_until(ANNOUNCED))[1]  # type: ignore[index]
    shell = ["sh", "-c", f"cd / && {line}"]
    pasted = subprocess.run(shell, env=environment(tmp_path), capture_output=True, text=True, timeout=START_SECONDS)
    assert pasted.returncode == 0, pasted.stderr
    assert pasted.stderr == "Build 2: ls -l\n"
    assert "usr" in pasted.stdout
    with one.browser() as browser:
        listed = browser.get(one.page.rpartition("builds/")[0]).text
        log = browser.get(one.page.replace("/1/", "/2/") + "logs/").text
    assert "ls -l" in listed
    assert "event: complete" in log


def test_the_page_is_there(demo: Callable[..., Demo]) -> None:
    one = demo("--port", "0")
    with one.browser() as browser:
        answer = browser.get(one.page)
    assert answer.status_code == 200
    assert "Compile, test, build" in answer.text


def test_the_printed_password_opens_the_admin_with_the_build_running(demo: Callable[..., Demo]) -> None:
    first, second = (demo("--port", "0", "--recipe", "waits") for _ in range(2))
    assert first.person[1] != second.person[1]
    with first.browser() as browser:
        answer = browser.get(first.admin)
    assert answer.status_code == 200
    assert re.search(r'<sse-log [^>]*status="running"', answer.text)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_it_soon_with_streams_open(
    demo: Callable[..., Demo], curl: Callable[[str], subprocess.Popen[str]], tmp_path: Path, times: int
) -> None:
    one = demo("--port", "0", "--recipe", "waits")
    line, page = one.curl, one.page
    watchers = [curl(line) for _ in range(20)]
    for watcher in watchers:
        assert watcher.stdout is not None
        lines = (line for line in iter(watcher.stdout.readline, "") if line != ":\n")
        assert next(lines) == "event: stdout\n"
        child = int(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
        assert next(lines).endswith(".1\n")
    with one.browser() as browser:
        browser.get(page)  # and keeps its connection
        assert one.interrupt(times) < SOON
    assert one.process.returncode == 0
    assert one.printed.endswith(f"{ANNOUNCED}\n\nThe demo is over.\n")
    wait_until_gone([child], within=SOON)
    assert list(tmp_path.glob("sse-demo-*")) == []


def test_a_build_that_ignores_everything_does_not_hold_it_up(demo: Callable[..., Demo]) -> None:
    one = demo("--port", "0", "--recipe", "stubborn")
    pids: list[int] = []
    with one.browser() as browser, browser.stream("GET", f"{one.page}logs/") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                pids = [int(pid) for pid in line.removeprefix("data: ").split()]
                break
    assert one.interrupt() < SOON
    assert one.printed.endswith(f"{ANNOUNCED}\n\nThe demo is over.\n")
    wait_until_gone(pids, within=SOON)


def test_ctrl_c_before_it_serves_is_no_error(demo: Callable[..., Demo]) -> None:
    one = demo("--port", "0")
    one.read_until("Making the database")
    one.interrupt()
    assert one.process.returncode == 0
    # A signal that meets the end of a weak reference is ignored by Python, which says so; it is sent again.
    assert "Traceback" not in re.sub(r"Exception ignored [\s\S]*?\nKeyboardInterrupt:? *\n", "", one.printed)
    assert one.printed.endswith("\nThe demo is over.\n")


def test_open_opens_the_page(demo: Callable[..., Demo], tmp_path: Path) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(seen))}\n')
    browser.chmod(0o700)
    page = demo("--port", "0", "--recipe", "passes", "--open", BROWSER=f"{browser} %s").page
    poll("the address", lambda: seen.exists() and seen.read_text() == f"{page}\n")


def test_a_second_demo_takes_the_next_port_and_says_so(demo: Callable[..., Demo]) -> None:
    port = free_port()
    first = demo("--port", str(port), "--recipe", "passes")
    assert f"127.0.0.1:{port}/" in first.page
    second = demo("--port", str(port), "--recipe", "passes")
    assert f"Port {port} is taken" in second.read_until(ANNOUNCED)
    other = int(re.search(r":(\d+)/", second.page)[1])  # type: ignore[index]
    assert port < other < port + 100
    assert f":{other}/" in second.curl
    for one in (first, second):
        with one.browser() as browser:
            assert browser.get(one.page).status_code == 200


def test_a_port_that_somebody_else_has_is_passed_over(demo: Callable[..., Demo]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}/" not in demo("--port", str(port), "--recipe", "passes").page


@pytest.mark.parametrize(("port", "says"), [("65536", "Cannot listen"), ("-1", "Cannot listen"), ("x", "invalid int value")])
def test_a_port_that_is_none_is_an_error(demo: Callable[..., Demo], port: str, says: str) -> None:
    one = demo("--port", port)
    assert says in one.read_until(says)
    assert one.process.wait(START_SECONDS) != 0


def test_help_says_what_happens(demo: Callable[..., Demo]) -> None:
    printed = demo("--help").read_until("--force-color")
    for word in ("--port", "--recipe", "--open", "127.0.0.1", "Ctrl-C"):
        assert word in printed


@pytest.mark.parametrize("where", ["testproject/testproject/settings.py", "testproject/scripts/pipeline.py"])
def test_what_the_demo_tests_needs_no_more_than_python(where: str) -> None:
    """Not npm, of which the demo says nothing. The recipes are on a part of it elsewhere; here each test is only set up."""
    (options,) = re.findall(r'"pytest", (?:"tests/wire"|TESTS), (.*?)\]', (Path(MANAGE).parents[1] / where).read_text())
    command = [sys.executable, "-m", "pytest", "tests/wire", *re.findall(r'"(.*?)"', options), "--setup-only"]
    found = subprocess.run(
        command, cwd=Path(MANAGE).parents[1], capture_output=True, text=True, check=False, timeout=START_SECONDS
    )
    assert found.returncode == 0, found.stdout[-2000:]
