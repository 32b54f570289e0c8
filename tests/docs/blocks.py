"""The code blocks of the README and of the documentation.

A block of Python names the file that it belongs to: in ``.rst`` as its ``:caption:``, in Markdown as a comment on its first line.
Blocks of one page with the same name are one file, in order. A block of a shell session begins its commands with ``$``; lines
without are output, in which ``…`` stands for anything.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts))
FOLLOWED = DOCS / "tutorial-admin.rst"
NOTIFICATIONS = DOCS / "howto" / "notifications.rst"
TOKENS = DOCS / "howto" / "tokens.rst"
RUN_HERE = tuple(page for page in PAGES if page not in (FOLLOWED, NOTIFICATIONS, TOKENS))
"""The others have apps with models: each is followed in a project of its own, not in this process."""

_DIRECTIVE = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>[\w+]+)\n(?P<body>(?:(?P=indent) +.*\n|\s*\n)+)", re.MULTILINE
)
_OPTION = re.compile(r"^ *:(\w+): *(.*)$")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_FILE_COMMENT = re.compile(r"# ([\w/]+\.py)\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of code; ``file`` is empty where it names none."""

    page: Path
    line: int
    language: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of a shell session, and the output that the page shows for it."""

    block: Block
    text: str
    output: str


def name_of(page: Path) -> str:
    """The page's path below the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Every code block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return list(_markdown(page, text) if page.suffix == ".md" else _restructured(page, text))


def commands_of(page: Path) -> list[Command]:
    """Every command of the page's shell sessions, in order."""
    return [command for block in blocks_of(page) if block.language == "console" for command in commands_in(block)]


def commands_in(block: Block) -> list[Command]:
    """Every command of a shell session, in order."""
    return list(_commands(block))


def _markdown(page: Path, text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        body, line = textwrap.dedent(found["body"]), _line(text, found)
        named = _FILE_COMMENT.match(body)
        yield Block(page=page, line=line, language=found["language"], file=named[1] if named else "", text=body)


def _restructured(page: Path, text: str) -> Iterator[Block]:
    for found in _DIRECTIVE.finditer(text + "\n"):
        lines = found["body"].split("\n")
        options = {}
        while option := _OPTION.match(lines[0]):
            options[option[1]] = option[2]
            del lines[0]
        body = textwrap.dedent("\n".join(lines)).strip("\n") + "\n"
        line = _line(text, found)
        yield Block(page=page, line=line, language=found["language"], file=options.get("caption", ""), text=body)


def _line(text: str, found: re.Match[str]) -> int:
    return text.count("\n", 0, found.start()) + 1


def prints(command: Command, printed: str) -> bool:
    """Whether a command printed what the page says: ``…`` is anything, and on a line of its own any lines."""
    lines = ("(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in command.output.split("\n"))
    return re.fullmatch("".join(lines) + "\n*", printed.rstrip("\n") + "\n") is not None


def _commands(block: Block) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = re.sub(r"\\\n *", "", part).partition("\n")
        yield Command(block=block, text=command, output=output.strip("\n"))
