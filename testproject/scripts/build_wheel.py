"""Build this package's wheel without network, and say what is in it: ``build_wheel.py FOLDER``, in the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REQUIRED = "django_agent_sse/py.typed"


def main(folder: Path) -> int:
    """Build into ``folder``; 1 where the wheel lacks what users' type checkers need."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            print(f"{entry.file_size:>9,} B  {entry.filename}")
        names = archive.namelist()
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size:,} B")
    if REQUIRED not in names:
        print(f"the wheel lacks {REQUIRED}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
