"""The page about LLM chats, followed in a fresh project: asked, reloaded in the middle, opened twice, stopped, killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium import launched

from .blocks import DOCS, blocks_of, commands_in
from .following import Project, followed

BLOCKS = blocks_of(DOCS / "howto" / "llm-chat.rst")
SERVING, CURL = (block for block in BLOCKS if block.language == "console" and "migrate" not in block.text)
WHOLE = "You asked: why? And why do you ask? "
PATIENCE = 60_000
LEASE = 10
"""Seconds, instead of the 30 that the page speaks of."""
CHANGES = {
    "await asyncio.sleep(0.3)": """while word == "And" and not Path("goes-on").exists():
            await asyncio.sleep(0.01)""",
    "import asyncio": "import asyncio\nfrom pathlib import Path",
    'chat>/")': f'chat>/", lease={LEASE})',
}
"""To the page's code: what it says instead."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    before = BLOCKS[: BLOCKS.index(SERVING)]
    for old, new in CHANGES.items():
        assert sum(block.text.count(old) for block in before) == 1, old
        before = [replace(block, text=block.text.replace(old, new)) for block in before]
    with followed(tmp_path_factory.mktemp("chat"), before, commands_in(SERVING)[0].text) as project:
        yield project


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def opened(browser: Browser, project: Project) -> Page:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{project.server.url}/chat/")
    return page


def ask(page: Page, project: Project, text: str = "why?") -> None:
    """Ask what was not asked before, and wait until half of the answer is there."""
    let(project, goes_on=False)
    page.fill("[name=text]", text)
    page.click("text=Ask")
    expect(page.locator("#answer")).to_have_text(half(text).strip(), timeout=PATIENCE)


def half(text: str) -> str:
    """So far the model of this test gets, and waits there until the test lets it go on."""
    return f"You asked: {text} "


def let(project: Project, *, goes_on: bool) -> None:
    """Let the model say the rest, or not."""
    gate = project.shell.folder / "goes-on"
    gate.touch() if goes_on else gate.unlink(missing_ok=True)


def test_an_answer_survives_a_reload_and_is_in_every_window(project: Project, browser: Browser) -> None:
    page = opened(browser, project)
    ask(page, project)
    page.reload()
    second = opened(browser, project)
    for one in (page, second):
        expect(one.locator("#question")).to_have_text("why?", timeout=PATIENCE)
        expect(one.locator("#answer")).to_have_text(half("why?").strip(), timeout=PATIENCE)
    second.fill("[name=text]", "meanwhile?")
    second.click("text=Ask")
    expect(second.locator("#state")).to_contain_text("another run goes on here", timeout=PATIENCE)
    let(project, goes_on=True)
    for one in (page, second):
        expect(one.locator("#state")).to_have_text("finished", timeout=PATIENCE)
        assert one.locator("#answer").text_content() == WHOLE
    second.click("text=Ask")
    expect(second.locator("#question")).to_have_text("meanwhile?", timeout=PATIENCE)
    expect(second.locator("#state")).to_have_text("finished", timeout=PATIENCE)
    page.close()
    second.close()


def test_curl_sees_the_same(project: Project) -> None:
    assert project.run(CURL) is None
    assert project.unlike_the_page == []


def test_an_answer_is_stopped_by_its_button_also_after_a_reload(project: Project, browser: Browser) -> None:
    page = opened(browser, project)
    ask(page, project, "when?")
    page.reload()
    expect(page.locator("#answer")).to_have_text(half("when?").strip(), timeout=PATIENCE)
    page.click("#stop")
    expect(page.locator("#state")).to_have_text("stopped", timeout=PATIENCE)
    assert page.locator("#answer").text_content() == half("when?")
    page.close()


def test_an_answer_whose_server_was_killed_is_lost_and_the_page_says_so(project: Project, browser: Browser) -> None:
    page = opened(browser, project)
    ask(page, project, "where?")
    os.killpg(project.server._process.pid, signal.SIGKILL)
    project.server._process.wait(PATIENCE)
    project.server.start()
    expect(page.locator("#state")).to_have_text("lost", timeout=PATIENCE)
    assert page.locator("#answer").text_content() == half("where?")
    assert httpx.get(f"{project.server.url}/chats/43/", timeout=120).status_code == 204, "nothing was asked there"
    page.close()
    assert "Traceback" not in project.server.printed(), project.server.printed()
