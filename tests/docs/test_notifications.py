"""The how-to for notifications, followed in a fresh project: real processes, a real browser, two users."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import expect

from tests.chromium import launched

from .blocks import NOTIFICATIONS, Command, blocks_of, commands_in, prints
from .following import Server, Shell

PATIENCE = 30
PEOPLE = """
from django.contrib.auth.models import User
for name in ("ann", "bob"):
    User.objects.create_superuser(name, password=name)
"""
PAGE = """
from django.shortcuts import render
from django.urls import path
from mysite.urls import urlpatterns
urlpatterns = [*urlpatterns, path("page/", lambda request: render(request, "page.html"))]
"""
SETTINGS = """
INSTALLED_APPS = ["daphne", *INSTALLED_APPS]
ASGI_APPLICATION = "mysite.asgi.application"
ROOT_URLCONF = "mysite.page"
"""
BLOCKS = blocks_of(NOTIFICATIONS)
USE = next(block for block in BLOCKS if block.file == "anywhere.py")
PREPARING = BLOCKS[: BLOCKS.index(USE)]
(CURL,) = commands_in(BLOCKS[-1])


@dataclass(slots=True)
class Project:
    """A fresh project in which the page was followed."""

    shell: Shell
    server: Server
    printed: list[tuple[Command, str]]

    def notify(self, name: str, text: str = "") -> None:
        """Do what the page does last, in a process of its own."""
        code = USE.text.replace("Build 42 failed", text or "Build 42 failed")
        who = f"from django.contrib.auth.models import User; user = User.objects.get(username={name!r})\n"
        _run(self.shell, "manage.py", "shell", "-c", who + code)

    @contextmanager
    def client(self, name: str) -> Iterator[httpx.Client]:
        """Somebody signed in."""
        with httpx.Client(base_url=self.server.url, timeout=PATIENCE) as client:
            client.get("/admin/login/")
            form = {"username": name, "password": name, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
            client.post("/admin/login/", data=form)
            yield client


def _run(shell: Shell, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, *arguments], cwd=shell.folder, env=shell.environment, check=True, timeout=60, stdout=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    shell = Shell(tmp_path_factory.mktemp("notices"))
    _run(shell, "-m", "django", "startproject", "mysite", ".")
    printed = []
    for block in PREPARING:
        if block.file:
            shell.write(block)
        else:
            printed += shell.run(block)
    (shell.folder / "mysite" / "page.py").write_text(PAGE)
    (shell.folder / "notices" / "templates" / "page.html").write_text('<!doctype html>{% include "notices/notices.html" %}')
    with (shell.folder / "mysite" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    _run(shell, "manage.py", "shell", "-c", PEOPLE)
    server = Server(shell, Command(block=BLOCKS[0], text="python manage.py runserver --noreload", output=""))
    try:
        yield Project(shell, server, printed)
    finally:
        server.stop()


def told(answer: httpx.Response, count: int) -> list[str]:
    """The texts of the next notices."""
    texts = []
    for line in answer.iter_lines():
        if line.startswith("data: "):
            texts.append(json.loads(line.removeprefix("data: "))["text"])
            if len(texts) == count:
                break
    return texts


def test_commands_print_what_the_page_says(project: Project) -> None:
    for command, printed in project.printed:
        assert prints(command, printed.strip()), f"\nthe page says:\n{command.output}\n\nit printed:\n{printed}"


def test_the_stream_prints_what_the_page_says(project: Project) -> None:
    project.notify("ann")
    with project.client("ann") as ann:
        with ann.stream("GET", "/notices/") as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line)
                if line.startswith("data: "):
                    break
        assert lines[-3:] == CURL.output.splitlines()
        assert ann.post("/notices/1/seen/", headers={"X-CSRFToken": ann.cookies["csrftoken"]}).status_code == 204


def test_what_was_not_seen_comes_again_and_what_is_new_comes_at_once(project: Project) -> None:
    project.notify("ann", "one")
    with project.client("ann") as ann:
        with ann.stream("GET", "/notices/") as answer:
            assert told(answer, 1) == ["one"]
        with ann.stream("GET", "/notices/") as answer:
            project.notify("ann", "two")
            assert told(answer, 2) == ["one", "two"]


def test_notices_are_for_their_user_alone(project: Project) -> None:
    assert httpx.get(f"{project.server.url}/notices/").status_code == 401
    project.notify("ann", "for Ann")
    project.notify("bob", "for Bob")
    with project.client("bob") as bob:
        with bob.stream("GET", "/notices/") as answer:
            assert told(answer, 1) == ["for Bob"]
        bob.post("/notices/2/seen/", headers={"X-CSRFToken": bob.cookies["csrftoken"]})
    with project.client("ann") as ann, ann.stream("GET", "/notices/") as answer:
        assert told(answer, 1) == ["one"], "Bob cannot dismiss it"


def test_a_page_shows_them_and_a_dismissed_one_stays_away(project: Project) -> None:
    with launched() as browser, browser.new_context() as context, project.client("bob") as bob:
        context.set_default_timeout(PATIENCE * 1000)
        context.add_cookies([{"name": "sessionid", "value": bob.cookies["sessionid"], "url": project.server.url}])
        page = context.new_page()
        page.goto(f"{project.server.url}/page/")
        notices = page.locator("#notices p")
        expect(notices).to_have_count(1)
        project.notify("bob", "<b>while watching</b>")
        expect(notices).to_have_count(2, timeout=PATIENCE * 1000)
        expect(notices.last.locator("a")).to_have_text("<b>while watching</b>")
        expect(notices.last.locator("a")).to_have_attribute("href", "/builds/42/")
        notices.first.get_by_role("button", name="Dismiss").click()
        expect(notices).to_have_count(1)
        page.reload()
        expect(notices).to_have_count(1)
        expect(notices.first).to_contain_text("while watching")
