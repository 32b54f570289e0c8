"""The type declarations: ``tsc`` accepts a sample that uses all of them, and each script has its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.npm import SOURCE, Node

from .test_node import SHIPPED, STATIC

DECLARATIONS = [STATIC / f"{name}.d.ts" for name in ("client", "element", "log", "react")]


def test_a_sample_of_every_member_is_accepted(node: Node, tmp_path: Path) -> None:
    options = {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom", "dom.iterable", "dom.asynciterable"],
        "types": [],
        "paths": {"django_agent_sse/*": [f"{STATIC}/*"], "react": [str(node.modules / "@types/react")]},
        "typeRoots": [],
        "exactOptionalPropertyTypes": False,
        "noUnusedLocals": True,
    }
    project = tmp_path / "tsconfig.json"
    project.write_text(
        json.dumps({"compilerOptions": options, "files": [str(node.folder / "types.ts"), *map(str, DECLARATIONS)]})
    )
    assert node.run(str(node.modules / "typescript/bin/tsc"), "--project", str(project)) == ""


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.name)
def test_the_sample_uses_every_name(path: Path) -> None:
    sample = (SOURCE / "types.ts").read_text()
    declared = re.sub(r"/\*.*?\*/|//.*", "", path.read_text(), flags=re.DOTALL)
    names = set(
        re.findall(r"^\s*(?:export|static|readonly|get|type|class|interface|\s)*\b([A-Za-z]\w+)[?]?[:(<]", declared, re.MULTILINE)
    )
    names = {name for name in names if not re.match("use[A-Z]", name) or name == "useEventStream"}  # React's own are React's
    unused = {name for name in names if not re.search(rf"\b{name}\b", sample)}
    assert unused - {"constructor", "interface", "type", "prototype", "Handler", "Listener", "NameOf"} == set()


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.name)
def test_what_a_script_exports_is_declared_and_nothing_else(path: Path) -> None:
    script = STATIC / path.name.replace(".d.ts", ".js")
    assert script in SHIPPED
    exported = set(re.findall(r"^export (?:const|class|function) (\w+)", script.read_text(), re.MULTILINE))
    declared = set(re.findall(r"^export (?:const|class|function) (\w+)", path.read_text(), re.MULTILINE))
    assert declared == exported
