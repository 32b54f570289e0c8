"""The how-to for notifications, followed in a fresh project: real processes, a real browser, two users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.chromium import launched

from .blocks import NOTIFICATIONS, blocks_of, commands_in
from .following import Project, followed

PATIENCE = 120
PEOPLE = """
from django.contrib.auth.models import User
for name in ("ann", "bob"):
    User.objects.create_superuser(name, password=name)
"""
PAGE = """
from pathlib import Path
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.shortcuts import render
from django.urls import path
from mysite.urls import urlpatterns
from django_agent_sse import Stream
from notices.models import notify
urlpatterns = [*urlpatterns, path("page/", lambda request: render(request, "page.html"))]
BETWEEN = Path(__file__).with_name("between")
follow = Stream.follow

async def late(stream, *topics, **how):
    if BETWEEN.exists():
        BETWEEN.unlink()
        user = await User.objects.aget(username="ann")
        await sync_to_async(notify)(user, "in between")
    return await follow(stream, *topics, **how)

Stream.follow = late
"""
"""A page with the template in it; and, if a test asks, a notice between what the handler has queried and what it follows."""
SETTINGS = """
INSTALLED_APPS = ["daphne", *INSTALLED_APPS]
ASGI_APPLICATION = "mysite.asgi.application"
ROOT_URLCONF = "mysite.page"
"""
BLOCKS = blocks_of(NOTIFICATIONS)
USE = next(block for block in BLOCKS if block.file == "anywhere.py")
PREPARING = BLOCKS[: BLOCKS.index(USE)]
(CURL,) = commands_in(BLOCKS[-1])


class Notices:
    """A fresh project in which the page was followed."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.url = project.server.url
        self.between = project.shell.folder / "mysite" / "between"

    def notify(self, name: str, text: str = "") -> None:
        """Do what the page does last, in a process of its own."""
        code = USE.text.replace("Build 42 failed", text or "Build 42 failed")
        who = f"from django.contrib.auth.models import User; user = User.objects.get(username={name!r})\n"
        self.project.shell.manage("shell", "-c", who + code)

    @contextmanager
    def client(self, name: str) -> Iterator[httpx.Client]:
        """Somebody signed in."""
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as client:
            client.get("/admin/login/")
            form = {"username": name, "password": name, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
            client.post("/admin/login/", data=form)
            yield client


def add_page(folder: Path) -> None:
    (folder / "mysite" / "page.py").write_text(PAGE)
    (folder / "notices" / "templates" / "page.html").write_text('<!doctype html>{% include "notices/notices.html" %}')


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notices]:
    folder = tmp_path_factory.mktemp("notices")
    with followed(folder, PREPARING, "python manage.py runserver --noreload", settings=SETTINGS, before=add_page) as project:
        project.shell.manage("shell", "-c", PEOPLE)
        yield Notices(project)


def told(answer: httpx.Response, count: int) -> list[str]:
    """The texts of the next notices."""
    texts = []
    for line in answer.iter_lines():
        if line.startswith("data: "):
            texts.append(json.loads(line.removeprefix("data: "))["text"])
            if len(texts) == count:
                break
    return texts


def test_commands_print_what_the_page_says(project: Notices) -> None:
    assert project.project.unlike_the_page == []


def test_the_stream_prints_what_the_page_says(project: Notices) -> None:
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


def test_what_was_not_seen_comes_again_and_what_is_new_comes_at_once(project: Notices) -> None:
    project.notify("ann", "one")
    with project.client("ann") as ann:
        with ann.stream("GET", "/notices/") as answer:
            assert told(answer, 1) == ["one"]
        with ann.stream("GET", "/notices/") as answer:
            project.notify("ann", "two")
            assert told(answer, 2) == ["one", "two"]


def test_what_comes_between_the_query_and_the_following_is_not_lost(project: Notices) -> None:
    with project.client("ann") as ann:
        project.between.touch()
        with ann.stream("GET", "/notices/") as answer:
            assert told(answer, 3) == ["one", "two", "in between"]
    assert not project.between.exists()


def test_notices_are_for_their_user_alone(project: Notices) -> None:
    assert httpx.get(f"{project.url}/notices/", timeout=120).status_code == 401
    project.notify("ann", "for Ann")
    project.notify("bob", "for Bob")
    with project.client("bob") as bob:
        with bob.stream("GET", "/notices/") as answer:
            assert told(answer, 1) == ["for Bob"]
        assert bob.post("/notices/2/seen/", headers={"X-CSRFToken": bob.cookies["csrftoken"]}).status_code == 204
    with project.client("ann") as ann, ann.stream("GET", "/notices/") as answer:
        assert told(answer, 1) == ["one"], "Bob cannot dismiss it"


def test_a_page_shows_them_and_a_dismissed_one_stays_away(project: Notices) -> None:
    with launched() as browser, browser.new_context() as context, project.client("bob") as bob:
        context.set_default_timeout(PATIENCE * 1000)
        context.add_cookies([{"name": "sessionid", "value": bob.cookies["sessionid"], "url": project.url}])
        page = context.new_page()
        page.goto(f"{project.url}/page/")
        notices = page.locator("#notices p")
        expect(notices).to_have_count(1)
        project.notify("bob", "<b>while watching</b>")
        expect(notices).to_have_count(2, timeout=PATIENCE * 1000)
        expect(notices.last.locator("a")).to_have_text("<b>while watching</b>")
        expect(notices.last.locator("a")).to_have_attribute("href", "/builds/42/")
        second = context.new_page()
        second.goto(f"{project.url}/page/")
        expect(second.locator("#notices p")).to_have_count(2)
        notices.first.get_by_role("button", name="Dismiss").click()
        expect(notices).to_have_count(1)
        expect(second.locator("#notices p")).to_have_count(1)
        page.reload()
        expect(notices).to_have_count(1)
        expect(notices.first).to_contain_text("while watching")
