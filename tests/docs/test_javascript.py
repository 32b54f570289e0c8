"""The pages on JavaScript name what the type declarations declare, and their code is accepted by ``tsc``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.browser.test_types import STATIC
from tests.npm import Node

from .blocks import DOCS, blocks_of
from .test_names import cells, text

PAGE = DOCS / "reference" / "javascript.rst"
WITH_CODE = [DOCS / "howto" / "javascript.rst", DOCS / "howto" / "react.rst"]


def declared(file: str, name: str) -> set[str]:
    """The members of an interface or a class in a declaration, as a page spells them."""
    body = re.search(rf"^export (?:interface|class) {name}\b.*?{{\n(.*?)^}}", text(STATIC / file), re.MULTILINE | re.DOTALL)
    assert body, name
    described = re.sub(r"^  get (\w+)\(\)", r"  \1", body[1], flags=re.MULTILINE)  # its setter is another line
    members = re.findall(r'^  (?:readonly )?(\w+|"[^"]+")(\??)(<|\(|:)', described, re.MULTILINE)
    return {member.strip('"') + ("()" if sign in "<(" and not maybe else "") for member, maybe, sign in members} - {
        "constructor()"
    }


CONTROL = declared("client.d.ts", "ControlEvents")


def words(name: str) -> set[str]:
    """The literals of a union type."""
    union = re.search(rf"^export type {name} =(.*?);", text(STATIC / "client.d.ts"), re.MULTILINE | re.DOTALL)
    assert union
    return set(re.findall(r'"([^"]+)"', union[1]))


def test_every_option_stands_in_the_reference() -> None:
    script = re.search(r"^const DEFAULTS = {\n(.*?)^};", text(STATIC / "client.js"), re.MULTILINE | re.DOTALL)
    assert script
    defaults = set(re.findall(r"^  (\w+):", script[1], re.MULTILINE))
    assert set(cells(PAGE, "option")) == declared("client.d.ts", "EventStreamOptions") == defaults
    assert set(cells(PAGE, "reconnect")) == declared("client.d.ts", "Reconnect")


@pytest.mark.parametrize("heading", ["option", "reconnect"])
def test_the_default_of_an_option_is_the_one_in_the_reference(heading: str) -> None:
    table = re.split(r"\n(?=\S)", text(PAGE).partition(f"   * - {heading}\n")[2])[0]
    shown = re.findall(r"^   \* - ``(\w+)``\n     - ``(\"?\w*\"?|\d+)``\n", table, re.MULTILINE)
    script = text(STATIC / "client.js")
    for name, default in shown:
        if name in ("method", "reconnect", "credentials"):
            continue
        found = re.search(rf"\b{name}: ([^,}}]+?)(?:,| }})", script)
        assert found, name
        assert found[1].replace("_", "") == default, name


def test_every_member_state_reason_and_event_stands_in_the_reference() -> None:
    constants = set(re.findall(r"static readonly (\w+)", text(STATIC / "client.d.ts")))
    assert set(cells(PAGE, "member")) == declared("client.d.ts", "EventStream")
    assert constants == set(re.findall(r"``EventStream\.(\w+)``", text(PAGE)))
    inherited = {"data", "lastEventId", "origin", "type"}
    assert set(cells(PAGE, "message member")) == declared("client.d.ts", "StreamMessage") | inherited
    assert set(cells(PAGE, "state")) == words("State")
    assert set(cells(PAGE, "reason")) == words("Reason")
    assert set(cells(PAGE, "event")) == declared("client.d.ts", "EventStreamEventMap") | CONTROL | {"message"}


def test_every_reason_that_the_client_gives_is_declared() -> None:
    script = text(STATIC / "client.js")
    given = set(re.findall(r'reason: "(\w+)"', script)) | set(re.findall(r'#start\("\w+", "(\w+)"\)', script))
    given |= set(re.findall(r'\b\d+: "(\w+)"', script))
    assert given <= words("Reason")
    assert {"network", "gone", "reopened"} <= given


def test_the_element_stands_in_the_reference() -> None:
    declarations = text(STATIC / "element.d.ts")
    assert set(cells(PAGE, "DOM event")) == set(re.findall(r'"(sse[:.]\w+)"', declarations))
    read = set(re.findall(r'Attribute\("([\w-]+)"', text(STATIC / "element.js")))
    written = {f"data-{name}" for name in re.findall(r"this\.dataset\.(\w+) =", text(STATIC / "element.js"))}
    assert set(cells(PAGE, "attribute")) == read | written
    for member in declared("element.d.ts", "EventStreamElement") - {"src"}:
        assert f"``{member}``" in text(PAGE).partition("\nelement.js\n")[2], member


def test_the_hook_stands_in_the_reference() -> None:
    assert set(cells(PAGE, "hook option")) == declared("react.d.ts", "UseEventStreamOptions")
    assert set(cells(PAGE, "result")) == declared("react.d.ts", "UseEventStreamResult")
    own = re.search(r"^const OWN = new Set\(\[(.*?)\]", text(STATIC / "react.js"), re.MULTILINE)
    assert own
    assert set(re.findall(r'"(\w+)"', own[1])) == declared("react.d.ts", "UseEventStreamOptions") | {"signal"}


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_the_code_of_a_page_is_accepted(node: Node, page: Path, tmp_path: Path) -> None:
    files = []
    for block in blocks_of(page):
        if block.language == "javascript":
            files.append(tmp_path / f"line{block.line}.js")
            files[-1].write_text(block.text.replace('"/static/', '"static/') + "\nexport {};\n")
    assert files
    options = {
        "allowJs": True,
        "checkJs": True,
        "noEmit": True,
        "skipDefaultLibCheck": True,
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom", "dom.iterable", "dom.asynciterable"],
        "types": [],
        "paths": {"static/django_agent_sse/*": [f"{STATIC}/*"], "react": [str(node.modules / "@types/react")]},
    }
    declarations = [str(STATIC / "element.d.ts")]
    project = tmp_path / "tsconfig.json"
    project.write_text(json.dumps({"compilerOptions": options, "files": [*map(str, files), *declarations]}))
    assert node.run(str(node.modules / "typescript/bin/tsc"), "--project", str(project)) == ""


def test_the_list_of_the_page_on_react_takes_the_same_time_for_each_event(node: Node) -> None:
    code = next(block.text for block in blocks_of(DOCS / "howto/react.rst") if "function add(" in block.text)
    add = code.partition("const LINES")[2].partition("function Lines")[0]
    program = f"""
        const LINES{add}
        let data = {{ pages: [], first: 0 }};
        for (let line = 1; line <= 1_000_000; line += 1) data = add(data, line);
        const kept = data.pages.flat();
        console.log(JSON.stringify([kept[0], kept.at(-1), kept.length, data.first]));
    """
    assert json.loads(node.run("-e", program)) == [990_001, 1_000_000, 10_000, 4950]
