"""Long lines on every way through a server of one process, while another process asks it for a small page.

``tox run -e long`` has every log and kind, up to the largest event; with ``-s`` it prints its figures. All seconds are those of
the clock on the wall.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from django_agent_sse.eventlog.records import MOST_EVENT_BYTES
from django_agent_sse.wire import MAX_EVENT_BYTES
from tests import warm
from tests.live.servers import ROOT, START_SECONDS, poll
from tests.services import free_port
from tests.timing import LONG, bound

from .lines import KINDS, line_of
from .measuring import TRIES

pytestmark = pytest.mark.alone if LONG else pytest.mark.slow
WAIT = bound(0.2, 10.0)
"""Seconds that another request may take meanwhile."""
MIB = 2**20
NAME = len("stdout")
SIZES = (MIB, MOST_EVENT_BYTES - NAME) if LONG else (MIB,)
TOO_LARGE = 64_000_000
GROWTH, NOISE = 30, bound(0.3, 3.0)
COPIES, SPARE = 8, 64_000_000
"""Bytes of memory: so many for each of the line, as JSON or in a stream, and for everything else."""
LOGS = {
    "memory": ("memory.MemoryEventLog", ""),
    "SQLite": ("database.DatabaseEventLog", ""),
    "PostgreSQL": ("database.DatabaseEventLog", "postgres_url"),
    "Redis": ("redis.RedisEventLog", "redis_url"),
}
TOPICS = "/admin/django_agent_sse/logtopic"


class LineSite:
    """The site in one process of uvicorn, and the process that pings it."""

    def __init__(self, home: Path, log: dict[str, Any], database: str) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.cost.site.settings",
            "PYTHONPATH": str(ROOT),
            "LINES_HOME": str(home),
            "LINES_LOG": json.dumps(log),
            **({"LINES_DATABASE": database} if database else {}),
        }
        self.shared = "memory" not in log["BACKEND"]
        self.port = free_port()
        self.pings: list[tuple[float, float]] = []
        self.command("migrate", "--verbosity=0")

    def command(self, *words: str, **about: Any) -> None:
        """Run a command of Django's in a process of its own, to its end."""
        warm.run([sys.executable, "-m", "django", *words], cwd=ROOT, env=self.environment, check=True, timeout=300, **about)

    @contextlib.contextmanager
    def running(self) -> Iterator[LineSite]:
        """Serve and ping until the end."""
        options = f"--host 127.0.0.1 --port {self.port} --log-level warning --timeout-keep-alive 600"  # the pinger may rest
        uvicorn = f"uvicorn {options} tests.cost.site.asgi:application"
        with self._process(*uvicorn.split(), stdin=subprocess.DEVNULL) as server:
            self.pid = server.pid
            poll("the site answers", self._answers, START_SECONDS)
            with self._process("tests.cost.pinger", str(self.port), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pinger:
                reader = threading.Thread(target=self._read, args=(pinger,))
                reader.start()
                self.cookie = str(self.fetch("/_enter/").headers["Set-Cookie"]).partition(";")[0]
                yield self
                assert pinger.stdin
                pinger.stdin.close()
                reader.join(30)

    @contextlib.contextmanager
    def _process(self, *words: str, **about: Any) -> Iterator[subprocess.Popen[bytes]]:
        with (self.home / "errors.log").open("ab") as errors:
            process = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=self.environment, stderr=errors, **about)
        with process:
            try:
                yield process
            finally:
                process.kill()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.fetch("/_ping/").status == 200
        return False

    def _read(self, pinger: subprocess.Popen[bytes]) -> None:
        for line in pinger.stdout or ():
            began, ended = map(float, line.split())
            self.pings.append((began, ended))

    def slowest(self, began: float, ended: float) -> float:
        """How long the slowest ping took of those that were under way between these moments, or came next."""
        poll("a later ping", lambda: self.pings and self.pings[-1][0] > ended, 60)
        return max(end - start for start, end in self.pings if end >= began)

    def fetch(self, path: str, begun: Callable[[], object] | None = None, cookie: str = "") -> Fetched:
        """Read a whole answer, and call ``begun`` when its head is there."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request("GET", path, headers={"Accept": "*/*", "Cookie": cookie})
        answer = connection.getresponse()
        if begun is not None:
            begun()
        buffer, size, last = memoryview(bytearray(MIB)), 0, b""
        while count := answer.readinto(buffer):
            size, last = size + count, (last + bytes(buffer[max(0, count - 80) : count]))[-80:]
        connection.close()
        return Fetched(answer.status, answer.headers, size, last)

    def publish(self, name: str, kind: str, size: int, query: str = "?close=1", status: int = 200) -> Fetched:
        """Let the server make a line and append it."""
        found = self.fetch(f"/_publish/{name}/{kind}/{size}/{query}")
        assert found.status == status, found.last
        return found


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, of whose body only the end was kept."""

    status: int
    headers: Any
    size: int
    last: bytes


Way = Callable[[LineSite, str, str, int], object]
"""Does something with the topic ``logs.NAME``, which holds a line and is closed."""


def publish(site: LineSite, name: str, kind: str, size: int) -> None:
    site.publish(f"{name}-new-{time.monotonic_ns()}", kind, size)


def follow(site: LineSite, name: str, kind: str, size: int) -> None:
    fresh = f"{name}-live-{time.monotonic_ns()}"
    publishing = threading.Thread(target=site.publish, args=(fresh, kind, size))
    found = site.fetch(f"/logs/{fresh}/log/", publishing.start)
    publishing.join()
    assert found.size > len(line_of(kind, size))


def replay(site: LineSite, name: str, kind: str, size: int) -> None:
    found = site.fetch(f"/logs/{name}/log/")
    assert found.size > len(line_of(kind, size))
    assert found.last.endswith(b"\n\n")


def of_range(site: LineSite, name: str, kind: str, size: int) -> None:
    found = site.fetch(f"/logs/{name}/log/range/?from=1")
    assert (found.status, found.last[-2:]) == (200, b"]}")
    assert found.size > len(line_of(kind, size))


def of_raw(site: LineSite, name: str, kind: str, size: int) -> None:
    for query in ("follow=0", "follow=1"):
        assert site.fetch(f"/logs/{name}/log/raw/?{query}").size == len(line_of(kind, size)) + 1


def page(site: LineSite, name: str, kind: str, size: int) -> None:
    found = site.fetch(f"/page/{name}/")
    assert (found.status, found.size < 60_000) == (200, True)


def topics_page(site: LineSite, name: str, kind: str, size: int) -> None:
    where = f"{TOPICS}/logs.{name}"
    for path, least in (("/change/", 1_000), ("/log/range/?from=1", size // 8), ("/log/", size // 8), ("/log/raw/", size // 8)):
        found = site.fetch(f"{where}{path}", cookie=site.cookie)
        assert (found.status, found.size >= least) == (200, True), path


def write(site: LineSite, name: str, kind: str, size: int) -> None:
    found = site.fetch(f"/write/{kind}/{size}/")
    assert found.size > len(line_of(kind, size))


def tail(site: LineSite, name: str, kind: str, size: int) -> None:
    with (site.home / "tail").open("wb") as out:
        site.command("sse_tail", f"http://127.0.0.1:{site.port}/logs/{name}/log/", "--no-follow", stdout=out)
    assert (site.home / "tail").stat().st_size >= len(line_of(kind, size)) // 2
    if site.shared:
        site.command("sse_tail", f"logs.{name}", "--from-start", "--no-follow", stdout=subprocess.DEVNULL)


def run(site: LineSite, name: str, kind: str, size: int) -> None:
    fresh = f"{name}-run-{time.monotonic_ns()}"
    program = f"import sys; from tests.cost.lines import line_of; sys.stdout.write(line_of({kind!r}, {size}))"
    command = ["sse_run", f"logs.{fresh}", "--quiet", "--", sys.executable, "-c", program]
    running = threading.Thread(target=site.command, args=command)
    found = site.fetch(f"/logs/{fresh}/log/", running.start)
    running.join()
    assert found.size > (0 if "\r" in KINDS[kind] else size)


WAYS: dict[str, Way] = {
    "publish": publish,
    "stream, live": follow,
    "stream, from the beginning": replay,
    "range/": of_range,
    "raw/": of_raw,
    "page with the viewer": page,
    "Topics page": topics_page,
    "stream.write()": write,
    "sse_tail": tail,
    "sse_run": run,
}


@pytest.fixture(scope="module", params=LOGS if LONG else ["memory"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, LineSite]]:
    """One site for each log."""
    backend, server = LOGS[request.param]
    url = request.getfixturevalue(server) if server else ""
    options: dict[str, Any] = {"MAX_EVENT_BYTES": MOST_EVENT_BYTES, "MAX_BYTES": 8 * MOST_EVENT_BYTES}
    if "redis" in backend:
        options |= {"url": url, "prefix": "long-lines"}
    log = {"BACKEND": f"django_agent_sse.eventlog.{backend}", "OPTIONS": options}
    home = tmp_path_factory.mktemp("lines")
    with LineSite(home, log, url if "postgres" in url else "").running() as site:
        print(f"\n\n{'log':10} {'way':26} {'line of':8} {'MiB':>5} {'seconds':>9} {'others wait':>12} {'memory':>9} {'tries':>6}")
        yield request.param, site
    ctypes.CDLL(None).malloc_trim(0)


def measured(site: LineSite, work: Callable[[], object]) -> tuple[float, float, float, int]:
    """Seconds, the slowest ping meanwhile, bytes of memory, and how often it was tried: what else the machine does is no cost."""
    found: list[tuple[float, float, float]] = []
    while not found or (found[-1][1] >= WAIT and len(found) < TRIES):
        before = memory(site, "VmRSS")
        Path(f"/proc/{site.pid}/clear_refs").write_text("5")
        began = time.monotonic()
        work()
        ended = time.monotonic()
        found.append((ended - began, site.slowest(began, ended), memory(site, "VmHWM") - before))
    return *min(found, key=lambda one: one[1]), len(found)


def memory(site: LineSite, name: str) -> float:
    """What the server's process takes, in bytes."""
    told = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{site.pid}/status").read_text())
    assert told
    return int(told[1]) * 1024


def sizes(way: str, kind: str) -> tuple[int, ...]:
    """Bytes in a stream, which carries twice what a log takes: of what is written to it, and of lines with many ends."""
    return (*SIZES, MAX_EVENT_BYTES) if LONG and (way == "stream.write()" or kind == "dense") else SIZES


@pytest.mark.parametrize("way", WAYS)
def test_others_are_answered_while_a_long_line_goes_through_the_server(site: tuple[str, LineSite], way: str) -> None:
    log, there = site
    if way == "sse_run" and not there.shared:
        return  # it is another process, which such a log does not reach
    for kind in KINDS if LONG else ["letters"]:
        before = NOISE
        for size in sizes(way, kind):
            name = f"way-{list(WAYS).index(way)}-{kind}-{size}"
            if way != "stream.write()":  # which sends its own line, and may send a longer one than a log takes
                there.publish(name, kind, size)
            seconds, waited, peak, tries = measured(there, partial(WAYS[way], there, name, kind, size))
            shown = f"{seconds:7.2f} s {waited * 1000:9.0f} ms {peak / MIB:5.0f} MiB {tries:6}"
            print(f"{log:10} {way:26} {kind:8} {size / MIB:5.0f} {shown}")
            assert waited < WAIT, f"{log}, {way}: another request took {waited:.3f} s for a line of {size:,} bytes ({kind})"
            assert peak < COPIES * max(size, len(json.dumps(line_of(kind, size)))) + SPARE
            assert seconds < GROWTH * max(before, NOISE)
            before = seconds


@pytest.mark.parametrize("kind", ["letters", "dense"])
@pytest.mark.parametrize("door", ["publish", "stream.write()"])
def test_a_line_that_is_too_large_is_refused_and_holds_up_nobody(site: tuple[str, LineSite], door: str, kind: str) -> None:
    log, there = site

    def refused() -> None:
        if door == "publish":
            assert b"was written" in there.publish("refused", kind, TOO_LARGE, "", 413).last
        else:
            assert b"Nothing was written" in there.fetch(f"/write/{kind}/{TOO_LARGE}/").last

    seconds, waited, peak, tries = measured(there, refused)
    shown = f"{seconds:7.2f} s {waited * 1000:9.0f} ms {peak / MIB:5.0f} MiB {tries:6}"
    print(f"{log:10} {door + ', refused':26} {kind:8} {TOO_LARGE / MIB:5.0f} {shown}")
    assert waited < WAIT
    assert peak < 2 * TOO_LARGE + SPARE
