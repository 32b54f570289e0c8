"""The page about clients that are not browsers: the real libraries, a network that breaks, and the end."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession
from aiohttp_sse_client2.client import EventSource as AiohttpEventSource
from ld_eventsource import SSEClient
from ld_eventsource.config import ConnectStrategy, ErrorStrategy
from ld_eventsource.errors import HTTPStatusError
from requests_sse import EventSource as RequestsEventSource
from requests_sse import InvalidStatusCodeError

from tests.browser.log.cutting import Cutting
from tests.browser.log.serving import LogSite
from tests.npm import Node

from . import pages
from .blocks import DOCS, blocks_of, commands_of, prints

PAGE = DOCS / "howto" / "clients.rst"
PATIENCE = 120
STEPS = [("step", "compile"), ("step", "link"), ("step", "test ü")]
PYTHON = tuple(f"clients/with_{name}.py" for name in ("httpx", "requests", "aiohttp", "launchdarkly", "niquests"))
NODE = ("clients/fetch-event-source.mjs", "clients/eventsource.mjs")
PRINTS = """
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
globalThis.window ??= globalThis;
const { read } = await import(process.argv[2]);
await read(process.argv[3], (event, data) => console.log(JSON.stringify([event, data])));
"""
"""``fetch-event-source`` is for pages: it asks a document whether it is hidden."""
numbers = count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogSite]:
    site = LogSite(tmp_path_factory.mktemp("clients"))
    yield site
    site.kill()


@pytest.fixture
def network(site: LogSite) -> Iterator[Cutting]:
    with Cutting(site.port) as cutting:
        yield cutting


@pytest.fixture
def name() -> str:
    return f"client{next(numbers)}"


@pytest.fixture
def ended(site: LogSite, name: str) -> str:
    """The address of a log that is over, and the header of a client that has had all of it."""
    site.publish(name, *STEPS, close="passed")
    return f"{site.url}/logs/{name}/log/"


def last_id(address: str) -> dict[str, str]:
    """What a client that has seen the end sends."""
    lines = httpx.get(address, headers={"Accept": "text/event-stream"}, timeout=120).text
    return {"Last-Event-ID": re.findall(r"^id: (.*)$", lines, re.MULTILINE)[-1]}


@pytest.fixture
def modules() -> Iterator[dict[str, ModuleType]]:
    with pages.imported(PAGE) as found:
        yield found


class Reading:
    """A client at work in a thread, and what it has got so far."""

    def __init__(self, read: Callable[[Callable[[str, str], None]], None]) -> None:
        self.events: list[tuple[str, str]] = []
        self.error: BaseException | None = None
        self._more = threading.Condition()
        self._read = read
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._read(self._note)
        except BaseException as error:
            self.error = error

    def _note(self, event: str, data: str) -> None:
        with self._more:
            self.events.append((event, data))
            self._more.notify()

    def wait_for(self, events: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= events, PATIENCE), (self.events, self.error)

    def end(self) -> list[tuple[str, str]]:
        """What it got, when it has come to its end by itself."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"it does not leave: {self.events}"
        assert self.error is None, self.error
        return self.events


def of_python(module: ModuleType, address: str) -> Callable[[Callable[[str, str], None]], None]:
    async def read_async(note: Callable[[str, str], None]) -> None:
        async for event, data in module.read(address):
            note(event, data)

    def read(note: Callable[[str, str], None]) -> None:
        if module.__name__.endswith("aiohttp"):
            asyncio.run(read_async(note))
            return
        for event, data in module.read(address):
            note(event, data)

    return read


def of_node(node: Node, file: str, folder: Path, address: str) -> Callable[[Callable[[str, str], None]], None]:
    (block,) = [block for block in blocks_of(PAGE) if block.file == file]
    program, runner = node.modules.parent / f"{folder.name}-{Path(file).name}", folder / "runner.mjs"
    program.write_text(block.text)  # beside the packages, which it imports
    runner.write_text(PRINTS)

    def read(note: Callable[[str, str], None]) -> None:
        import json

        command = [node.executable, str(runner), str(program), address]
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                for line in process.stdout:
                    note(*json.loads(line))
            assert process.returncode == 0
        finally:
            program.unlink()

    return read


@pytest.mark.parametrize("file", [*PYTHON, *NODE], ids=lambda file: Path(file).stem)
def test_it_gets_each_event_once_over_a_broken_connection_and_leaves_at_the_end(
    file: str,
    site: LogSite,
    network: Cutting,
    name: str,
    modules: dict[str, ModuleType],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    address = f"{network.url}/logs/{name}/log/"
    site.publish(name, *STEPS[:2])
    if file in PYTHON:
        reading = Reading(of_python(modules[file], address))
    else:
        reading = Reading(of_node(request.getfixturevalue("node"), file, tmp_path, address))
    reading.wait_for(2)
    network.cut()
    site.publish(name, STEPS[2], close="passed")
    assert reading.end() == STEPS
    assert len(network.heads) == 2, "one request more after the break, and none after the end"
    for head in network.heads:
        assert re.search(r"^accept: text/event-stream\r?$", head, re.MULTILINE | re.IGNORECASE), head
    assert re.search(r"^last-event-id: \w+\.2\S*\r?$", network.heads[1], re.MULTILINE | re.IGNORECASE), network.heads[1]


def test_the_page_shows_a_program_for_each_of_them() -> None:
    assert {block.file for block in blocks_of(PAGE) if block.file} == {*PYTHON, *NODE}


def test_curl_prints_what_the_page_says(site: LogSite, name: str) -> None:
    (command,) = commands_of(PAGE)
    site.publish(name, *STEPS[:2], close="passed")
    asked = command.text.replace("http://127.0.0.1:8000/builds/42/logs/", f"{site.url}/logs/{name}/log/")
    printed = subprocess.run(asked, shell=True, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    assert prints(command, printed.replace("retry: 500\n", "retry: 3000\n")), printed  # the site's own setting


def test_without_the_header_there_are_no_control_events_and_204_prints_nothing(ended: str) -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "-sN", *arguments, ended]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    assert "sse.end" not in curl()
    assert curl().count("event: step\n") == 3
    assert curl("-H", f"Last-Event-ID: {last_id(ended)['Last-Event-ID']}") == ""


# What each does at 204, as the table says


def test_httpx_is_told_204_and_its_loop_returns(ended: str, modules: dict[str, ModuleType]) -> None:
    assert [*modules["clients/with_httpx.py"].read(ended, headers=last_id(ended))] == []


def test_niquests_is_told_204_and_its_loop_returns(ended: str, modules: dict[str, ModuleType]) -> None:
    assert [*modules["clients/with_niquests.py"].read(ended, headers=last_id(ended))] == []


def test_requests_sse_raises_at_204(ended: str) -> None:
    with pytest.raises(InvalidStatusCodeError), RequestsEventSource(ended, headers=last_id(ended)):
        pass


async def test_aiohttp_sse_client2_raises_at_204(ended: str) -> None:
    headers = await asyncio.to_thread(last_id, ended)
    async with ClientSession() as session:
        with pytest.raises(ConnectionAbortedError):
            async with AiohttpEventSource(ended, session=session, headers=headers):
                pass


def test_launchdarkly_raises_at_204(ended: str) -> None:
    connect = ConnectStrategy.http(ended, headers=last_id(ended))
    with pytest.raises(HTTPStatusError), SSEClient(connect, error_strategy=ErrorStrategy.always_fail()) as client:
        list(client.events)


def test_eventsource_stops_at_204_and_fetch_event_source_asks_again(
    site: LogSite, network: Cutting, name: str, node: Node, tmp_path: Path
) -> None:
    """Both without leaving at ``sse.end``: one asks once more, the other goes on."""
    site.publish(name, *STEPS, close="passed")
    address = f"{network.url}/logs/{name}/log/"
    program = node.modules.parent / f"{tmp_path.name}-staying.mjs"
    program.write_text(
        """
        import { EventSource } from "eventsource";
        import { fetchEventSource } from "@microsoft/fetch-event-source";
        globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
        globalThis.window = globalThis;
        const source = new EventSource(process.argv[2] + "?by=eventsource");
        source.addEventListener("error", () => source.readyState === EventSource.CLOSED && console.log("closed"));
        fetchEventSource(process.argv[2] + "?by=fetch", {
            openWhenHidden: true,
            onclose() { throw new Error("come back"); },
        });
        """
    )
    with subprocess.Popen([node.executable, str(program), address], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "closed\n"
            asked = threading.Event()
            for _ in range(PATIENCE * 20):
                if sum("by=fetch" in head for head in network.heads) >= 4:
                    break
                asked.wait(0.05)
        finally:
            process.kill()
            program.unlink()
    counts: dict[str, Any] = {by: sum(f"by={by}" in head for head in network.heads) for by in ("eventsource", "fetch")}
    assert counts["eventsource"] == 2
    assert counts["fetch"] >= 4
