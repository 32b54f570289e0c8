"""The shell sessions and the links of the README and of the documentation name only what exists."""

from __future__ import annotations

import configparser
import functools
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands

from tests.npm import SOURCE

from .blocks import DOCS, PAGES, README, ROOT, Command, commands_of, name_of

SERVERS = ("uvicorn", "daphne", "granian", "hypercorn")
COMMANDS = [command for page in PAGES for command in commands_of(page)]
SET_UP = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox run -e"
FACTORS = re.compile(r"py3\d\d?-django\d\d")


@functools.cache
def tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    return parser


def environments() -> set[str]:
    """What ``tox run -e`` takes: the sections, and the list with its braces written out."""
    named = {section.removeprefix("testenv:") for section in tox().sections() if section.startswith("testenv:")}
    for line in tox()["tox"]["env_list"].split():
        head, _, rest = line.partition("{")
        named |= {f"{head}{version}" for version in rest.rstrip("}").split(",")} if rest else {line}
    return named


def words(command: Command) -> list[list[str]]:
    """The simple commands of a line."""
    return [shlex.split(part) for part in command.text.split("&&")]


def starting(program: str) -> Any:
    found = [(command, part) for command in COMMANDS for part in words(command) if Path(part[0]).name == program]
    return pytest.mark.parametrize(("command", "part"), found, ids=[f"{command.block}" for command, _ in found])


def test_the_readme_has_the_two_commands() -> None:
    assert [command.text for command in commands_of(README) if "tox" in command.text] == [f"{SET_UP} demo", f"{SET_UP} test"]


def test_every_program_of_a_session_is_known_here() -> None:
    known = {"python3", "python", "pip", "tox", "django-admin", "curl", "gunicorn", "mkdir", "export", "tail", *SERVERS}
    assert {Path(part[0]).name for command in COMMANDS for part in words(command)} <= known


@starting("tox")
def test_tox_knows_the_environments(command: Command, part: list[str]) -> None:
    assert part[1:3] == ["run", "-e"]
    assert set(part[3].split(",")) <= environments()
    assert all((ROOT / path).exists() for path in part[5:] if not path.startswith("-"))


def test_the_guide_for_contributors_has_every_environment() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", guide, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row)} == environments()


def test_every_long_form_is_run_by_an_environment() -> None:
    tests, run = ROOT / "tests", set()
    for section in tox().sections():
        if "LONG_PROOFS = 1" in tox()[section].get("set_env", ""):
            words = shlex.split(re.sub(r"\{posargs:?(.*?)\}", r"\1", tox()[section]["commands"]))
            without = {words[at + 1] for at, word in enumerate(words) if word == "--deselect"}
            found = {path for word in words if word.startswith("tests/") for path in [ROOT / word, *(ROOT / word).rglob("*.py")]}
            run |= {path for path in found if path.relative_to(ROOT).as_posix() not in without}
    long = {
        path
        for path in tests.rglob("test_*.py")
        if path != Path(__file__) and re.search(r"LONG_PROOFS|^from tests\.timing import", path.read_text(encoding="utf-8"), re.M)
    }
    long |= {
        tests / "browser/test_node.py" for path in SOURCE.glob("*.test.mjs") if "LONG_PROOFS" in path.read_text(encoding="utf-8")
    }
    assert {path.relative_to(ROOT).as_posix() for path in long - run} == set()


@starting("pip")
def test_pip_is_asked_for_extras_that_exist(command: Command, part: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in part[2:]:
        name, _, extras = requirement.rstrip("]").partition("[")
        assert name in ("tox", "uvicorn", "daphne", "channels-redis", f"./{project['name']}")
        assert {extra for extra in extras.split(",") if extra} <= set(project["optional-dependencies"])


def test_no_session_installs_what_has_no_release() -> None:
    """A clone is installed, as the README says; by ``pip``, which the test above knows."""
    assert [command.text for command in COMMANDS if "pip install" in command.text and "python -m pip" in command.text] == []


@starting("django-admin")
def test_django_has_the_commands(command: Command, part: list[str]) -> None:
    assert part[1] in get_commands()


@functools.cache
def help_of(server: str) -> str:
    return subprocess.run([sys.executable, "-m", server, "--help"], capture_output=True, text=True, check=True).stdout


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))


@pytest.mark.parametrize("server", SERVERS)
def test_servers_have_the_flags_that_the_pages_name(server: str) -> None:
    """Those of its commands, in sessions and in running text, and those of its own section."""
    page = (ROOT / "docs" / "howto" / "servers.rst").read_text(encoding="utf-8")
    section = re.search(rf"^{server}\n~+\n(.*?)(?=^[\w ]+\n[~-]+\n)", page, re.MULTILINE | re.DOTALL)
    assert section
    literals = [literal for literal in re.findall(r"``([^`]+)``", page) if literal.startswith(f"{server} ")]
    sessions = [command.text for command in COMMANDS if Path(command.text.split()[0]).name == server]
    named = flags_in(" ".join([*literals, *sessions, *re.findall(r"``(-[^`]+)``", section[1])]))
    assert named <= flags_in(help_of(server))


def test_links_of_the_readme_lead_to_files() -> None:
    for page in (page for page in PAGES if page.suffix == ".md"):
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
        assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == [], name_of(page)


def test_each_address_of_a_link_in_the_readme_is_used() -> None:
    text, _, addresses = README.read_text(encoding="utf-8").rpartition("LICENSE].\n")
    defined = set(re.findall(r"^\[([^\]]+)\]: ", addresses, re.MULTILINE))
    assert {name for name in defined if f"[{name}]" not in f"{text}[LICENSE]"} == set()
    assert set(re.findall(r'\]\[([^\]"]+)\]', text)) <= defined


def test_the_index_has_every_page() -> None:
    index = DOCS / "index.rst"
    listed = set(re.findall(r"^   ([\w/-]+)$", index.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {
        page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if page.suffix == ".rst" and page != index
    }


def test_each_picture_is_on_a_page() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/([\w-]+\.(?:png|svg))", page.read_text(encoding="utf-8"))}
    assert shown == {path.name for path in (DOCS / "images").iterdir()}
