"""A small pipeline: byte-compile, test, build. Run by the recipe "pipeline"; ends with the first step that fails.

python pipeline.py FOLDER
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = "tests/wire"


def main(folder: str) -> int:
    """Run the steps with ``folder`` for what they make; return the exit code."""
    import django

    compiled = [sys.executable, "-X", f"pycache_prefix={folder}/pyc", "-m", "compileall", "-f", "-o", "0", "-o", "1", "-o", "2"]
    steps = {
        "Byte-compile Django": [*compiled, str(Path(django.__file__).parent)],
        "Test the wire format": [sys.executable, "-m", "pytest", TESTS, "-v", "-m", "not browser", "-p", "no:cacheprovider"],
        "Build the wheel": [sys.executable, str(Path(__file__).with_name("build_wheel.py")), folder],
    }
    for number, (name, argv) in enumerate(steps.items(), 1):
        print(f"==> {number}/{len(steps)} {name}\n$ {shlex.join(argv)}", flush=True)
        started = time.monotonic()
        code = subprocess.run(argv, cwd=REPOSITORY, check=False).returncode
        print(
            f"==> {name}: {'passed' if code == 0 else f'failed with {code}'} after {time.monotonic() - started:.1f} s\n",
            flush=True,
        )
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
