"""Builds for tests: ``recipe.py COURSE FOLDER``. A gate is a file in FOLDER that the test makes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LONG_LINE = 20_000
MANY = 5_000
HALF = 300
RUN_LEASE = 8.0
"""Seconds after which a run of an agent is lost here: a busy machine keeps a process from renewing it for some."""

IGNORANT = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


def gate(folder: Path, name: str) -> None:
    while not (folder / name).exists():
        time.sleep(0.01)


def passes(folder: Path) -> int:
    print("one")
    print("two ü €")
    print("  three")
    return 0


def fails(folder: Path) -> int:
    print("collected 1 item")
    print("E   assert 1 == 2", file=sys.stderr)
    return 3


def gated(folder: Path) -> int:
    for number in range(1, HALF + 1):
        print(f"line {number}")
    gate(folder, "half")
    for number in range(HALF + 1, 2 * HALF + 1):
        print(f"line {number}")
    gate(folder, "end")
    return 0


def steps(folder: Path) -> int:
    print("==> 1/4 First")
    time.sleep(0.1)  # the next step begins before one may be told again
    print("==> 2/4 Second")
    print("half of it [ 50%]")
    gate(folder, "half")
    print("==> 4/4 Fourth")
    gate(folder, "end")
    return 0


def odd(folder: Path) -> int:
    out = sys.stdout.buffer
    out.write(b"caf\xe9\r\n")
    out.write(b"x" * LONG_LINE + b"\n")
    out.write("\u2028 and \x85 end no line\n".encode())
    out.write(b"\n")
    out.write(b"10 %\r20 %\r\n")
    out.write(b"no end of line")
    out.flush()
    return 0


def many(folder: Path) -> int:
    for number in range(1, MANY + 1):
        print(f"line {number}", file=sys.stderr if number % 10 == 0 else sys.stdout)
    return 0


def stubborn(folder: Path) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with subprocess.Popen([sys.executable, "-c", IGNORANT], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        print(f"{os.getpid()} {child.pid}")
        signal.pause()
    return 0


def leaves(folder: Path) -> int:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print(child.pid)
    child.returncode = 0  # left behind on purpose, with our stdout and stderr
    return 0


def waits(folder: Path) -> int:
    print(os.getpid())
    signal.pause()
    return 0


if __name__ == "__main__":
    courses = {function.__name__: function for function in (passes, fails, gated, steps, odd, many, stubborn, leaves, waits)}
    sys.exit(courses[sys.argv[1]](Path(sys.argv[2])))
