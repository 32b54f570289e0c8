"""The page about progress bars, followed in a fresh project with Django's default settings: the work is another process."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import httpx_sse
import pytest
from playwright.sync_api import expect

from django_agent_sse import Topic
from django_agent_sse.eventlog import backend
from tests.chromium import launched

from . import pages
from .blocks import DOCS, blocks_of, commands_in
from .following import Project, followed

PAGE = DOCS / "howto" / "progress.rst"
BLOCKS = blocks_of(PAGE)
SERVING, WORKING, WATCHING = (block for block in BLOCKS if block.language == "console" and "migrate" not in block.text)
(WORK,) = commands_in(WORKING)
PATIENCE = 120
GATED = """
import pathlib, time
class Rows(list):
    def __iter__(self):
        for row in range(len(self)):
            for _ in range(12_000 if row == 400 else 0):
                if pathlib.Path("seen").exists():
                    break
                time.sleep(0.01)
            yield row
"""
"""The rows of the page's export: the last hundred wait until the test has seen some of the work."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("progress")
    with followed(folder, BLOCKS[: BLOCKS.index(SERVING)], commands_in(SERVING)[0].text) as project:
        yield project


@contextmanager
def working(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """What the page says to type in another terminal."""
    command = [sys.executable, *shlex.split(WORK.text)[1:]]
    assert "range(500)" in command[-1]
    command[-1] = GATED + command[-1].replace("range(500)", "Rows(range(500))")
    with subprocess.Popen(command, cwd=project.shell.folder, env=project.shell.environment) as process:
        yield process
        assert process.wait(PATIENCE) == 0


def events(project: Project) -> Iterator[httpx_sse.ServerSentEvent]:
    with (
        httpx.Client(timeout=PATIENCE) as client,
        httpx_sse.connect_sse(client, "GET", f"{project.server.url}/jobs/42/progress/") as source,
    ):
        yield from source.iter_sse()


def test_a_page_and_a_program_see_the_work_of_another_process_while_it_runs(project: Project) -> None:
    with launched() as browser:
        page = browser.new_page()
        asked: list[str] = []
        answers: list[int] = []
        page.on("response", lambda answer: answers.append(answer.status) if answer.url.endswith("/progress/") else None)
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/progress/") else None)
        page.goto(f"{project.server.url}/jobs/42/")
        shares, began = [], time.monotonic()
        with working(project) as process:
            for event in events(project):
                if event.event == "progress":
                    shares.append(event.json()["done"])
                    if len(shares) == 3:
                        assert process.poll() is None, "it is seen while the work runs"
                        (project.shell.folder / "seen").touch()
        took = time.monotonic() - began  # the whole life of that process
        assert shares[0] == 1
        assert shares[-1] == 500
        assert shares == sorted(set(shares))
        assert 5 <= len(shares) <= 2 * took + 2, "twice a second at most, whatever 500 steps take"
        expect(page.locator("#state")).to_have_text("completed", timeout=PATIENCE * 1000)
        assert page.eval_on_selector("#bar", "bar => bar.value") == 1
        deadline = time.monotonic() + PATIENCE
        while 204 not in answers:  # an EventSource asks once more after the end, and is sent away
            assert time.monotonic() < deadline, answers
            page.wait_for_timeout(50)
        assert len(asked) == 2


def test_whoever_comes_later_is_told_all_of_it_and_the_end(project: Project) -> None:
    assert project.run(WATCHING) is None
    assert project.unlike_the_page == []


def test_a_fresh_project_says_nothing_in_its_log(project: Project) -> None:
    printed = project.server.printed()
    assert "WARNING" not in printed, printed
    assert "Traceback" not in printed, printed


@pytest.mark.django_db(transaction=True)
def test_work_that_fails_closes_its_topic_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    backend.reset()
    with pages.imported(PAGE) as modules:
        work = modules["mysite/work.py"]

        def fails(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(work.time, "sleep", fails)
        with pytest.raises(KeyboardInterrupt):
            work.export("43", range(10))
        assert Topic("progress.43").state().closed == "failed"
    backend.reset()
