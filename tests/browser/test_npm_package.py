"""The package for npm, as it would be published: packed, installed, and imported from Node.js, TypeScript and a bundler."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page

import django_agent_sse
from tests.live.servers import Server
from tests.npm import Node

ROOT = Path(__file__).resolve().parents[2]
STATIC = "django_agent_sse/static/django_agent_sse"
ENTRIES = {"": "client", "/element": "element", "/log": "log", "/react": "react"}

COUNTING = """
import { EventStream } from "django-agent-sse";
const stream = new EventStream(process.env.STREAM, { autoConnect: false });
for await (const { type, json } of stream) console.log(type, JSON.stringify(json));
"""
TYPED = """
import { EventStream, type StreamMessage } from "django-agent-sse";
import { EventStreamElement } from "django-agent-sse/element";
import { SSELog } from "django-agent-sse/log";
import { createUseEventStream } from "django-agent-sse/react";

const stream = new EventStream<{ tick: { price: number } }>("/prices/");
stream.addEventListener("tick", ({ json }) => json.price.toFixed(2));
// @ts-expect-error: a price is a number
stream.addEventListener("tick", ({ json }) => json.price.trim());
const source: EventSource = stream;
export const all: [typeof source, StreamMessage?, EventStreamElement?, SSELog?] = [source];
export { createUseEventStream };
"""
PAGE = """
import { EventStream } from "django-agent-sse";
import { EventStreamElement, client } from "django-agent-sse/element";
const { EventStream: loaded } = await client;
window.same = loaded === EventStream && customElements.get("event-stream") === EventStreamElement;
"""


@pytest.fixture(scope="module")
def project(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has installed what ``npm pack`` makes, beside TypeScript's declarations of React."""
    folder = tmp_path_factory.mktemp("project")
    npm = shutil.which("npm")
    assert npm is not None
    packed = subprocess.run(
        [npm, "pack", "--json", "--offline", "--pack-destination", str(folder), "--cache", str(folder / "cache")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=True,
    )
    (about,) = json.loads(packed.stdout)
    with tarfile.open(folder / about["filename"]) as archive:
        archive.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules/package").rename(folder / "node_modules/django-agent-sse")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def test_its_version_is_that_of_the_python_package() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    assert package["version"] == django_agent_sse.__version__
    assert package["license"] == "BSD-3-Clause"


def test_it_holds_the_scripts_their_types_and_no_more(project: Path) -> None:
    home = project / "node_modules/django-agent-sse"
    inside = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    ends = ("*.js", "*.svg", "*.d.ts", "log.css")
    sources = {path.relative_to(ROOT).as_posix() for end in ends for path in (ROOT / STATIC).glob(end)}
    assert inside == sources | {"package.json", "README.md", "LICENSE"}


def test_every_entry_has_types_and_is_there(project: Path) -> None:
    home = project / "node_modules/django-agent-sse"
    exports = json.loads((home / "package.json").read_text())["exports"]
    assert {f".{name}" for name in ENTRIES} <= exports.keys()
    for name, module in ENTRIES.items():
        assert exports[f".{name}"] == {"types": f"./{STATIC}/{module}.d.ts", "default": f"./{STATIC}/{module}.js"}
    paths = {path for about in exports.values() for path in ([about] if isinstance(about, str) else about.values())}
    assert [path for path in paths if not (home / path).is_file()] == []


def test_node_follows_a_stream(project: Path, node: Node, uvicorn: Server) -> None:
    program = project / "count.mjs"
    program.write_text(COUNTING)
    done = subprocess.run(
        [node.executable, str(program)],
        capture_output=True,
        text=True,
        env={"STREAM": f"{uvicorn.url}/parity/count/?count=3&delay=0"},
        cwd=project,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ['message {"n":1}', 'message {"n":2}', 'message {"n":3}', 'sse.end {"reason":"completed"}']


@pytest.mark.parametrize("entry", ["/element", "/react"])
def test_a_server_that_renders_pages_can_import_it(project: Path, node: Node, entry: str) -> None:
    program = project / "import.mjs"
    program.write_text(f'console.log(Object.keys(await import("django-agent-sse{entry}")).length > 0);')
    done = subprocess.run([node.executable, str(program)], capture_output=True, text=True, cwd=project, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "true"), done.stderr


@pytest.mark.parametrize(("module", "resolution"), [("nodenext", "nodenext"), ("esnext", "bundler")])
def test_typescript_finds_its_types(project: Path, node: Node, module: str, resolution: str) -> None:
    (project / "typed.ts").write_text(TYPED)
    options = {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "module": module,
        "moduleResolution": resolution,
        "lib": ["es2022", "dom", "dom.iterable", "dom.asynciterable"],
        "types": [],
    }
    (project / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["typed.ts"]}))
    assert node.run(str(node.modules / "typescript/bin/tsc"), "--project", str(project)) == ""


def test_a_bundler_joins_the_client_and_the_element(project: Path, node: Node, page: Page, uvicorn: Server) -> None:
    (project / "page.js").write_text(PAGE)
    script = node.run(node.esbuild, str(project / "page.js"), "--bundle", "--format=esm", "--log-level=warning", "--log-limit=0")
    assert 'from "' not in script
    page.route("**/bundle/page.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    page.evaluate("import('/bundle/page.js')")
    assert page.evaluate("window.same") is True
    page.evaluate("document.body.innerHTML = '<event-stream src=\"/parity/count/?count=2&delay=0\"></event-stream>'")
    page.wait_for_selector("event-stream[data-state=ended]", state="attached")


def test_a_bundler_joins_the_viewer_and_its_modules(project: Path, node: Node, page: Page) -> None:
    (project / "viewer.js").write_text('import { SSELog } from "django-agent-sse/log";\nwindow.made = new SSELog().state;')
    script = node.run(node.esbuild, str(project / "viewer.js"), "--bundle", "--format=esm", "--log-level=error")
    for file in ("search-worker.js", "passed.svg", "failed.svg", "ended.svg"):
        assert f'new URL("./{file}", import.meta.url)' in script, "as Vite, webpack and Rollup find files that are no modules"
    page.route("**/bundle/viewer.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("import('/bundle/viewer.js')")
    assert page.evaluate("[window.made, customElements.get('sse-log') !== undefined]") == ["connecting", True]
    assert [url for url in asked if not url.endswith("/bundle/viewer.js")] == []
