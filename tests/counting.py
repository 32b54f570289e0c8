"""``python -m tests.counting [CHECKOUT ...]``: tests and asserted lines by folder, of one checkout or of several.

A test is a function that pytest collects, however many parameters it has; asserted is an ``assert``, ``pytest.raises`` or
``pytest.warns``, also in a helper; in JavaScript an ``assert`` or ``expect``. So two numbers tell whether a proof was lost.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = re.compile(r"\b(?:assert(?:\.\w+)?|expect)\(")
DECLARES = re.compile(r"^\s*(?:test|it)\(", re.MULTILINE)


def counted(tests: Path) -> tuple[Counter[str], Counter[str]]:
    """The tests and the asserted lines below a folder of tests, by the folders in it."""
    functions: Counter[str] = Counter()
    asserts: Counter[str] = Counter()
    for path in sorted(tests.rglob("*")):
        inside = path.relative_to(tests).parts
        folder = inside[0] if len(inside) > 1 else "."
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            functions[folder] += sum(1 for _ in tests_in(tree)) if path.name.startswith("test_") else 0
            asserts[folder] += sum(asserts_something(node) for node in ast.walk(tree))
        elif path.suffix == ".mjs":
            text = path.read_text(encoding="utf-8")
            functions[folder] += len(DECLARES.findall(text))
            asserts[folder] += len(SCRIPT.findall(text))
    return functions, asserts


def tests_in(tree: ast.Module) -> Iterator[ast.stmt]:
    """The functions and methods that pytest collects."""
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]
        for found in inside:
            if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) and found.name.startswith("test_"):
                yield found


def asserts_something(node: ast.AST) -> bool:
    """Whether this is a line that can fail."""
    if isinstance(node, ast.Call) and isinstance(called := node.func, ast.Attribute):
        return isinstance(called.value, ast.Name) and called.value.id == "pytest" and called.attr in ("raises", "warns")
    return isinstance(node, ast.Assert)


def main(checkouts: list[Path]) -> None:
    """Print a line for each folder, and one for all."""
    sides = [counted(checkout / "tests") for checkout in checkouts]
    print("\n".join(f"{checkout}" for checkout in checkouts))
    print(f"{'':14}" + f"{'tests':>10}{'asserted':>10}" * len(checkouts))
    for folder in sorted({name for functions, asserts in sides for name in (*functions, *asserts)}):
        print(f"{folder:14}" + "".join(f"{functions[folder]:10,}{asserts[folder]:10,}" for functions, asserts in sides))
    print(f"{'together':14}" + "".join(f"{functions.total():10,}{asserts.total():10,}" for functions, asserts in sides))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [HERE.parent])
