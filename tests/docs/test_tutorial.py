"""A newcomer follows the first tutorial from its first line to its last, with a real server and a real browser."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import pytest
from playwright.sync_api import expect

from tests.chromium import launched

from .blocks import DOCS, blocks_of, commands_in
from .following import Project, followed

PATIENCE = 60_000
"""Milliseconds for the whole count of ten seconds, on a busy machine."""
CHECKS = "from django.core.checks import run_checks; print(*(message.id for message in run_checks()))"
SLEEP = """id=str(number))
        await stream.sleep(1)"""
GATED = """id=str(number))
        while start == 10 and number == 7 and not __import__("os").path.exists("goes-on"):
            await stream.sleep(0.01)
        await stream.sleep(1)"""
"""The page's count waits for a file, so that it is not over before the server is stopped."""
BLOCKS = blocks_of(DOCS / "tutorial.rst")
BEFORE = list(takewhile(lambda block: "uvicorn mysite" not in block.text, BLOCKS))
SERVING = BLOCKS[len(BEFORE)]
AFTER = BLOCKS[len(BEFORE) + 1 :]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    blocks = [replace(block, text=block.text.replace(SLEEP, GATED)) for block in BEFORE]
    assert sum(map(operator.ne, blocks, BEFORE)) == 1
    with followed(tmp_path_factory.mktemp("first"), blocks, commands_in(SERVING)[0].text, new=False) as project:
        yield project


def test_every_block_is_a_file_or_a_session() -> None:
    assert [str(block) for block in BLOCKS if bool(block.file) == (block.language == "console")] == []


def test_the_sessions_print_what_the_page_says(project: Project) -> None:
    for block in AFTER:
        project.run(block)
    assert [command.text.partition(" ")[0] for command, _ in project.printed] == [
        ".venv/bin/django-admin",
        ".venv/bin/python",
        "curl",
        "curl",
    ]
    assert project.unlike_the_page == []


def test_the_checks_warn_of_runserver_only_and_the_log_is_silent(project: Project) -> None:
    found = project.shell.manage("shell", "--verbosity", "0", "-c", CHECKS).split()
    assert found == ["django_agent_sse.W011"], "the page runs uvicorn instead"
    printed = project.server.printed()
    assert "WARNING" not in printed, printed
    assert "Traceback" not in printed, printed


def test_the_page_counts_on_after_a_restart_and_stays_quiet_after_the_end(project: Project) -> None:
    """The last of this module: it restarts the server."""
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[int] = []
        page.on("response", lambda response: asked.append(response.status) if "resumable" in response.url else None)
        page.goto(f"{project.server.url}/")
        count = page.locator("#count")
        page.evaluate(
            """() => {
                window.shown = [];
                const note = () => window.shown.push(document.getElementById("count").textContent);
                new MutationObserver(note).observe(document.getElementById("count"), { childList: true });
            }"""
        )
        page.wait_for_function("() => window.shown.some((text) => Number(text) <= 8)", timeout=PATIENCE)
        project.server.stop()
        project.server.start()
        (project.shell.folder / "goes-on").touch()
        with page.expect_response(lambda response: response.status == 204):
            expect(count).to_have_text("lift-off", timeout=PATIENCE)
        shown = page.evaluate("window.shown")
        assert shown == [*map(str, range(int(shown[0]), 0, -1)), "lift-off"], "each number once, none again"
        assert asked == [200, 200, 204]
