"""The page about tokens, followed in a fresh project: the real authentication classes of two other packages, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from .blocks import TOKENS, blocks_of
from .following import Project, followed

SETTINGS = """
INSTALLED_APPS = ["daphne", *INSTALLED_APPS]
"""
BLOCKS = blocks_of(TOKENS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("tokens")
    with followed(folder, BLOCKS[:-1], "python manage.py runserver --noreload", settings=SETTINGS) as project:
        project.run(BLOCKS[-1])
        yield project


def test_its_sessions_print_what_the_page_says(project: Project) -> None:
    assert [command.text.split()[0] for command, _ in project.printed[-6:]] == ["export", *["curl"] * 5]
    assert project.unlike_the_page == []


def test_who_is_not_active_is_refused_by_both_and_who_lacks_the_permission_gets_403(project: Project) -> None:
    code = (
        "from django.contrib.auth.models import User; from rest_framework.authtoken.models import Token\n"
        "for name in ('gone', 'carol'): "
        "print(Token.objects.create(user=User.objects.create_user(name, is_active=name != 'gone')).key)"
    )
    gone, carol = project.shell.manage("shell", "--verbosity", "0", "-c", code).split()

    def ask(path: str, credentials: str) -> httpx.Response:
        return httpx.get(f"{project.server.url}/{path}/", headers={"Authorization": credentials}, timeout=120)

    assert ask("mine", f"Token {gone}").status_code == ask("bearer", f"Bearer {gone}").status_code == 401
    assert ask("mine", f"Token {carol}").text.endswith("data: hello carol\n\n")
    assert ask("bearer", f"Bearer {carol}").text.endswith("data: hello carol\n\n")
    assert ask("users", f"Token {carol}").status_code == 403
