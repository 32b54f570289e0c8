"""What importing the package touches, what a project needs to use it, and what is in the wheel."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.npm import SOURCE, Node

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "django_agent_sse"
HOME = ROOT / PACKAGE

# What an import does


def run_alone(code: str, **environment: str) -> str:
    """Run code in an interpreter without any settings; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_touches_neither_settings_nor_models_nor_django() -> None:
    loaded = run_alone(f"import sys, {PACKAGE}; print([name for name in sys.modules if name.partition('.')[0] == 'django'])")
    assert loaded == "[]"


def test_wire_works_without_django() -> None:
    code = f"""
import sys
sys.modules["django"] = None
from {PACKAGE}.wire import Decoder, Event, encode
print([event.data for event in Decoder().feed(encode(Event("a\\nb")))])
"""
    assert run_alone(code) == repr(["a\nb"])


def test_every_public_name_can_be_imported_before_settings_are_read() -> None:
    """As an ``__init__.py`` of an app, or the settings module itself, may do."""
    code = f"""
import {PACKAGE}
from django.conf import settings
for name in {PACKAGE}.__all__:
    getattr({PACKAGE}, name)
print(settings.configured)
"""
    assert run_alone(code) == "False"


def test_a_project_without_djangos_auth_and_without_a_database_streams() -> None:
    code = f"""
import asyncio, django
from types import ModuleType
from django.conf import settings
settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"], INSTALLED_APPS=["{PACKAGE}"], ROOT_URLCONF=ModuleType("urlconf"))
django.setup()
from {PACKAGE} import Router
router = Router()
@router.sse("")
async def handler(c, stream):
    await stream.write([c.user, c.user_pk])
settings.ROOT_URLCONF.urlpatterns = router.urls
from django.test import AsyncClient
async def main():
    response = await AsyncClient().get("/")
    print(b"".join([part async for part in response]).decode().splitlines()[-2])
asyncio.run(main())
"""
    assert run_alone(code) == "data: [null,null]"


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Path:
    """The package as it is distributed, built without a network."""
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "ESBUILD": node.esbuild},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for path in HOME.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    inside = {name for name in shipped(wheel) if not name.split("/")[0].endswith(".dist-info")}
    minified = {name for name in inside if "/min/" in name}
    assert inside - minified == here
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/templates/{PACKAGE}/wsgi.html"} <= inside


def test_the_wheel_holds_every_script_and_style_minified_with_its_source_map(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if "/static/" in name}
    scripts = {name for name in files if name.endswith((".js", ".css")) and "/min/" not in name}
    assert len(scripts) > 10
    made = {name: f"{name.rpartition('/')[0]}/min/{name.rpartition('/')[2]}" for name in scripts}
    assert {name for name in files if "/min/" in name} == {path for name in made.values() for path in (name, f"{name}.map")}
    for source, small in made.items():
        assert len(files[small]) < len(files[source])
        assert f"sourceMappingURL={small.rpartition('/')[2]}.map".encode() in files[small]
        assert json.loads(files[f"{small}.map"])["sourcesContent"] == [files[source].decode()]
    assert len(gzip.compress(files[made[f"{PACKAGE}/static/{PACKAGE}/client.js"]])) < 8_000


def test_the_minified_client_exports_the_same(wheel: Path, node: Node, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    names = [
        node.run("-e", f"import('{tmp_path}/{PACKAGE}/static/{PACKAGE}/{name}').then((all) => console.log(Object.keys(all)))")
        for name in ("client.js", "min/client.js")
    ]
    assert names[0] == names[1]
    assert "EventStream" in names[0]


def test_a_wheel_is_whole_without_esbuild_unless_it_is_required(tmp_path: Path) -> None:
    def build(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PATH": str(tmp_path), "HOME": str(tmp_path), **environment},
            timeout=120,
            check=False,
        )

    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the wheel holds scripts and styles as they are: there is neither esbuild nor npm" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert not [name for name in shipped(wheel) if "/min/" in name]
    assert build(tmp_path / "required", ESBUILD="required").returncode != 0


def test_esbuild_is_the_one_of_the_tests() -> None:
    assert (
        f'ESBUILD = "{json.loads((SOURCE / "package.json").read_text())["dependencies"]["esbuild"]}"'
        in (ROOT / "hatch_build.py").read_text()
    )


def test_the_wheel_names_django_as_its_only_hard_dependency(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert required == ["Requires-Dist: django>=5.2"]
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_every_extra_that_is_promised_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"redis", "channels", "daphne", "all", "demo", "test", "docs"} <= project["optional-dependencies"].keys()
