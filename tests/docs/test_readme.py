"""The README followed in a fresh project: its route, its settings, its tables, its server, and its command."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import httpx
import httpx_sse
import pytest

from django_agent_sse.eventlog import backend
from tests.serving import ask, connect, served

from . import pages
from .blocks import README, blocks_of
from .following import Project, followed

PATIENCE = 120
BLOCKS = blocks_of(README)
ROUTE, CHAT, AGENT, SETTINGS = (block for block in BLOCKS if block.file)
(COMMAND,) = (block for block in BLOCKS if "sse_run" in block.text and block.language == "console")
(TABLES,) = (block for block in BLOCKS if "migrate" in block.text)
(SERVING,) = (block for block in BLOCKS if "runserver" in block.text and block.language == "console")
SIGN_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_user("ann", is_staff=True))
print(client.cookies["sessionid"].value)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "Makefile").write_text("test:\n\t@echo compiling; sleep 1; echo done\n")
    with followed(folder, [ROUTE, SETTINGS, TABLES], SERVING.text.removeprefix("$ ").strip()) as project:
        yield project


def test_it_streams_a_command_to_staff_and_a_page_that_is_opened_starts_nothing(project: Project) -> None:
    address = f"{project.server.url}/builds/42/log/"
    assert httpx.get(address, timeout=120).status_code == 401
    cookies = {"sessionid": project.shell.manage("shell", "--verbosity", "0", "-c", SIGN_IN).strip()}
    watching, events = threading.Event(), []

    def watch(client: httpx.Client) -> None:
        with httpx_sse.connect_sse(client, "GET", address) as source:
            watching.set()
            events.extend((event.event, event.data) for event in source.iter_sse())

    with httpx.Client(cookies=cookies, timeout=PATIENCE) as client:
        readers = [threading.Thread(target=watch, args=[client]) for _ in range(2)]
        for reader in readers:
            reader.start()
        assert watching.wait(PATIENCE)
        assert project.shell.manage("sse_topics", "builds.").startswith("No topic's name begins"), (
            "the pages have started nothing"
        )
        project.run(COMMAND)
        for reader in readers:
            reader.join(PATIENCE)
    lines = [data for event, data in events if event == "stdout"]
    assert sorted(lines) == ["compiling"] * 2 + ["done"] * 2
    assert [event for event, _ in events].count("sse.end") == 2


async def test_its_chat_answers_and_is_there_after_a_reload() -> None:
    assert CHAT.file == "mysite/chat.py"
    backend.reset()
    with pages.imported(README) as modules, served(modules["mysite/chat.py"].router):
        body = b'{"messages": [{"role": "user", "content": "why?"}]}'
        asked = await ask("/chats/42/", method="POST", body=body)
        assert asked.data == ["You asked: ", "why?"]
        assert (await ask("/chats/42/")).data == asked.data
    backend.reset()


async def test_its_agent_is_stopped_in_the_middle_of_a_tools_call_which_a_late_page_has_seen_whole() -> None:
    assert AGENT.file == "mysite/agents.py"
    backend.reset()
    calling, stopped = asyncio.Event(), asyncio.Event()

    async def weather(city: str) -> str:
        calling.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return city

    with pages.imported(README) as modules, served(modules["mysite/agents.py"].router):
        vars(modules["mysite/agents.py"])["agent"] = type(modules["mysite/agent.py"].agent)(
            modules["mysite/agent.py"].agent.model, tools=[weather]
        )
        message = {"id": "1", "role": "user", "parts": [{"type": "text", "text": "Wo?"}]}
        body = json.dumps({"id": "42", "trigger": "submit-message", "messages": [message]}).encode()
        started = await ask("/api/chat", method="POST", body=body, headers={"prefer": "respond-async"})
        assert started.status == 202
        await calling.wait()
        late, types = connect("/api/chat/42/stream"), [""]
        while types[-1] != "tool-input-available":
            types += [json.loads(event.data)["type"] for event in await late.take(1)]
        assert (await ask(started.json()["stop"], method="POST")).status in (200, 202)
        await stopped.wait()
        *ends, done = [event.data for event in await late.rest()]
        types += [json.loads(data)["type"] for data in ends]
        assert types[1] == "start"
        assert (types[-2:], done) == (["abort", "finish"], "[DONE]")
        assert (await ask("/api/chat/42/stream")).status == 204
    backend.reset()


def test_its_steps_leave_no_warning_and_the_admin_where_it_was(project: Project) -> None:
    for options in ([], ["--database", "default"]):
        assert project.shell.manage("check", "--fail-level", "WARNING", *options).startswith("System check identified no issues")
    assert httpx.get(f"{project.server.url}/admin/login/", timeout=PATIENCE).status_code == 200


def test_its_sessions_print_what_it_says(project: Project) -> None:
    assert project.unlike_the_page == []
