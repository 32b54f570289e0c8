"""The house in figures, beside packages that are known to read well.

::

    tox run -e house                                    # this package, websockets, whitenoise and httpx
    python benchmarks/house.py django_agent_sse PACKAGE # any packages that are installed here

For each package one column. Migrations are left out. *Circles* are groups of modules that import each other, whenever they do:
imports inside functions and for type checkers count too; in brackets, how many modules the largest group has. *Upward* imports
are counted where the package says which part may import which, as this one does in ``tests/test_house.py``. *Paths into the
supervisor* are the attributes of a stream's supervisor that other modules use.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("django_agent_sse", "websockets", "whitenoise", "httpx")
SUPERVISOR = ("supervisor", "runner")
"""What the owner of a stream is called, now and before: ``stream._supervisor.x`` is a path into it."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    names = sys.argv[1:] or PACKAGES
    columns = {name: figures(home_of(name), name) for name in names}
    rows = list(next(iter(columns.values())))
    widths = [max(map(len, rows)), *(max(len(name), *map(len, column.values())) for name, column in columns.items())]
    table = [["", *columns], *([row, *(column[row] for column in columns.values())] for row in rows)]
    for line in table:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if line is table[0]:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def home_of(name: str) -> Path:
    """The folder of an installed package."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{name} is not a package that is installed here: pip install {name}")
    return Path(next(iter(found.submodule_search_locations)))


def figures(home: Path, name: str) -> dict[str, str]:
    """What the columns show, by row."""
    modules = {module_name(path, home, name): path for path in sorted(home.rglob("*.py")) if "migrations" not in path.parts}
    texts = {module: path.read_text(encoding="utf-8") for module, path in modules.items()}
    trees = {module: ast.parse(text) for module, text in texts.items()}
    lines = {module: len(text.splitlines()) for module, text in texts.items()}
    sizes = [
        node.end_lineno - node.lineno + 1 for tree in trees.values() for node in ast.walk(tree) if isinstance(node, Function)
    ]
    comments = sum(map(comment_lines, texts.values()))
    circles = circles_of({module: imports(tree, module, modules) for module, tree in trees.items()})
    largest = max(map(len, circles), default=0)
    return {
        "modules": f"{len(modules):,}",
        "lines": f"{sum(lines.values()):,}",
        "lines of the longest module": f"{max(lines.values()):,}",
        "functions": f"{len(sizes):,}",
        "lines of a function: median": f"{statistics.median(sizes):g}",
        "… of nine in ten, at most": f"{statistics.quantiles(sizes, n=10)[-1]:.0f}",
        "… of the longest": f"{max(sizes)}",
        "lines that are comments": f"{comments:,} ({100 * comments / sum(lines.values()):.1f} %)",
        "imports that lead upward": upward(name),
        "circles": f"{len(circles)}" + (f" ({largest})" if circles else ""),
        "paths into the supervisor": str(sum(paths_into(tree) for module, tree in trees.items() if not is_supervisor(module)))
        if any(map(is_supervisor, modules))
        else "–",
    }


def module_name(path: Path, home: Path, name: str) -> str:
    parts = [name, *path.relative_to(home).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def comment_lines(text: str) -> int:
    """Lines that hold a comment for readers, alone or beside code: not directives for tools."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = (token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)
    return sum(not comment.startswith(("noqa", "type:", "pragma", "!")) for comment in found)


def imports(tree: ast.AST, module: str, modules: dict[str, Path]) -> set[str]:
    """The package's own modules that a module imports, at whatever time."""
    package = module if modules[module].name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                found.add(inner if (inner := f"{origin}.{alias.name}") in modules else origin)
    return (found & modules.keys()) - {module}


def circles_of(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules each of which leads to all others of it."""
    reach = {module: set(reachable(graph, module)) for module in graph}
    groups: list[set[str]] = []
    for module in graph:
        if module in reach[module] and not any(module in group for group in groups):
            groups.append({other for other in reach[module] if module in reach[other]})
    return groups


def reachable(graph: dict[str, set[str]], start: str) -> Iterator[str]:
    known: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        module = waiting.pop()
        if module not in known:
            known.add(module)
            yield module
            waiting += graph[module]


def upward(name: str) -> str:
    """How many imports lead to a part above, by the list that this package's own test has."""
    if name != "django_agent_sse":
        return "–"
    from tests import test_house as house

    return str(
        sum(
            house.STOREYS[theirs] > house.STOREYS[mine]
            for path in house.modules()
            for _, theirs in house.inner_imports(path)
            if (mine := house.part_of(path)) and theirs
        )
    )


def is_supervisor(module: str) -> bool:
    return module.rpartition(".")[2] in SUPERVISOR


def paths_into(tree: ast.AST) -> int:
    """Attributes that are used of something that is called the supervisor."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            count += owner.lstrip("_") in SUPERVISOR
    return count


if __name__ == "__main__":
    main()
