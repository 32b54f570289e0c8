"""The Python of the README and of the documentation runs, and its sessions with ``curl`` print what the pages say."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.checks import run_checks
from django.db import connections
from django.db.models import QuerySet
from django.urls import resolve

from django_agent_sse import Stream, conf
from django_agent_sse.streams import threads
from tests.site import settings as site

from . import asking, pages
from .blocks import PAGES, RUN_HERE, Block, Command, blocks_of, commands_of, name_of, prints
from .middleware import ACTS_AS_STAFF

HASTE = 100
"""How many times faster the clock of a handler's ``stream.sleep`` runs here."""
WAIT_FOR_PUBLISHERS = {
    "README.md",
    "docs/topics/topics.rst",
    "docs/reference/wires.rst",
    "docs/howto/testing.rst",
    "docs/howto/background-runs.rst",
    "docs/howto/tasks.rst",
    "docs/howto/progress.rst",
    "docs/howto/live-log.rst",
    "docs/howto/htmx.rst",
}
"""Pages whose streams say nothing before somebody publishes; tests of their own do."""
EVENTS = 3
"""After so many events of a stream, a reader has seen what it does."""
FAILS_ON_PURPOSE = {"docs/howto/errors.rst"}

WITH_PYTHON = [page for page in RUN_HERE if any(block.language == "python" for block in blocks_of(page))]
SETTINGS = [block for page in RUN_HERE for block in blocks_of(page) if pages.is_settings(block.file)]
FOLLOWED_ELSEWHERE = {"docs/howto/progress.rst", "docs/howto/clients.rst", "docs/howto/llm-chat.rst"}
"""Pages whose sessions are about what another process does meanwhile: tests of their own follow them."""
HERE = [page for page in RUN_HERE if name_of(page) not in FOLLOWED_ELSEWHERE]
CURLS = [command for page in HERE for command in commands_of(page) if command.text.startswith("curl ")]


def eventsources(page: Path) -> list[str]:
    """The addresses that the page's own pages open."""
    return [url for block in blocks_of(page) for url in re.findall(r'new EventSource\("(/[^"]*)"', block.text)]


WITH_EVENTSOURCE = [page for page in RUN_HERE if eventsources(page)]

any_page = pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)


@pytest.fixture(autouse=True)
def project(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A project for the page's code: the site's settings, somebody to sign in, a ``make`` that prints two lines, no waiting."""
    settings.ROOT_URLCONF = pages.URLCONF
    settings.MIDDLEWARE = [*site.MIDDLEWARE_SETS["default"], "tests.docs.middleware.acting"]
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\necho compiling\necho done\n")
    make.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(Stream, "sleep", _hasty(Stream.sleep))
    monkeypatch.setattr(QuerySet, "first", lambda self: None)  # a guard that looks for its object finds none, in no database
    for client in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{client}_API_KEY", "none")
    cache.clear()
    yield
    settings.CACHES = site.CACHES  # a page's own may name a server that is not there
    cache.clear()
    threads.reset()


def _hasty(sleep: Any) -> Any:
    async def hasty(stream: Stream, seconds: float) -> None:
        await sleep(stream, seconds / HASTE)

    return hasty


@pytest.fixture
def modules(page: Path) -> Iterator[dict[str, ModuleType]]:
    """The page's files."""
    with pages.imported(page) as found:
        yield found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_names_its_file(page: Path) -> None:
    assert [str(block) for block in blocks_of(page) if block.language == "python" and not block.file] == []


@any_page
async def test_every_route_of_a_page_answers(page: Path, modules: dict[str, ModuleType], caplog: Any) -> None:
    with caplog.at_level(logging.ERROR, "django_agent_sse"):
        for method, address in pages.routes():
            until = bool if name_of(page) in WAIT_FOR_PUBLISHERS else _seen
            if address.endswith("/raw/"):
                address += "?follow=0"  # a text that is followed has no first byte before its first line
            answer = await asking.ask(method, address, headers=ACTS_AS_STAFF, body=b"{}", until=until)
            assert answer.status < 500, (address, answer)
    assert name_of(page) in FAILS_ON_PURPOSE or not [one for one in caplog.records if one.name.startswith("django_agent_sse")]


def _seen(body: str) -> bool:
    return body.count("\n\n") >= EVENTS


@pytest.mark.parametrize("command", CURLS, ids=lambda command: f"{command.block}-{command.text}")
async def test_curl_prints_what_the_page_says(command: Command) -> None:
    patient = conf.other_default("COMMIT_AFTER", 60.0) if " -i " in command.text else nullcontext()
    with patient, pages.imported(command.block.page):
        printed = "\n".join(await asking.curl(command.text, until=lambda body: body.count("\n") >= 40))
        assert prints(command, printed), f"\nthe page says:\n{command.output}\n\nit printed:\n{printed}"


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_settings_of_a_page_can_be_used(block: Block, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run after those of a new project, and the package's system checks find no error."""
    given: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": [], "DATABASES": {"default": {}}}
    exec(compile(block.text, str(block), "exec"), given)
    for name in [*given["INSTALLED_APPS"], *given["MIDDLEWARE"]]:
        assert find_spec(name.partition(".")[0]), name
    for name in ("AGENT_SSE", "CACHES", "ASGI_APPLICATION", "CHANNEL_LAYERS"):
        if name in given:
            setattr(settings, name, given[name])
    for alias in {*given["DATABASES"]} - {*connections}:
        monkeypatch.setitem(connections.databases, alias, connections.databases["default"])
    with pages.imported(block.page):
        assert [found for found in run_checks(tags=["django_agent_sse"]) if found.is_serious()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) == "docs/howto/servers.rst"], ids=name_of)
async def test_accepted_sockets_have_the_time_outs_of_the_listening_one(page: Path, modules: dict[str, ModuleType]) -> None:
    with modules["serve.py"].listener("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


class _Users:
    """A user model with one user, whom no database has: a real one is asked for the page about tokens."""

    def __init__(self, user: User) -> None:
        self.objects = self
        self._user = user

    def filter(self, **about: Any) -> _Users:
        self._about = about
        return self

    async def afirst(self) -> User | None:
        return self._user if all(getattr(self._user, name) == value for name, value in self._about.items()) else None


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) == "docs/howto/guards.rst"], ids=name_of)
async def test_the_guard_of_the_page_that_sets_a_user_does_so(page: Path, modules: dict[str, ModuleType]) -> None:
    """The guard after it asks that user for a permission, and the handler greets it."""
    user = User(pk=7, username="ada", is_superuser=True)
    vars(modules["mysite/streams.py"])["get_user_model"] = lambda: _Users(user)

    async def asked(token: str) -> asking.Answer:
        return await asking.ask("GET", "/tasks/", headers={"authorization": f"Bearer {token}"})

    assert (await asked("t-91c4")).body.endswith("data: tasks of ada\n\n")
    assert (await asked("guessed")).status == 401
    user.is_active = False
    assert (await asked("t-91c4")).status == 401


@pytest.mark.parametrize("page", WITH_EVENTSOURCE, ids=name_of)
def test_the_addresses_that_a_page_gives_to_an_eventsource_exist(page: Path, modules: dict[str, ModuleType]) -> None:
    for address in eventsources(page):
        resolve(address)
