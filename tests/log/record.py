"""Record what a command prints to a terminal, for the corpus: ``python -m tests.log.record NAME COMMAND…``.

The command runs in the working folder, in a pseudo-terminal of 100 columns and 40 rows. That folder becomes ``/home/me/app``, so
that no machine's paths stand in the recording; look through it all the same before you keep it, and add it to ``sources.json``.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
ROWS, COLUMNS = 40, 100
HOME = b"/home/me/app"


def record(command: list[str], folder: Path) -> tuple[bytes, int]:
    """Run a command in a terminal of its own. Return what it printed, and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS), "LANG": "C.UTF-8"}
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    printed = bytearray()
    try:
        while data := os.read(master, 65536):
            printed += data
    except OSError:  # its last process has closed the terminal
        pass
    os.close(master)
    return bytes(printed), child.wait()


def main(name: str, *command: str) -> None:
    folder = Path.cwd()
    printed, code = record([*command], folder)
    (CORPUS / f"{name}.txt").write_bytes(printed.replace(os.fsencode(folder), HOME))
    print(f"{name}: {len(printed)} bytes, exit code {code}")


if __name__ == "__main__":
    main(*sys.argv[1:])
