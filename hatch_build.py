"""Minify the scripts and styles when a wheel is built; run as a program, print how large they are.

The repository holds them as they are read and debugged; a wheel holds both, and ``{% sse_script %}`` takes the minified ones
where ``DEBUG`` is off. Each has a source map. esbuild does it: the program that ``ESBUILD`` names, one on the ``PATH``, or npm's.
Where there is none the wheel is whole without them, unless ``ESBUILD=required`` says that it must not be.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
FOLDERS = (
    "django_agent_sse/static/django_agent_sse",
    "django_agent_sse/contrib/monitor/static/agent_sse_monitor",
)
MINIFIED = "min"
"""The folder beside the sources."""
ESBUILD = "0.28.2"
"""What npm is asked for."""
OPTIONS = ("--minify", "--sourcemap", "--format=esm", "--target=es2022", "--legal-comments=none", "--log-level=warning")
SECONDS = 300.0


class MinifyHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the minified files into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = tempfile.mkdtemp(prefix="django-agent-sse-")
        try:
            for made, path in minified(Path(self._folder)).items():
                build_data["force_include"][str(path)] = made
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("ESBUILD") == "required":
                raise
            self.app.display_warning(f"no esbuild, so the wheel holds scripts and styles as they are: {error}")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._folder, ignore_errors=True)


def sources() -> list[Path]:
    """Return every script and style sheet of the package."""
    return sorted(path for folder in FOLDERS for end in ("*.js", "*.css") for path in (ROOT / folder).glob(end))


def minified(out: Path) -> dict[str, Path]:
    """Minify everything into ``out``; return the files by their places in the package."""
    made: dict[str, Path] = {}
    for number, folder in enumerate(FOLDERS):
        files = [path for path in sources() if path.parent == ROOT / folder]
        place = out / str(number)
        command = [*esbuild(), *map(str, files), *OPTIONS, f"--outdir={place}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise subprocess.SubprocessError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        made |= {f"{folder}/{MINIFIED}/{path.name}": path for path in sorted(place.iterdir())}
    return made


def esbuild() -> list[str]:
    """Return the command that runs esbuild.

    Raises:
        OSError: There is none, and no npm either.
    """
    named = os.environ.get("ESBUILD", "")
    if named not in ("", "required"):
        return [named]
    if found := shutil.which("esbuild"):
        return [found]
    if npm := shutil.which("npm"):
        return [npm, "exec", "--yes", f"--package=esbuild@{ESBUILD}", "--", "esbuild"]
    raise OSError("there is neither esbuild nor npm")


def print_sizes() -> None:
    """Print each file's size as it is, minified, and minified and compressed."""
    with tempfile.TemporaryDirectory() as folder:
        made = {Path(name).name: path.read_bytes() for name, path in minified(Path(folder)).items()}
    print(f"{'':<16}{'source':>10}{'minified':>10}{'gzip':>10}")
    rows = [(path.name, len(path.read_bytes()), made[path.name]) for path in sources()]
    for name, size, small in rows:
        print(f"{name:<16}{size:>10,}{len(small):>10,}{len(gzip.compress(small)):>10,}")
    together = (sum(size for _, size, _ in rows), sum(len(small) for *_, small in rows))
    print(f"{'together':<16}{together[0]:>10,}{together[1]:>10,}{sum(len(gzip.compress(small)) for *_, small in rows):>10,}")


if __name__ == "__main__":
    sys.exit(print_sizes())
