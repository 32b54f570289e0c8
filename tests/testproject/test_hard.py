"""The builds that are hard to show: each arrives whole, and the page stays usable."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.chromium import launched
from tests.live.parser import Received
from tests.timing import LONG

from .server import Server, number_of, numbered, outcome, wait_until_gone

LINES = 100_000 if LONG else 20_000
MIB = 1024 * 1024
PATIENCE = 300.0
SGR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module", autouse=True)
def quiet(server: Server) -> int:
    """A build that says nothing for a minute, begun before all others of this module."""
    return server.start("quiet")


@pytest.fixture(scope="module")
def coloured(server: Server) -> tuple[int, list[Received]]:
    """Such a build, and all of its log as it came while it ran."""
    build = server.start("colours")
    return build, server.whole_log(build, within=PATIENCE)


def test_very_many_coloured_lines_arrive_once_each(coloured: tuple[int, list[Received]]) -> None:
    lines = numbered(coloured[1])
    assert len(lines) == LINES
    told = [int(SGR.sub("", text).split()[1]) for _, text in lines]
    for source, share in (("stdout", 99), ("stderr", 1)):
        own = [number for (where, _), number in zip(lines, told, strict=True) if where == source]
        assert own == [number for number in range(1, LINES + 1) if (number % 100 == 0) == (source == "stderr")]
        assert len(own) == LINES * share // 100
    assert "\x1b[" in lines[0][1]


def test_very_many_coloured_lines_in_a_page(server: Server, coloured: tuple[int, list[Received]]) -> None:
    with launched() as browser, browser.new_context() as context:
        server.sign_in(context)
        page = context.new_page()
        page.goto(f"{server.url}/builds/{coloured[0]}/")
        expect(page.locator(".sl-count")).to_have_text(f"{LINES:,} lines", timeout=PATIENCE * 1000)
        expect(page.locator(".sl-status")).to_have_text("Passed")
        far = LINES * 7 // 9
        page.locator(".sl-view").press("Control+f")
        page.get_by_role("searchbox").fill(f"line {far} ")
        expect(page.locator(".sl-found")).to_have_text("1 of 1")
        expect(page.locator(".sl-line", has_text=f"line {far} ")).to_be_in_viewport()
        page.locator(".sl-view").press("Home")
        second = page.locator(".sl-line", has_text=re.compile("^line 2 colour 2 bright"))  # a line of stderr may come before it
        expect(second).to_have_count(1)
        assert second.locator("span span").count() == 3
        expect(page.locator(".sl-line").first).to_be_in_viewport()


def test_a_line_of_a_mebibyte_arrives_whole(server: Server) -> None:
    (_, before), *pieces, (_, after) = numbered(server.whole_log(server.start("wide")))
    assert (before, after) == ("before", "after")
    assert "".join(text.removesuffix("…") for _, text in pieces) == "".join(f"{number:07} " for number in range(MIB // 8))
    assert [text[-1] for _, text in pieces] == ["…", " "], "an event holds 1 MiB with its name"


def test_what_is_no_text_is_shown_as_far_as_it_is(server: Server) -> None:
    texts = [text for _, text in numbered(server.whole_log(server.start("nonsense")))]
    assert texts == [
        "latin-1: caf\ufffd",
        "half a character: \ufffd",
        "NUL: [\0] bell: [\7]",
        "all: " + bytes(range(128, 256)).decode("utf-8", "replace"),
        "no end",
    ]


def test_what_ignores_sigterm_is_gone_soon_after_it_is_cancelled(server: Server) -> None:
    build = server.start("deaf")
    with server.watch(build) as client:
        assert client.next().data == "a child that ignores SIGTERM too"
        (own,) = (command for command in server.commands() if command.cmdline()[-1:] == ["deaf"])
        pids = [own.pid, *(child.pid for child in own.children())]
        assert len(pids) == 2
        server.post(f"/builds/{build}/cancel/")
        assert outcome(client.own_events())["status"] == "cancelled"
    wait_until_gone(pids, within=PATIENCE)


def test_a_minute_of_silence_is_waited_through_on_one_connection(server: Server, quiet: int) -> None:
    with server.watch(quiet) as client:
        first, second, end = client.own_events(PATIENCE)
    assert [(event.data, number_of(event)) for event in (first, second)] == [("silence begins", 1), ("silence ends", 2)]
    assert outcome([end])["duration"] >= 60
