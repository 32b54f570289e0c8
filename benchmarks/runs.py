"""What a run costs beside a bare ``StreamingHttpResponse``: the same tokens of the same generator, in one go.

::

    python benchmarks/runs.py                       # every table, three rounds: about ten minutes
    python benchmarks/runs.py --logs memory,redis --tables cost --rounds 1

Real uvicorn in a process of its own, this client in another, PostgreSQL and Valkey from the wheels of the test extra. The
rounds are interleaved. Of processor time the lowest is shown, of latencies the median.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("TREE", HERE.parent)).resolve()
sys.path.insert(0, str(ROOT))

from tests.services import free_port, running_postgres, running_redis  # noqa: E402

STAMP = re.compile(rb'"delta":"(\d{9,}) "')
LOGS = ("memory", "sqlite", "postgres", "redis")
RATE = 50
LOADS = {"1 run, 50/s": (1, RATE * 4, RATE), "20 runs, 50/s": (20, RATE * 4, RATE), "1 run, as fast as it can": (1, 10_000, 0)}
"""Runs at once, tokens of each, and tokens a second of each."""
REOPENED = 20_000
IDLE, IDLE_SECONDS = 1_000, 25.0
Row = dict[str, float]


class Server:
    """A uvicorn of its own."""

    def __init__(self, about: dict[str, str]) -> None:
        self.port = free_port()
        self.process = subprocess.Popen([sys.executable, str(HERE / "runs_app.py"), str(self.port)], env=about, cwd=ROOT)

    async def cpu(self) -> float:
        _, body = await self.take("GET", "/spent/")
        return float(json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["cpu"])

    async def ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                await self.cpu()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server does not start")
            await asyncio.sleep(0.05)

    async def take(self, method: str, path: str, *headers: str) -> tuple[list[float], bytes]:
        """Read an answer to its end. Return how many ms after it was made each token came, and what was read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Length: 0", *headers, "", "")
        writer.write("\r\n".join(lines).encode())
        late: list[float] = []
        read = rest = b""
        pieces: list[bytes] = []
        while read := await reader.read(262_144):
            now = time.monotonic_ns()
            pieces.append(read)
            rest += read
            end = 0
            for found in STAMP.finditer(rest):
                late.append((now - int(found[1])) / 1e6)
                end = found.end()
            rest = rest[max(end, len(rest) - 64) :]
        writer.close()
        return late, b"".join(pieces)

    async def begin(self, query: str) -> str:
        """Start a run without a reader. Return its address."""
        _, body = await self.take("POST", f"/runs/?{query}", "Prefer: respond-async")
        return str(json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["url"])

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def store(log: str) -> Iterator[dict[str, str]]:
    """Run what a log needs. Yield the environment of its servers."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(tempfile.TemporaryDirectory(prefix="sse-runs-"))
        if log == "postgres":
            where = stack.enter_context(running_postgres()).partition("host=")[2]
        elif log == "redis":
            where = stack.enter_context(running_redis())
        about = {**os.environ, "LOG": log, "WHERE": where, "PYTHONPATH": str(ROOT)}
        if log in ("sqlite", "postgres"):
            subprocess.run([sys.executable, str(HERE / "runs_app.py"), "migrate"], env=about, cwd=ROOT, check=True)
        yield about


@contextlib.asynccontextmanager
async def serving(about: dict[str, str], count: int = 1) -> Any:
    servers = [Server(about) for _ in range(count)]
    try:
        for server in servers:
            await server.ready()
        yield servers
    finally:
        for server in servers:
            server.end()


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


async def cost(server: Server, method: str, path: str, load: str) -> Row:
    """Have several answers at once; return the server's processor time for each token, and how late they came."""
    runs, count, rate = LOADS[load]
    used = await server.cpu()
    answers = await asyncio.gather(*(server.take(method, f"{path}n={count}&rate={rate}") for _ in range(runs)))
    used = await server.cpu() - used
    late = [ms for answer, _ in answers for ms in answer]
    assert len(late) == runs * count, f"{len(late)} tokens came, not {runs * count}"
    return {"cpu": used / len(late) * 1e6, "p50": statistics.median(late), "p99": percentile(late, 0.99)}


async def costs(about: dict[str, str], log: str) -> dict[str, Row]:
    """Measure the loads with one log, with and without batches; and beside the memory log a bare response."""
    kinds = {f"{log} log": ("POST", "/runs/?"), f"{log} log, each token appended": ("POST", "/runs/?flush=1&")}
    if log == "memory":
        kinds = {"bare `StreamingHttpResponse`": ("GET", "/bare/?"), **kinds}
    found = {}
    async with serving(about) as (server,):
        for kind, (method, path) in kinds.items():
            await server.take(method, f"{path}n=200&rate=0")  # whatever is imported or compiled the first time
            for load in LOADS:
                found[f"{kind}|{load}"] = await cost(server, method, path, load)
    return found


async def reopened(about: dict[str, str], log: str) -> dict[str, Row]:
    """Have a run of many deltas, and open it again: the time to the last byte, and the bytes beyond the text."""
    async with serving(about) as (server,):
        url = await server.begin(f"n={REOPENED}&rate=0")
        _, whole = await server.take("GET", url)
        took, used = [], []
        for _ in range(9):
            before, began = await server.cpu(), time.monotonic()
            _, body = await server.take("GET", url)
            took.append((time.monotonic() - began) * 1e3)
            used.append((await server.cpu() - before) * 1e3)
        text = len("".join(re.findall(r"\d{9,} ", body.decode())))
        each = REOPENED * len('id: abcdefgh.10000\ndata: {"type":"text-delta","id":"1","delta":""}\n\n')
        assert b"[DONE]" in whole
        row = {"took": min(took), "cpu": min(used), "beyond": (len(body) - text) / each * 100}
    return {f"{log} log|reopened": row}


async def readers(about: dict[str, str], log: str) -> dict[str, Row]:
    """Have 100 readers over 4 processes on one run, which is in the first of them."""
    if log == "memory":
        return {}
    count, processes, each = RATE * 4, 4, 25
    async with serving(about, processes) as servers:
        for server in servers:
            await server.take("GET", await server.begin("n=10&rate=0"))
        used = [await server.cpu() for server in servers]
        url = await servers[0].begin(f"n={count}&rate={RATE}")
        answers = await asyncio.gather(*(server.take("GET", url) for server in servers for _ in range(each)))
        spent = sum([await server.cpu() for server in servers]) - sum(used)
    late = [ms for answer, _ in answers for ms in answer[10:]]  # what was there before they came is no measure
    assert all(b"[DONE]" in body for _, body in answers)
    return {
        f"{log} log|readers": {
            "cpu": spent / (processes * each * count) * 1e6,
            "p50": statistics.median(late),
            "p99": percentile(late, 0.99),
        }
    }


async def idle(about: dict[str, str], log: str) -> dict[str, Row]:
    """Hold runs that do nothing."""
    found = {}
    for count in (1, IDLE):
        command = [sys.executable, str(HERE / "runs_app.py"), "idle", str(count), str(IDLE_SECONDS)]
        done = await asyncio.to_thread(subprocess.run, command, env=about, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        found[f"{log} log, {count:,} idle|idle"] = json.loads(done.stdout.splitlines()[-1])
    return found


TABLES = {"cost": costs, "reopened": reopened, "readers": readers, "idle": idle}


def best(rows: Sequence[Row]) -> Row:
    lowest = ("cpu", "took", "kib")
    return {name: (min if name in lowest else statistics.median)([row[name] for row in rows]) for name in rows[0]}


def show(found: dict[str, Row]) -> None:
    """Print the tables."""
    kinds = {name.partition("|")[0]: None for name in found if name.partition("|")[2] in LOADS}
    if kinds:
        print("\n| | " + " | ".join(f"{load}: µs of CPU a token | p50, p99 ms" for load in LOADS) + " |")
        print("|---|" + "---|" * 2 * len(LOADS))
    first = next(iter(kinds), "")
    for kind in kinds:
        cells = []
        for load in LOADS:
            row, bare = found[f"{kind}|{load}"], found[f"{first}|{load}"]
            cells += [f"{row['cpu']:,.0f} ({row['cpu'] / bare['cpu']:.2f})", f"{row['p50']:,.1f}, {row['p99']:,.1f}"]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    heads = {
        "reopened": f"{REOPENED:,} deltas reopened | ms to the last byte | ms of CPU | % of the bytes beyond the text",
        "readers": "100 readers, 4 processes | µs of CPU a token and reader | p50 ms | p99 ms",
        "idle": "idle runs | renewals/s | SQL queries/s | % of a CPU | threads | KiB of memory a run",
    }
    for table, head in heads.items():
        rows = {name.partition("|")[0]: row for name, row in found.items() if name.endswith(f"|{table}")}
        if rows:
            print(f"\n| {head} |\n|" + "---|" * (head.count("|") + 1))
        for kind, row in rows.items():
            row = {**row, "cpu": row["cpu"] * 100} if table == "idle" else row
            print(f"| {kind} | " + " | ".join(f"{value:,.2f}" for value in row.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[Row]] = {}
    try:
        for number in range(options.rounds):
            for log in options.logs.split(","):
                measure(found, log, [table for table in options.tables.split(",") if table != "idle" or not number])
    finally:  # also of what was measured before somebody interrupted it
        show({name: best(rows) for name, rows in found.items()})


def measure(found: dict[str, list[Row]], log: str, tables: Sequence[str]) -> None:
    with store(log) as about:
        for table in tables:
            print(f"{time.strftime('%X')} {log}, {table}", file=sys.stderr)
            for name, row in asyncio.run(TABLES[table](about, log)).items():
                found.setdefault(name, []).append(row)


if __name__ == "__main__":
    main()
