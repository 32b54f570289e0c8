"""The text of the page is the log, line for line, whatever happens to the page, the server and the network in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.timing import LONG

from .cutting import Cutting
from .serving import LogSite
from .viewing import connection, numbers_of, plain, text_of, wait_for_lines

RATE, SECONDS = 100, 4 if LONG else 2
TOTAL = RATE * SECONDS


def is_the_log(page: Page, site: LogSite, name: str, count: int = TOTAL) -> None:
    """Wait for the end, and compare."""
    connection(page, "Ended")
    wait_for_lines(page, count)  # those that came last are shown with the next frame
    lines = [plain(data) for event, data in site.events(name) if event == "stdout"]
    assert len(lines) == count
    assert text_of(page) == lines
    assert numbers_of(page) == list(range(1, count + 1))
    assert page.locator(".sl-note").count() == 0
    expect(page.locator(".sl-status")).to_have_text("Succeeded")


@pytest.fixture
def own_site(seeded: Path, tmp_path: Path) -> Iterator[LogSite]:
    """A site that a test may kill."""
    own = LogSite(tmp_path, like=seeded)
    yield own
    own.kill()


def test_a_reload_in_the_middle(page: Page, site: LogSite) -> None:
    site.produce("reloaded", RATE, SECONDS)
    page.goto(f"{site.url}/logs/reloaded/")
    wait_for_lines(page, TOTAL // 4)
    page.reload()
    wait_for_lines(page, TOTAL // 2)
    page.reload()
    is_the_log(page, site, "reloaded")


def test_the_network_cut_in_the_middle(page: Page, site: LogSite) -> None:
    with Cutting(site.port) as cutting:
        site.produce("cut", RATE, SECONDS)
        page.goto(f"{cutting.url}/logs/cut/")
        for count in (TOTAL // 4, TOTAL // 2):
            wait_for_lines(page, count)
            cutting.cut()
        is_the_log(page, site, "cut")


def test_no_network_for_a_while(page: Page, site: LogSite) -> None:
    with Cutting(site.port) as cutting:
        site.publish("away", *(f"line {n}" for n in range(1, TOTAL // 4 + 1)))
        page.goto(f"{cutting.url}/logs/away/")
        wait_for_lines(page, TOTAL // 4)
        connection(page, "Live")
        cutting.cut(refuse=True)
        expect(page.locator(".sl-connection")).to_contain_text("Reconnecting")
        rest = (f"line {n}" for n in range(TOTAL // 4 + 1, TOTAL + 1))
        site.publish("away", *rest, ("exit", '{"code": 0}'), close="completed")
        page.wait_for_timeout(1500)
        cutting.refusing = False
        is_the_log(page, site, "away")


def test_the_server_killed_and_started_again_in_the_middle(page: Page, own_site: LogSite) -> None:
    own_site.publish("killed", *(f"line {n}" for n in range(1, 201)))
    page.goto(f"{own_site.url}/logs/killed/")
    wait_for_lines(page, 200)
    own_site.publish("killed", *(f"line {n}" for n in range(201, 301)))
    own_site.kill()
    expect(page.locator(".sl-connection")).to_contain_text("Reconnecting")
    own_site.start()
    own_site.publish("killed", *(f"line {n}" for n in range(301, 401)), ("exit", '{"code": 0}'), close="completed")
    is_the_log(page, own_site, "killed", 400)


def test_a_log_that_grows_while_its_beginning_is_loaded(page: Page, site: LogSite) -> None:
    site.publish("growing", *(f"line {n}" for n in range(1, 20_001)))
    writer = threading.Thread(target=lambda: [site.publish("growing", f"line {n}") for n in range(20_001, 20_101)])
    writer.start()
    page.goto(f"{site.url}/logs/growing/")
    writer.join()
    site.publish("growing", ("exit", '{"code": 0}'), close="completed")
    is_the_log(page, site, "growing", 20_100)


def test_two_pages_show_the_same(page: Page, site: LogSite) -> None:
    site.produce("twice", RATE, 2)
    other = page.context.new_page()
    for one in (page, other):
        one.goto(f"{site.url}/logs/twice/")
    for one in (page, other):
        is_the_log(one, site, "twice", RATE * 2)


def test_a_page_that_the_browser_froze_and_woke_has_every_line(page: Page, site: LogSite) -> None:
    site.publish("frozen", *(f"line {n}" for n in range(1, 101)))
    page.goto(f"{site.url}/logs/frozen/")
    wait_for_lines(page, 100)
    connection(page, "Live")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    site.publish("frozen", *(f"line {n}" for n in range(101, TOTAL + 1)), ("exit", '{"code": 0}'), close="completed")
    devtools.send("Page.setWebLifecycleState", {"state": "active"})
    is_the_log(page, site, "frozen")
