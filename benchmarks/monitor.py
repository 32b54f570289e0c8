"""What the monitor's hour costs whoever looks: how long a page takes that is the first to look, memory, and each later look.

::

    python benchmarks/monitor.py                              # 4 processes with 20 routes each, 20 with 50, 100 with 1,000
    python benchmarks/monitor.py --processes 10 --routes 200
    DATABASE_URL=postgresql://… python benchmarks/monitor.py

The event log (a new SQLite file) has what reporters would have left there: reports of five minutes, one each five seconds from
every process, and of an hour, one each minute or, where reports are large, fewer. Every route is busy all the time, which no
project's are. *First look* is all that a page waits for which nobody has opened before; *a look* what is read each second from
then on, as a share of a core; *sums* what the parts *Routes* and *Errors* take every four seconds besides. Each row is a process
of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ROWS = ((4, 20), (20, 50), (100, 1_000))
MIB = 1 << 20


def measure(processes: int, routes: int) -> str:
    """Fill the log, look, and return a row."""
    import django

    django.setup()
    import psutil
    from django.core.management import call_command

    from django_agent_sse.contrib.monitor import cluster, reporter
    from django_agent_sse.contrib.monitor.report_json import encode
    from django_agent_sse.eventlog.backend import event_log
    from django_agent_sse.streams.snapshot import Process, Snapshot
    from django_agent_sse.wire import Event
    from tests.monitor.test_cost import busy

    call_command("migrate", verbosity=0)
    log, now = event_log(), time.time()
    log.clear_all()

    def text(worker: int, at: float) -> str:
        minute = int((at - now) // 60) + 61
        process = Process(id=f"w{worker}", host="web-1", pid=worker, since=0.0)
        return encode(Snapshot(process=process, at=at, routes={f"route/{n}/<int:pk>/": busy(n, minute) for n in range(routes)}))

    def fill(topic: str, seconds: float, interval: float) -> int:
        size = len(text(0, now))
        read = min(cluster.MAX_FIRST_READ, cluster.MAX_FIRST_BYTES // size) + 3 * processes  # nobody reads what was before
        ends = [seconds - interval * number for number in range(int(seconds // interval))]
        told = [(worker, now - end) for end in ends for worker in range(processes)]
        for worker, at in told[max(0, len(told) - read) :]:
            log.append_unrung(topic, Event(text(worker, at)))
        return size

    seldom = max(1.0, len(text(0, now)) / reporter.HISTORY_BYTES)
    size = fill(reporter.HISTORY, reporter.HISTORY_SECONDS, reporter.HISTORY_INTERVAL * seldom)
    fill(reporter.REPORTS, reporter.REPORTS_SECONDS, reporter.REPORT_INTERVAL)
    type(cluster.cluster_view).local = False  # type: ignore[method-assign, assignment]
    view, mine = cluster.ClusterView(), psutil.Process()
    before, began, used = mine.memory_info().rss, time.perf_counter(), time.process_time()
    view.read(0.0)
    first, first_cpu = time.perf_counter() - began, time.process_time() - used
    used = time.process_time()
    routes_told = len(view.past().routes)
    sums = time.process_time() - used
    memory = mine.memory_info().rss - before
    assert routes_told == min(routes, 1_000), routes_told
    for worker in range(processes):
        log.append_unrung(reporter.REPORTS, Event(text(worker, time.time())))
    used = time.process_time()
    view.read(0.0)
    look = (time.process_time() - used) / reporter.REPORT_INTERVAL
    return (
        f"| {processes:,} with {routes:,} | {size:,} | {first:.2f} s ({first_cpu:.2f} s of CPU) | {memory / MIB:,.0f} MiB "
        f"| {look:.1%} | {1e3 * sums:.0f} ms |"
    )


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
        "| processes, and routes of each | bytes of a report | first look | memory | a look | sums |\n|" + "---|" * 6, flush=True
    )
    for processes, routes in ((asked.processes, asked.routes),) if asked.processes else ROWS:
        with tempfile.TemporaryDirectory(prefix="sse-monitor-") as home:
            where = {"MONITOR_HOME": home, "DJANGO_SETTINGS_MODULE": "tests.monitor.site.settings"}
            database = {"SITE_DATABASE": os.environ["DATABASE_URL"]} if "DATABASE_URL" in os.environ else {}
            command = [sys.executable, __file__, "--here", f"--processes={processes}", f"--routes={routes}"]
            subprocess.run(command, env={**os.environ, **where, **database}, check=True)


if __name__ == "__main__":
    main()
