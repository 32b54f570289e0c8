"""Takes the pictures of the chat: ``python -m tests.testproject.pictures docs/images``; needs Chromium."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.chromium import launched

from .server import Server

SIZE = {"width": 1100, "height": 960}


def main(folder: Path) -> None:
    """Take one in light and one in dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, launched() as browser:
        server = Server("two workers", Path(state))
        try:
            for recipe in ("compile", "shop"):
                server.finish(recipe)
            for scheme in ("light", "dark"):
                _picture(browser, server, scheme, folder / f"chat-{scheme}.png")
        finally:
            server.stop()


def _picture(browser: Browser, server: Server, scheme: str, path: Path) -> None:
    with browser.new_context(viewport=SIZE, color_scheme=scheme, device_scale_factor=2) as context:  # type: ignore[arg-type]
        server.sign_in(context)
        page = context.new_page()
        page.goto(f"{server.url}/chat/")
        if page.locator(".exchange").count():
            page.locator("#clear button").click()
            expect(page.locator("#hello")).to_be_visible()
        _ask(page, "How are the builds?")
        expect(page.locator("#send")).to_be_visible()
        _ask(page, "Think for 60 seconds")
        expect(page.locator(".step").last).to_have_text("Thinking…")
        process = re.search(r"process (\d+)", str(page.locator(".exchange").last.get_attribute("title")))
        os.kill(int(process[1]), signal.SIGKILL)  # type: ignore[index]
        expect(page.locator(".foot").last).to_be_visible()
        _ask(page, "Count to 300")
        expect(page.locator(".exchange").last).to_contain_text("60,")
        page.screenshot(path=path)
        page.keyboard.press("Escape")
        expect(page.locator("#send")).to_be_visible()


def _ask(page: Page, question: str) -> None:
    page.locator("#question").fill(question)
    page.keyboard.press("Enter")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
