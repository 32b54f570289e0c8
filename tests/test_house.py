"""The house tests itself: who may import whom, and how large things may grow."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "django_agent_sse"
HOME = ROOT / PACKAGE

STOREYS = {
    "wire": 0,
    "exceptions": 0,
    "conf": 1,
    "encoding": 1,
    "fields": 1,
    "signals": 1,
    "models": 1,
    "migrations": 1,
    "assets": 1,
    "script_words": 1,
    "runtime": 1,
    "eventlog": 2,
    "topics": 3,
    "metrics": 4,
    "streams": 4,
    "runs": 5,
    "access": 6,
    "guards": 6,
    "cross_origin": 6,
    "revocations": 6,
    "signed_urls": 6,
    "stream_calls": 6,
    "views": 6,
    "logs": 6,
    "log_text": 6,
    "log_parts": 6,
    "log_steps": 6,
    "routing": 6,
    "run_calls": 6,
    "run_names": 6,
    "run_routes": 6,
    "run_views": 6,
    "middleware": 6,
    "asgi": 6,
    "loop_middleware": 6,
    "admin": 7,
    "templatetags": 7,
    "management": 7,
    "testing": 7,
    "contrib": 7,
    "checks": 8,
    "apps": 8,
}
STRANGERS = {
    f"{PACKAGE}.topics.publish": {f"{PACKAGE}.topics.{name}" for name in ("feed", "feeds", "batch", "subscription", "follower")}
}
"""In one package, and yet they meet in the log only."""
MAX_LINES = 380
"""About 300 are wanted: a module is cut where its idea ends, not where a limit bites."""
MAX_FUNCTION = 60
LONG_FUNCTION = 25


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, as an absolute name."""

    line: int
    target: str


def modules() -> list[Path]:
    return sorted(HOME.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def known_modules() -> frozenset[str]:
    return frozenset(map(name_of, modules()))


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import of a module, wherever it stands: also in a function, and for type checkers only."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    return tuple(_walk(ast.parse(path.read_text()), package))


def _walk(tree: ast.AST, package: str) -> Iterator[Import]:
    for child in ast.walk(tree):
        if isinstance(child, ast.Import):
            yield from (Import(child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = ".".join([*package.split(".")[: len(package.split(".")) - child.level + 1]]) if child.level else ""
            origin = ".".join(filter(None, [base, child.module]))
            for alias in child.names:
                inner = f"{origin}.{alias.name}"
                yield Import(child.lineno, inner if inner in known_modules() else origin)


def inner_imports(path: Path) -> Iterator[tuple[Import, str]]:
    """Imports of the package's own modules, with the part of the package that they lead to."""
    for found in imports_of(path):
        first, _, rest = found.target.partition(".")
        if first == PACKAGE:
            yield found, rest.partition(".")[0]


def part_of(path: Path) -> str:
    """The entry of ``STOREYS`` that a module belongs to; empty for the package's front door."""
    inside = path.relative_to(HOME).parts
    return "" if inside == ("__init__.py",) else inside[0].removesuffix(".py")


def test_every_part_of_the_package_has_a_storey() -> None:
    assert {part_of(path) for path in modules()} - {""} <= STOREYS.keys()


def storeys_in_words() -> str:
    """The table as CONTRIBUTING.md shows it."""
    floors: dict[int, list[str]] = {}
    for part, storey in STOREYS.items():
        floors.setdefault(storey, []).append(f"`{part}`")
    return "".join(f"{storey}. {', '.join(sorted(parts))}\n" for storey, parts in sorted(floors.items()))


def test_the_guide_for_contributors_shows_the_storeys() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- storeys -->\n")[2].partition("<!-- end of storeys -->")[0]
    assert shown == storeys_in_words()


def test_imports_lead_to_the_same_storey_or_down() -> None:
    wrong = []
    for path in modules():
        mine = part_of(path)
        for found, theirs in inner_imports(path):
            if mine == "" or theirs in ("", mine):
                continue
            if STOREYS[theirs] > STOREYS[mine]:
                wrong.append(f"{path.relative_to(ROOT)}:{found.line} imports {found.target}")
    assert wrong == []


def test_publishing_and_the_fan_out_do_not_know_each_other() -> None:
    for path in modules():
        targets = {found.target for found in imports_of(path)}
        assert not targets & STRANGERS.get(name_of(path), set())
        if name_of(path) in set().union(*STRANGERS.values()):
            assert not targets & STRANGERS.keys()


def test_no_module_but_the_front_door_imports_from_the_front_door() -> None:
    """Its names are resolved when they are used, which on the way in is too early."""
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line}" for path in modules() for found, theirs in inner_imports(path) if theirs == ""
    ]
    assert wrong == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Not even for type checkers, or in a function: two modules that know each other are one."""
    graph = {name_of(path): {found.target for found, _ in inner_imports(path)} - {name_of(path)} for path in modules()}
    TopologicalSorter(graph).prepare()


# The supervisor of a stream knows the others, and is not known


def paths_into(tree: ast.AST, owner: str) -> list[str]:
    """Every attribute that code takes from an object of the class ``owner``, as it stands there.

    Such an object is what is annotated with the class, made by calling it, or assigned from another name of one.
    """
    known: set[str] = set()
    while True:
        before = len(known)
        for node in ast.walk(tree):
            if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None and _names(node.annotation, owner):
                known.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
            elif isinstance(node, ast.Assign) and _is_one(node.value, owner, known):
                known.update(ast.unparse(target) for target in node.targets)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple):
                pairs = zip(node.targets[0].elts, node.value.elts, strict=False)
                known.update(ast.unparse(target) for target, value in pairs if _is_one(value, owner, known))
        if len(known) == before:
            return [
                ast.unparse(node)
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and _is_one(node.value, owner, known)
            ]


def _names(annotation: ast.expr, owner: str) -> bool:
    return re.search(rf"\b{owner}\b", ast.unparse(annotation)) is not None  # also in one that is text


def _is_one(value: ast.expr, owner: str, known: set[str]) -> bool:
    made = isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == owner
    return made or ast.unparse(value) in known


def test_nobody_reaches_into_the_supervisor_of_a_stream() -> None:
    """The request that makes one begins it."""
    taken = {
        path.relative_to(HOME).as_posix(): found
        for path in modules()
        if path.name != "supervisor.py" and (found := paths_into(ast.parse(path.read_text()), "Supervisor"))
    }
    assert taken == {"stream_calls.py": ["supervisor.begin"]}


def test_paths_into_an_object_are_found_however_it_is_held() -> None:
    code = """
class Part:
    def __init__(self, owner: Supervisor, other: Other) -> None:
        self._owner = owner
        self.buffer = owner.buffer
        other.buffer
    def act(self, given: "Supervisor | None") -> None:
        mine, loop = self._owner, self._owner.loop_state.loop
        mine.end(); given.stream.close(); Supervisor(1).begin()
"""
    assert sorted(paths_into(ast.parse(code), "Supervisor")) == [
        "Supervisor(1).begin",
        "given.stream",
        "mine.end",
        "owner.buffer",
        "self._owner.loop_state",
    ]


@pytest.mark.parametrize("part", ["wire", "exceptions"])
def test_the_ground_floor_stands_on_the_standard_library_alone(part: str) -> None:
    outside = {
        found.target.partition(".")[0] for path in modules() if part_of(path) == part for found in imports_of(path)
    } - sys.stdlib_module_names
    assert outside <= {PACKAGE}


@pytest.mark.parametrize(
    ("names", "homes"),
    [
        ({f"{PACKAGE}.models"}, {"eventlog/database/", "admin/", "contrib/monitor/models.py"}),
        ({"redis", "django_redis", "valkey"}, {"eventlog/redis/"}),
        ({"channels", "channels_redis"}, {"eventlog/notify/channel_layer.py"}),
        ({"prometheus_client"}, {"contrib/prometheus.py"}),
        ({"opentelemetry"}, {"contrib/opentelemetry.py"}),
        ({"httpx"}, {"management/remote.py"}),
    ],
    ids=["models", "redis", "channels", "prometheus", "opentelemetry", "httpx"],
)
def test_some_modules_are_imported_in_one_place_only(names: set[str], homes: set[str]) -> None:
    importers = {
        path.relative_to(HOME).as_posix()
        for path in modules()
        for found in imports_of(path)
        if any(found.target == name or found.target.startswith(f"{name}.") for name in names)
    }
    assert [
        one for one in importers if not any(one == home or (home.endswith("/") and one.startswith(home)) for home in homes)
    ] == []


def test_every_folder_of_the_package_is_one() -> None:
    """Else ``find_packages()`` and freezers pass over it."""
    folders = {path.parent for path in HOME.rglob("*.py")}
    assert len(folders) > 10
    assert [folder.relative_to(HOME).as_posix() for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_there_is_no_module_for_odds_and_ends() -> None:
    assert [path for path in modules() if path.stem in {"utils", "util", "helpers", "misc", "common"}] == []


# Sizes


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", _code_lines(node)


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert node.end_lineno is not None
    doc = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    return node.end_lineno - node.lineno + 1 - (0 if doc is None else (doc.end_lineno or doc.lineno) - doc.lineno + 1)


def test_modules_are_of_a_size_to_be_read() -> None:
    lines = {str(path.relative_to(ROOT)): _lines_but_comments(path) for path in modules()}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def _lines_but_comments(path: Path) -> int:
    """A module may say why as often as that helps."""
    return sum(not line.lstrip().startswith("#") for line in path.read_text().splitlines())


def test_functions_are_of_a_size_to_be_read() -> None:
    sizes = {name: lines for path in modules() for name, lines in functions(path)}
    assert {name: lines for name, lines in sizes.items() if lines > MAX_FUNCTION} == {}
    assert sum(lines > LONG_FUNCTION for lines in sizes.values()) <= len(sizes) / 10


def test_the_walk_sees_every_way_to_import() -> None:
    code = """
import redis.asyncio as r, json
from . import conf
from ..streams.registry import registry
if TYPE_CHECKING:
    from .supervisor import Supervisor
def later():
    from django_agent_sse import views
    import channels
"""
    found = _walk(ast.parse(code), f"{PACKAGE}.streams")
    assert {one.target for one in found} == {
        "redis.asyncio",
        "json",
        f"{PACKAGE}.streams",
        f"{PACKAGE}.streams.registry",
        f"{PACKAGE}.streams.supervisor",
        f"{PACKAGE}.views",
        "channels",
    }
