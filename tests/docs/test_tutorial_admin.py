"""A newcomer follows the tutorial for the admin from its first line to its last, with a real server and a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.chromium import launched

from .blocks import FOLLOWED, Block, Command, blocks_of, commands_in, prints
from .following import Server, Shell

PATIENCE = 60_000
"""Milliseconds for the whole build of the page, on a busy machine."""
QUIET = 4_000
"""Milliseconds, more than a browser waits before it comes back."""
STEPS = [f"step {number} of 20" for number in range(1, 21)]


def serves(block: Block) -> bool:
    """Whether this is where the page starts its server."""
    return block.language == "console" and "runserver" in block.text


BLOCKS = blocks_of(FOLLOWED)
BEFORE = list(takewhile(lambda block: not serves(block), BLOCKS))
SERVING = BLOCKS[len(BEFORE)]
AFTER = BLOCKS[len(BEFORE) + 1 :]


@dataclass(slots=True)
class Followed:
    """What came of the page so far."""

    shell: Shell
    server: Server
    printed: list[tuple[Command, str]]
    goes_on: Path


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """The page up to its server, which runs; what it builds waits at its eighth step until there is the file ``goes_on``."""
    shell = Shell(tmp_path_factory.mktemp("tutorial"))
    goes_on = tmp_path_factory.mktemp("gate") / "goes-on"
    gate = f"""    while step == 8 and not os.path.exists({str(goes_on)!r}):
        time.sleep(0.01)
    time.sleep(1)"""
    assert [block.file for block in BEFORE if "    time.sleep(1)" in block.text] == ["slow.py"]
    printed = []
    for block in BEFORE:
        if block.file == "slow.py":
            block = replace(block, text="import os\n" + block.text.replace("    time.sleep(1)", gate))
        if block.file:
            shell.write(block)
        else:
            printed += shell.run(block)
    (command,) = commands_in(SERVING)
    server = Server(shell, command)
    try:
        yield Followed(shell, server, [*printed, (command, server.printed().partition("HTTP GET ")[0])], goes_on)
    finally:
        server.stop()


@dataclass(slots=True)
class Seen:
    """What a browser showed of one build."""

    status_at_first: str = ""
    before_reload: list[str] = field(default_factory=list)
    windows: list[list[str]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    asked_after_the_end: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def seen(followed: Followed) -> Seen:
    """The browser's part of the page: sign in, start a build, reload, restart the server, see the end in two windows."""
    with launched() as browser, browser.new_context() as context:
        context.set_default_timeout(PATIENCE)
        return _watch(followed, context)


def _watch(followed: Followed, context: BrowserContext) -> Seen:
    seen = Seen()
    page = context.new_page()
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(f"{followed.server.url}/admin/builds/build/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "ten-minutes")
    page.click("input[type=submit]")
    page.click("input[value='Start a build']")
    wait_for(page, STEPS[2])
    seen.status_at_first, seen.before_reload = page.inner_text(".sl-status"), lines(page)
    page.reload()
    wait_for(page, STEPS[5])
    second = context.new_page()
    second.goto(page.url)
    wait_for(second, STEPS[6])
    followed.server.stop()
    seen.connections.append(connection(page, "reconnecting"))
    followed.server.start()
    followed.goes_on.touch()
    for window in (page, second):
        seen.connections.append(connection(window, "ended"))
        window.wait_for_function("document.querySelector('.sl-status').textContent !== 'Running'")
        seen.windows.append(lines(window))
        seen.facts.append(f"{window.inner_text('.sl-status')}: {window.inner_text('.sl-facts')}")
    page.on("request", lambda request: seen.asked_after_the_end.append(request.url))
    page.wait_for_timeout(QUIET)
    return seen


def wait_for(page: Page, line: str) -> None:
    page.wait_for_function("line => document.querySelector('sse-log')?.text?.split('\\n').includes(line)", arg=line)


def connection(page: Page, state: str) -> str:
    """What the viewer says of its connection, once it is so."""
    page.wait_for_selector(f".sl-connection[data-state={state}]")
    return page.inner_text(".sl-connection").partition(" ")[0].rstrip("…")


def lines(page: Page) -> list[str]:
    return str(page.evaluate("document.querySelector('sse-log').text")).split("\n")


@pytest.fixture(scope="module")
def curled(followed: Followed, seen: Seen) -> list[tuple[Command, str]]:
    """The rest of the page, when there has been a build."""
    return [one for block in AFTER for one in followed.shell.run(block)]


def typed(shell: Shell, command: str) -> str:
    """What a command prints that the page does not have."""
    ((_, printed),) = shell.run(Block(page=FOLLOWED, line=0, language="console", file="", text=f"$ {command}\n"))
    return printed


def unlike_the_page(printed: list[tuple[Command, str]]) -> list[tuple[str, str]]:
    """The commands that printed something else than the page says, with what it was."""
    return [(command.text, text) for command, text in printed if not prints(command, text)]


def test_every_block_of_the_page_is_a_file_or_a_session() -> None:
    assert [str(block) for block in BLOCKS if bool(block.file) == (block.language == "console")] == []


def test_the_commands_before_the_browser_print_what_the_page_says(followed: Followed) -> None:
    shown = [one for one in followed.printed if one[0].output]
    assert len(shown) == 4
    assert unlike_the_page(shown) == []


def test_the_project_has_no_complaint_by_its_own_checks(followed: Followed) -> None:
    block = Block(
        page=FOLLOWED, line=0, language="console", file="", text="$ .venv/bin/python manage.py check --fail-level WARNING\n"
    )
    ((_, printed),) = followed.shell.run(block)
    assert printed == "System check identified no issues (0 silenced).\n"


def test_lines_are_seen_before_the_build_is_over(seen: Seen) -> None:
    assert seen.status_at_first == "Running"
    assert seen.before_reload == STEPS[: len(seen.before_reload)]
    assert 3 <= len(seen.before_reload) < len(STEPS)


def test_each_line_is_seen_once_in_both_windows_after_a_reload_and_a_restart(seen: Seen) -> None:
    assert seen.windows == [STEPS, STEPS]
    assert [fact.startswith("Succeeded: ") and "exit code 0" in fact for fact in seen.facts] == [True, True]
    assert seen.connections == ["Reconnecting", "Ended", "Ended"]
    assert seen.errors == []


def test_the_page_stays_quiet_after_the_end(seen: Seen) -> None:
    assert seen.asked_after_the_end == []


def test_curl_prints_what_the_page_says(curled: list[tuple[Command, str]]) -> None:
    assert len(curled) == 4
    assert unlike_the_page(curled) == []


def test_the_exit_code_is_kept_by_the_build(followed: Followed, curled: list[tuple[Command, str]]) -> None:
    code = "from builds.models import Build; print([build.exit_code for build in Build.objects.all()])"
    printed = typed(followed.shell, f'.venv/bin/python manage.py shell --verbosity 0 -c "{code}"')
    assert printed == "[0]\n"


def test_the_log_of_a_build_that_is_not_there_is_a_404(followed: Followed, curled: list[tuple[Command, str]]) -> None:
    address = f"{followed.server.url}/admin/builds/build/99/log/"
    assert typed(followed.shell, f"curl -s -o answer.html -w '%{{http_code}}' -b jar {address}") == "404"
