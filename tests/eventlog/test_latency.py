"""Figures, printed with ``-s``: how long a publish takes to be told of in another process, and what waiting costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.test import override_settings

from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.runtime.loop import BackgroundLoop
from tests import warm

from .layers import through
from .processes import PATIENCE, ROOT, arguments, shared
from .shared import SharedEventLog

COUNT = 300 if "LONG_PROOFS" in os.environ else 20
PUBLISHER = """
print("ready", flush=True)
for line in sys.stdin:
    publish("a", "x")
    print(time.monotonic(), flush=True)
"""


@contextmanager
def publisher(settings: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    child = warm.Popen(
        arguments(PUBLISHER, settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.communicate(timeout=PATIENCE)


async def latencies(file: Path, layers: dict[str, Any], pause: float, count: int = COUNT) -> list[float]:
    """Milliseconds from the return of ``publish()`` there to the notification or the poll here."""
    local = LocalNotifier()
    notifier = Notifier(local, BackgroundLoop())
    told: asyncio.Queue[float] = asyncio.Queue()
    local.listen(lambda topics: told.put_nowait(time.monotonic()))
    watch = notifier.watch(SharedEventLog(str(file)), lambda heads: told.put_nowait(time.monotonic()))
    watch.add("a")
    await asyncio.wait_for(told.get(), PATIENCE)
    found = []
    with publisher({"AGENT_SSE": shared(file), "CHANNEL_LAYERS": layers}) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(count):
            await asyncio.sleep(pause)
            while not told.empty():
                told.get_nowait()
            child.stdin.write("\n")
            published = float(await asyncio.to_thread(child.stdout.readline))
            found.append(1000 * (await asyncio.wait_for(told.get(), PATIENCE) - published))
    watch.clear()
    await asyncio.to_thread(notifier.reset)
    return sorted(found[1:])


def p50_p99(sample: list[float]) -> str:
    return f"p50 {sample[len(sample) // 2]:.1f} ms, p99 {sample[int(len(sample) * 0.99)]:.1f} ms ({len(sample)} publishes)"


async def test_how_long_a_publish_takes_to_be_told_of(redis_url: str, tmp_path: Path) -> None:
    busy = await latencies(tmp_path / "busy", {}, 0.05)
    print(f"\npoll only, a publish every 50 ms or so: {p50_p99(busy)}")
    idle = await latencies(tmp_path / "idle", {}, 2.0, 40) if "LONG_PROOFS" in os.environ else []
    if idle:
        print(f"poll only, a publish every 2 s: {p50_p99(idle)}")
    layers = through(redis_url)
    with override_settings(CHANNEL_LAYERS=layers):
        rung = await latencies(tmp_path / "rung", layers, 0.05)
    print(f"channels_redis pub/sub: {p50_p99(rung)}")


async def test_what_an_idle_poll_costs(tmp_path: Path) -> None:
    seconds = 20 if "LONG_PROOFS" in os.environ else 2
    code = f"""
    import resource
    async def main():
        watch = notifier.watch(event_log(), lambda heads: None)
        for number in range(50):
            watch.add(f"topic.{{number}}")
        await asyncio.sleep(1)
        began = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep({seconds})
        ended = resource.getrusage(resource.RUSAGE_SELF)
        used = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        print(f"{{100 * used / {seconds}:.2f}} % of a core, {{len(event_log().asked)}} questions")
    asyncio.run(main())
    """
    done = await asyncio.create_subprocess_exec(
        *arguments(code, {"AGENT_SSE": shared(tmp_path / "log")}), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, _ = await asyncio.wait_for(done.communicate(), PATIENCE)
    assert done.returncode == 0
    print(f"\n50 topics, idle, log in a file: {out.decode().strip()}")
