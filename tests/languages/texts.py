"""The texts that can be translated, and prose that cannot: in Python by its syntax tree, in templates by Django's own lexer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from django.template.base import DebugLexer, TokenType
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "django_agent_sse"
CALL = re.compile(
    r"""\b(n?p?gettext)\(((?:u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"), ?)*u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|count))\)"""
)
"""What Django makes of a tag for ``xgettext``."""
FUNCTIONS = {"_", "gettext", "gettext_lazy", "gettext_noop"}
PLURALS = {"ngettext", "ngettext_lazy"}
WITH_PAGES = ("admin", "contrib/monitor/admin", "models.py", "contrib/monitor/models.py", "apps.py", "contrib/monitor/apps.py")
"""Where Python says something to the reader of a page."""


@dataclass(frozen=True, order=True)
class Text:
    """A text as gettext knows it."""

    id: str
    plural: str = ""
    context: str = ""


# Python


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def texts_of_python() -> dict[Text, str]:
    """Every text that a module gives to gettext, and where it stands."""
    found = {}
    for path in sorted(HOME.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _called(node) in FUNCTIONS | PLURALS and node.args:
                first = _literal(node.args[0])
                plural = _literal(node.args[1]) if _called(node) in PLURALS else ""
                if first is not None and plural is not None:
                    found[Text(first, plural)] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


SENTENCE = re.compile(r"[A-Z][a-z]+.*\s\S+|[A-Z][a-z]+…?$|.*[a-z]{2,} [a-z]{2,}", re.DOTALL)
TO_PROGRAMS = {
    "ConfigurationError",
    "NotImplementedError",
    "RouteError",
    "TypeError",
    "ValueError",
    "Warning",
    "_warning",
    "startswith",
}
"""Calls whose texts are for those who write or run the project, in English."""
OPTIONS = {"permissions"}
"""Assignments whose texts are stored in the database, as Django stores the names of permissions: in English."""


def prose_of_python() -> Iterator[tuple[str, str]]:
    """Prose of modules with pages that no gettext has seen, with its place."""
    for part in WITH_PAGES:
        place = HOME / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            tree = ast.parse(path.read_text())
            allowed = {id(node) for node in _said_elsewhere(tree)}
            for node in ast.walk(tree):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and id(node) not in allowed and SENTENCE.match(text):
                    yield text, f"{path.relative_to(ROOT)}:{node.lineno}"


def _said_elsewhere(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value  # a docstring
        elif isinstance(node, ast.Call):
            name, owner = _called(node), getattr(getattr(node.func, "value", None), "id", "")
            if name in FUNCTIONS | PLURALS | TO_PROGRAMS or owner == "logger":
                yield from ast.walk(node)
        elif isinstance(node, ast.Assign) and {getattr(target, "id", "") for target in node.targets} & OPTIONS:
            yield from ast.walk(node)


# Templates


def templates() -> list[Path]:
    return sorted(HOME.rglob("templates/**/*.html"))


def texts_of_templates() -> dict[Text, str]:
    """Every text that a template translates, and where it stands."""
    found = {}
    for path in templates():
        source = templatize(path.read_text(), origin=str(path))
        for call in CALL.finditer(source):
            texts = list(ast.literal_eval(f"[{call[2].removesuffix('count').rstrip(', ')}]"))
            context = texts.pop(0) if "p" in call[1] else ""
            found[Text(*texts, context=context)] = f"{path.relative_to(ROOT)}:{source[: call.start()].count(chr(10)) + 1}"
    return found


WORDS = re.compile(r"[^\W\d_]{2,}")
SAID = {"title", "aria-label", "placeholder", "alt", "data-label", "label"}


class _Prose(HTMLParser):
    """Collects text and attributes that a reader sees, of HTML in which tags of the template are blank."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._code = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code += tag in ("code", "pre", "script", "style")
        self.found += [value for name, value in attrs if name in SAID and value and WORDS.search(value)]

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self._code and WORDS.search(data):
            self.found.append(data.strip())


def prose_of_template(source: str) -> list[str]:
    """What a template says outside of its tags for translation."""
    parser, inside, shown = _Prose(), False, []
    for token in DebugLexer(source).tokenize():
        if token.token_type == TokenType.BLOCK:
            name = token.contents.split()[0]
            inside = name == "blocktranslate" or (inside and name != "endblocktranslate")
        elif token.token_type == TokenType.TEXT and not inside:
            shown.append(token.contents)
    parser.feed("".join(shown))
    parser.close()
    return parser.found
