"""Every name that a user can meet stands in the documentation, and the documentation names nothing else."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.management import BaseCommand, get_commands, load_command_class
from django.urls import include, path

import django_agent_sse
import django_agent_sse.admin
import django_agent_sse.contrib.monitor.admin
from django_agent_sse import Ending, Router, SSEView, Stream, exceptions, stream_closed, stream_opened
from django_agent_sse.conf import DEFAULTS
from django_agent_sse.streams import threads
from django_agent_sse.streams.options import NAMES, PROJECT_WIDE, StreamOptions

from .asking import PATIENCE, ask
from .blocks import DOCS, ROOT, blocks_of

PACKAGE = ROOT / "django_agent_sse"

API = DOCS / "reference" / "api.rst"
ROUTES = DOCS / "reference" / "routes.rst"
SETTINGS = DOCS / "reference" / "settings.rst"
SIGNALS = DOCS / "reference" / "signals.rst"
COMMANDS = DOCS / "reference" / "commands.rst"
CHECKS = DOCS / "reference" / "checks.rst"
EXCEPTIONS = DOCS / "reference" / "exceptions.rst"
WIRE = DOCS / "reference" / "wire.rst"
STREAMS = DOCS / "topics" / "streams.rst"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def sources() -> str:
    return "\n".join(text(path) for path in sorted(PACKAGE.rglob("*.py")))


def values(page: Path) -> dict[str, str]:
    """The page's ``confval`` entries, and the default that each shows."""
    entries = re.findall(r"^\.\. confval:: (\w+)\n((?:   :\w+:.*\n)*)", text(page), re.MULTILINE)
    return {name: "".join(re.findall(r":default: (.*)\n", options)) for name, options in entries}


def shown(default: str) -> object:
    """A default as Python reads it."""
    literal = re.match(r"``(.*?)``", default)
    assert literal, f"{default!r} begins with no literal"
    return ast.literal_eval(literal[1])


def cells(page: Path, heading: str) -> list[str]:
    """The literals in the first column of the table whose first heading is ``heading``."""
    table = text(page).partition(f"   * - {heading}\n")[2]
    table = re.split(r"\n(?=\S)", table)[0]
    return re.findall(r"^   \* - ``([^`]+)``", table, re.MULTILINE)


# Public names


def test_every_public_name_has_its_entry() -> None:
    entries = set(re.findall(r"^\.\. auto(?:class|data|function):: django_agent_sse\.(\w+)\b(?!\.)", text(API), re.MULTILINE))
    signals = set(re.findall(r"^\.\. py:data:: django_agent_sse\.(\w+)", text(SIGNALS), re.MULTILINE))
    assert entries | signals == set(django_agent_sse.__all__)


def test_every_name_for_the_admin_has_its_entry() -> None:
    for package in (django_agent_sse.admin, django_agent_sse.contrib.monitor.admin):
        entry = rf"^\.\. auto(?:class|function):: {re.escape(package.__name__)}\.(\w+)"
        assert set(re.findall(entry, text(API), re.MULTILINE)) == set(package.__all__)


@pytest.mark.parametrize("name", ["Stream", "Context", "RouteLogger"])
def test_every_method_of_what_a_handler_gets_has_its_entry(name: str) -> None:
    entry = re.search(rf"^\.\. autoclass:: [\w.]*\.{name}\(\)\n(   :.*\n)+", text(API), re.MULTILINE)
    assert entry
    assert "   :members:\n" in entry[0]


# Settings and options


def test_every_setting_stands_in_the_reference() -> None:
    assert set(values(SETTINGS)) == set(DEFAULTS)


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_the_default_of_a_setting_is_the_one_in_the_reference(key: str) -> None:
    assert shown(values(SETTINGS)[key]) == DEFAULTS[key]


def arguments() -> set[str]:
    """The names that a route takes besides the options of its stream."""
    parameters = inspect.signature(Router.sse).parameters.values()
    named = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    return {*named, "app_name"}


def test_every_option_of_a_route_stands_in_the_reference() -> None:
    assert set(values(ROUTES)) == {*arguments(), *NAMES}
    no_options = {"_endpoint", "handle", "serves_drained", "for_operators", "answers_head", "opens_in_tab"}
    view = {*vars(SSEView)["__annotations__"]} - no_options
    assert view <= set(values(ROUTES))


def test_the_default_of_an_option_is_the_one_in_the_reference() -> None:
    defaults = {one.name: one.default for one in inspect.signature(Router.sse).parameters.values()}
    for name, default in values(ROUTES).items():
        if name in PROJECT_WIDE:
            assert default == f'``AGENT_SSE["{name.upper()}"]``'
        elif name in NAMES:
            assert shown(default) == StreamOptions.__dataclass_fields__[name].default
        else:
            assert shown(default) == defaults.get(name)


# Endings, control events, checks, exceptions


def test_the_table_of_endings_has_every_ending() -> None:
    table = cells(STREAMS, "ending")
    assert set(table) == set(Ending)
    assert len(table) == len(set(table))


def test_the_table_of_endings_is_the_one_that_streams_obey() -> None:
    rows = re.split(r"^   \* - ", text(STREAMS).partition("   * - ending\n")[2], flags=re.MULTILINE)[1:]
    cells_of = {row.partition("``")[2].partition("``")[0]: row.partition("\n\n")[0].strip().split("\n     - ") for row in rows}
    printed = {ending: (cells[2], cells[3], cells[4], cells[5]) for ending, cells in cells_of.items()}
    assert printed == {str(ending): _row(ending) for ending in Ending}


def _row(ending: Ending) -> tuple[str, str, str, str]:
    """What the page must say of an ending: ``on_abort``, the handler's fate, the last event, and what an EventSource finds."""
    rules = ending.rules
    fate = "is cancelled" if rules.aborts else "has returned, or gets a grace"
    back = "gets 204" if rules.final else "goes on"
    if ending is Ending.HANDLER_ERROR:
        fate, back = "has raised", "runs it again"
    elif ending is Ending.CLIENT_DISCONNECT:
        fate = "is cancelled, or continues"
    elif ending is Ending.REVOKED:
        back = "asks the guards"
    elif ending is Ending.KICKED:
        back = "204, or later, as staff chose"
    return "yes" if rules.aborts else "no", fate, f"``{rules.last_event}``" if rules.last_event else "–", back


def test_every_control_event_stands_in_the_wire_dialect() -> None:
    assert set(re.findall(r"^``(sse\.\w+)``$", text(WIRE), re.MULTILINE)) == set(re.findall(r'"(sse\.\w+)"', sources()))


def test_every_system_check_has_its_fix() -> None:
    ids = set(re.findall(r'"(django_agent_sse\.[EWIC]\d{3})"', sources()))
    sections = dict(re.findall(r"^(django_agent_sse\.\w\d{3})\n-+\n(.*?)(?=^\.\. _|\Z)", text(CHECKS), re.MULTILINE | re.DOTALL))
    assert set(sections) == ids
    assert all("**Fix:**" in section for section in sections.values())


def classes() -> dict[str, str]:
    """Every exception and the one above it."""
    found = [one for one in vars(exceptions).values() if inspect.isclass(one) and issubclass(one, exceptions.AgentSSEError)]
    return {one.__name__: one.__bases__[0].__name__ for one in found}


def drawn() -> Iterator[tuple[str, str]]:
    """The lines of the tree: a name, and the one above it."""
    (tree,) = (block.text for block in blocks_of(EXCEPTIONS) if block.file == "The tree")
    above = ["Exception"]
    for depth, name in ((found.start(), found[0]) for line in tree.split("\n") if (found := re.search(r"\w+", line))):
        del above[depth // 4 + 1 :]
        yield name, above[-1]
        above.append(name)


def test_every_exception_stands_in_the_tree() -> None:
    assert dict(drawn()) == classes()
    assert set(re.findall(r"^\.\. autoexception:: (\w+)", text(EXCEPTIONS), re.MULTILINE)) == set(classes())


# Signals and the log line, as they come


router = Router()


@router.sse("greeting/")
async def greeting(c: Any, stream: Stream) -> None:
    await stream.write("hello")
    await stream.comment("not counted")


urlpatterns = [path("", include(router.urls))]


@pytest.fixture
def greet(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    yield
    threads.reset()


def told(signal: str) -> set[str]:
    """The keywords of a signal, as its entry lists them."""
    entry = text(SIGNALS).partition(f".. py:data:: django_agent_sse.{signal}\n")[2]
    return set(re.findall(r"^   :param (\w+):", re.split(r"\n(?=\S)", entry)[0], re.MULTILINE))


async def test_signals_have_the_keywords_of_the_reference(greet: None) -> None:
    came: dict[str, set[str]] = {}
    over = asyncio.Event()

    async def opened(sender: type, **given: Any) -> None:
        came["stream_opened"] = set(given) - {"signal"}

    async def closed(sender: type, **given: Any) -> None:
        came["stream_closed"] = set(given) - {"signal"}
        over.set()

    stream_opened.connect(opened)
    stream_closed.connect(closed)
    try:
        await ask("GET", "/greeting/")
        await asyncio.wait_for(over.wait(), PATIENCE)
    finally:
        stream_opened.disconnect(opened)
        stream_closed.disconnect(closed)
    assert came == {name: told(name) for name in ("stream_opened", "stream_closed")}


async def test_the_log_line_has_the_attributes_of_the_reference(greet: None, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "django_agent_sse.stream"):
        await ask("GET", "/greeting/")
    (record,) = (one for one in caplog.records if one.message.startswith("stream closed: "))
    plain = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
    assert set(vars(record)) - plain == set(cells(SIGNALS, "attribute"))
    (shape,) = (block.text for block in blocks_of(SIGNALS) if block.language == "text")
    assert digits_out(record.message) == digits_out(shape.strip()).replace("builds/<int:build_id>/log/", "greeting/")
    assert record.events == 1


def digits_out(line: str) -> str:
    return re.sub(r"[\d.]+", "0", line)


# Management commands


def commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if app == "django_agent_sse")


def options_of(name: str) -> set[str]:
    """The options of a command that are its own, as ``--help`` shows them."""
    parser = load_command_class("django_agent_sse", name).create_parser("manage.py", name)
    known = {option for action in BaseCommand().create_parser("manage.py", name)._actions for option in action.option_strings}
    own = [action for action in parser._actions if action.option_strings and not known & {*action.option_strings}]
    return {option for action in own for option in action.option_strings}


@pytest.mark.parametrize("name", commands())
def test_every_option_of_a_command_stands_in_the_reference(name: str) -> None:
    assert re.search(rf"^``{name} .*``$", text(COMMANDS), re.MULTILINE)
    table = re.split(r"\n(?=\S)", text(COMMANDS).partition(f"   * - {name}\n")[2])[0]
    rows = re.findall(r"^   \* - (.*)$", table, re.MULTILINE)
    assert {word for row in rows for word in re.findall(r"``(-[-\w]*)", row)} == options_of(name)


def test_the_how_to_shows_every_command() -> None:
    assert {*re.findall(r"\bsse_\w+", text(DOCS / "howto" / "commands.rst"))} == {*commands()}


# Pages that messages name


def test_a_message_names_a_page_that_exists() -> None:
    named = re.findall(r"documentation's page ([\w/-]+)", sources())
    assert len(named) >= 3
    assert [page for page in named if not (DOCS / f"{page}.rst").exists()] == []


# Errors that are built-in errors too


def test_the_built_in_bases_of_an_error_stand_in_the_reference() -> None:
    (paragraph,) = re.findall(r"^Some are a built-in error too\. (.*?)\n\n", text(EXCEPTIONS), re.MULTILINE | re.DOTALL)
    said = set()
    for sentence in paragraph.split(";"):
        (base,) = re.findall(r"``(\w+)``", sentence)
        said |= {(name, base) for name in re.findall(r"(?<!`)`(\w+)`(?!`)", sentence)}
    classes = [one for one in vars(exceptions).values() if inspect.isclass(one) and issubclass(one, exceptions.AgentSSEError)]
    own = {(one.__name__, base.__name__) for one in classes for base in one.__bases__ if base.__module__ == "builtins"}
    assert said == own - {("AgentSSEError", "Exception")}


def test_the_number_of_options_with_a_default_for_the_project_is_the_one_on_the_page() -> None:
    options = [name for name in values(ROUTES) if name in NAMES]
    words = ("nine", "ten", "eleven", "twelve", "thirteen", "fourteen")
    assert f"The first {words[len(PROJECT_WIDE) - 9]} have a" in text(ROUTES)
    assert set(options[: len(PROJECT_WIDE)]) == set(PROJECT_WIDE)


# Permissions


@pytest.mark.django_db
def test_the_permissions_of_the_monitor_are_listed_as_the_admin_shows_them() -> None:
    """As in the box of permissions of a user or a group: the app's name, the model's, the permission's."""
    page = text(DOCS / "howto" / "monitor.rst")
    rows = re.findall(r"^   \* - ([^\n]+ \| [^\n]+)\n     - ``(\w+)``", page, re.MULTILINE)
    of_ours = Permission.objects.filter(content_type__app_label__in=["django_agent_sse", "agent_sse_monitor"])
    granted = of_ours.exclude(content_type__model="keyvaluestore")
    core, monitor = (apps.get_app_config(label).verbose_name for label in ("django_agent_sse", "agent_sse_monitor"))
    listed = {(f"{monitor if label.startswith('live stream') else core} | {label}", name) for label, name in rows}
    assert listed == {(str(one), one.codename) for one in granted}
    assert f"lists under *{monitor}* (live\nstreams) and *{core}* (topics)" in page
