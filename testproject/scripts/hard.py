"""Builds that are hard on whoever shows them: ``hard.py CASE``, see ``CASES``; ``hard.py colours 1000``: so many lines."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

SILENCE = 60.0
"""Seconds; proxies and browsers lose patience after as many."""
WIDE = 1024 * 1024
IGNORANT = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("a child that ignores SIGTERM too", flush=True)
signal.pause()
"""


def colours(lines: int = 100_000) -> int:
    """Very many lines in colours, one in a hundred of them on stderr."""
    for number in range(1, lines + 1):
        out = sys.stderr if number % 100 == 0 else sys.stdout
        print(
            f"\x1b[1mline {number}\x1b[0m \x1b[{31 + number % 6}mcolour {number % 6}\x1b[39m \x1b[4;9{number % 8}mbright\x1b[0m",
            file=out,
        )
    return 0


def quiet() -> int:
    """Nothing for a minute."""
    print("silence begins", flush=True)
    time.sleep(SILENCE)
    print("silence ends")
    return 0


def wide() -> int:
    """A line of 1 MiB."""
    print("before")
    print("".join(f"{number:07} " for number in range(WIDE // 8)))
    print("after")
    return 0


def nonsense() -> int:
    """Bytes that are no UTF-8, control characters, and no end of line at the end."""
    sys.stdout.buffer.write(
        b"latin-1: caf\xe9\nhalf a character: \xe2\x82\nNUL: [\0] bell: [\7]\nall: " + bytes(range(128, 256)) + b"\nno end"
    )
    return 0


def deaf() -> int:
    """Ignores SIGTERM, and so does its child: only SIGKILL ends them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.run([sys.executable, "-c", IGNORANT], check=True)
    return 0


CASES = {case.__name__: case for case in (colours, quiet, wide, nonsense, deaf)}

if __name__ == "__main__":
    sys.exit(CASES[sys.argv[1]](*map(int, sys.argv[2:])))
