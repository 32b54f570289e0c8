"""What the monitor costs whoever looks at many processes and routes: the first page, those after it, and the export.

::

    python benchmarks/monitor.py                              # 4 processes with 20 routes each, 20 with 50, 100 with 1,000
    python benchmarks/monitor.py --processes 10 --routes 200
    DATABASE_URL=postgresql://… python benchmarks/monitor.py

The event log (a new SQLite file) has what reporters would have left there, made by their own functions: reports of five minutes,
one each five seconds from every process, and of an hour, one each minute. Every route is busy
all the time, which no project's are.

- *Log*: bytes a second that all processes write, and of those that a process writes for who looks at streams.
- *First look*: all that a page waits for which nobody has opened before; *seen*: of how many processes it knows then.
- *A look*: what is read each second from then on, while somebody looks at streams, as a share of a core.
- *Memory*: of the process that looks, after twenty of them.
- *Page*: the HTML of *Live streams* and of *Routes*; *events*: the first of its stream and those after it, one a second.
- *Export*: of everything, and of the routes as CSV.

Times are of the processor. Each row is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ROWS = ((4, 20), (20, 50), (100, 1_000))
MIB = 1 << 20
LOOKS = 20


class Told:
    """What many processes would have left in the log."""

    def __init__(self, processes: int, routes: int) -> None:
        from django_agent_sse.contrib.monitor.reporter import MOST_ROUTES, RoutesInTurn
        from django_agent_sse.eventlog.backend import event_log

        self.log, self.processes, self.routes, self.now = event_log(), processes, routes, time.time()
        self._done: dict[int, dict[str, Any]] = {}
        self._turns = [{topic: RoutesInTurn(most) for topic, most in MOST_ROUTES.items()} for _ in range(processes)]

    def report(self, topic: Any, worker: int, at: float, answers: Any = (), *, unread: bool = False) -> int:
        """Append a report of a process as its reporter would, unless nobody reads it; return its bytes."""
        from django_agent_sse.contrib.monitor.report_json import encode
        from django_agent_sse.streams.snapshot import Process, Snapshot
        from django_agent_sse.wire import Event
        from tests.monitor.test_cost import busy

        done = int((at - self.now) // 5) + 1_000
        process = Process(id=f"w{worker}", host="web-1", pid=worker, since=0.0)
        if done not in self._done:
            self._done = {done: {f"route/{number}/<int:pk>/": busy(number, done) for number in range(self.routes)}}
        routes = self._done[done]
        snapshot = self._turns[worker][topic].of(Snapshot(process=process, at=at, routes=routes))
        if unread:
            return 0
        text = encode(snapshot, answers)
        self.log.append_unrung(topic, Event(text))
        return len(text)

    def past(self, topic: Any, seconds: float, interval: float) -> None:
        """What there is before somebody looks; of that which a first look leaves out nothing is written."""
        from django_agent_sse.contrib.monitor import cluster

        for worker in range(self.processes):  # which did not begin together, and so tell of different routes
            for _ in range(worker % 20):
                self.report(topic, worker, self.now - seconds - 1, unread=True)
        size = self.report(topic, 0, self.now - seconds - 1)
        read = cluster.MAX_FIRST_BYTES / size / self.processes + 2
        for number in range(int(seconds // interval), 0, -1):
            for worker in range(self.processes):
                at = self.now - interval * (number - 1) - worker / self.processes
                self.report(topic, worker, at, unread=number > read)

    def second(self, place: int) -> tuple[int, int]:
        """What all report in a second while somebody looks at streams: the bytes of reports, and of rows."""
        from django_agent_sse.contrib.monitor import reporter

        at, query = self.now + place + 1, self.query
        rows = [self.report(reporter.ROWS, worker, at, [(query, answer_of(worker, at))]) for worker in range(self.processes)]
        due = [worker for worker in range(self.processes) if worker % 5 == place % 5]
        return sum(self.report(reporter.REPORTS, worker, at + 0.001) for worker in due), sum(rows)

    @property
    def query(self) -> Any:
        from django_agent_sse.contrib.monitor.inspector import StreamQuery

        return StreamQuery()


def answer_of(worker: int, at: float) -> Any:
    """The hundred rows of a process."""
    from django_agent_sse.contrib.monitor.inspector import Answer, StreamRow

    rows = [
        StreamRow(
            *(f"w{worker}.{number}", f"route/{number}/<int:pk>/", (f"topic.{number}",), str(number), at - number, float(number)),
            *(number, 100 * number, f"e~{number}", 0, 1.0, "203.0.113.0/24", "Chrome/156.0.0.0", f"w{worker}", "live"),
        )
        for number in range(100)
    ]
    return Answer(rows, 5_000, {}, [], [], [], at)


def measure(processes: int, routes: int) -> str:
    """Fill the log, look, and return a row."""
    import django

    django.setup()
    import psutil
    from django.core.management import call_command

    from django_agent_sse.contrib.monitor import cluster, reporter

    call_command("migrate", verbosity=0)
    told = Told(processes, routes)
    told.log.clear_all()
    told.past(reporter.HISTORY, reporter.HISTORY_SECONDS, reporter.HISTORY_INTERVAL)
    told.past(reporter.REPORTS, reporter.REPORTS_SECONDS, reporter.REPORT_INTERVAL)
    clock = [told.now + 0.5]
    cluster.time = SimpleNamespace(time=lambda: clock[0], monotonic=time.monotonic)  # type: ignore[assignment]
    type(cluster.cluster_view).local = False  # type: ignore[method-assign, assignment]
    view, mine = cluster.cluster_view, psutil.Process()
    before = mine.memory_info().rss
    first = cpu(lambda: view.read(0.0))
    seen = len(view.snapshot().counted)
    looks, written = [], []
    for place in range(LOOKS):
        written.append(told.second(place))
        clock[0] += 1
        looks.append(cpu(lambda: view.read(0.0)))
    view.past()
    memory = mine.memory_info().rss - before
    reports, rows = (sum(sizes) / LOOKS for sizes in zip(*written, strict=True))
    known = len(view.past().names)
    assert known == min(routes, 1_000), known
    return (
        f"| {processes:,} with {routes:,} | {reports / 1000:,.0f}, {rows / 1000 / processes:,.0f} kB | {first:.2f} s, {seen:,} "
        f"| {statistics.mean(looks):.1%} | {memory / MIB:,.0f} MiB | {pages()} |"
    )


def cpu(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def pages() -> str:
    """What the pages take: processor time and bytes."""
    from asgiref.sync import async_to_sync
    from django.contrib.auth.models import User
    from django.test import Client, RequestFactory

    from django_agent_sse.contrib.monitor import cluster
    from django_agent_sse.contrib.monitor.admin import export
    from django_agent_sse.contrib.monitor.admin.live_view import Viewer
    from django_agent_sse.contrib.monitor.inspector import StreamQuery

    boss, client = User.objects.create_superuser("boss"), Client()
    client.force_login(boss)
    request = RequestFactory().get("/")
    request.user = boss
    cluster.FRESH_SECONDS = cluster.ROWS_SECONDS = cluster.REPORT_LIFE_SECONDS = 1e6  # what is measured is not the waiting

    def page(view: str) -> str:
        path = f"/admin/agent_sse_monitor/livestreams/?view={view}"
        client.get(path)
        began = time.process_time()
        answer = client.get(path)
        assert answer.status_code == 200, answer.status_code
        return f"{1e3 * (time.process_time() - began):.0f} ms, {len(answer.content) / 1000:,.0f} kB"

    def events(view: str) -> str:
        viewer = Viewer(query=StreamQuery(), user=str(boss.pk), sees_payloads=True, closes=True, view=view, sees_topics=True)

        async def three() -> tuple[list[int], float]:
            sizes, began = [], 0.0
            for number in range(11):
                if number == 1:
                    began = time.process_time()
                sizes.append(len(json.dumps(await viewer.look(request, within=1e6))))
            return sizes, (time.process_time() - began) / 10

        sizes, took = async_to_sync(three)()
        return f"{sizes[0] / 1000:,.0f}, {sizes[-1] / 1000:,.0f} kB, {1e3 * took:.0f} ms"

    async def exported(table: str) -> tuple[int, float]:
        viewer = Viewer(query=StreamQuery(stream="-"), user=str(boss.pk), sees_payloads=True, closes=True, sees_topics=True)
        began = time.process_time()
        export.ANSWER_TIMEOUT = 0.0
        document = await export.document(viewer)
        chunks = export.as_csv(document, table) if table else export.as_json(document)
        size = len("".join([chunk async for chunk in chunks]).encode())
        return size, time.process_time() - began

    files = [f"{size / 1000:,.0f} kB, {1e3 * took:.0f} ms" for size, took in map(async_to_sync(exported), ("", "routes"))]
    return " | ".join([page("streams"), page("routes"), events("streams"), events("routes"), *files])


def main() -> None:
    """Print the rows."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--processes", type=int)
    options.add_argument("--routes", type=int, default=20)
    options.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.here:
        print(measure(asked.processes, asked.routes))
        return
    print(
        "| processes, and routes of each | log | first look, seen | a look | memory | page: streams | page: routes "
        "| events: streams | events: routes | export: JSON | export: CSV of routes |\n|" + "---|" * 11,
        flush=True,
    )
    for processes, routes in ((asked.processes, asked.routes),) if asked.processes else ROWS:
        with tempfile.TemporaryDirectory(prefix="sse-monitor-") as home:
            where = {"MONITOR_HOME": home, "DJANGO_SETTINGS_MODULE": "tests.monitor.site.settings"}
            database = {"SITE_DATABASE": os.environ["DATABASE_URL"]} if "DATABASE_URL" in os.environ else {}
            command = [sys.executable, __file__, "--here", f"--processes={processes}", f"--routes={routes}"]
            subprocess.run(command, env={**os.environ, **where, **database}, check=True)


if __name__ == "__main__":
    main()
