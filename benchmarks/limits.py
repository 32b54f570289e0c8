"""What limits cost a connect, in microseconds: ``python benchmarks/limits.py [CACHE …]``; ``REDIS_URL`` adds a Redis.

Far from a limit: each connect is another user's. Near one: all of one user, one after the other, or a hundred at a time.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import django
from django.conf import settings

COUNT = 2_000
TOGETHER = 100


def caches(folder: str) -> dict[str, Any]:
    """The caches under test."""
    backends = "django.core.cache.backends"
    found = {
        "local memory": {"BACKEND": f"{backends}.locmem.LocMemCache"},
        "files": {"BACKEND": f"{backends}.filebased.FileBasedCache", "LOCATION": folder},
        "database (SQLite)": {"BACKEND": f"{backends}.db.DatabaseCache", "LOCATION": "limits_cache"},
    }
    if url := os.environ.get("REDIS_URL"):
        found["Redis"] = {"BACKEND": f"{backends}.redis.RedisCache", "LOCATION": url}
    return found


async def measured(what: str, body: Callable[[int], Awaitable[object]], together: int = 1) -> None:
    """Print what one call takes, on the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    for begin in range(0, COUNT, together):
        await asyncio.gather(*(body(number) for number in range(begin, begin + together)))
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"| {what} | {clock / COUNT * 1e6:.1f} | {processor / COUNT * 1e6:.1f} |")


async def main(names: list[str]) -> None:
    """One row for each."""
    from django.core.cache import caches as django_caches
    from django.test import override_settings

    from django_agent_sse.runtime import descriptors
    from django_agent_sse.streams.admission import arrive
    from django_agent_sse.streams.shared_counts import shared

    async def look(_: int) -> None:
        descriptors.exhausted(0.2)

    async def arrives(number: int) -> None:
        scope = {"type": "http", "client": (f"8.{number // 250}.8.{number % 250}", 1), "headers": [(b"accept", b"*/*")] * 12}
        (await arrive(scope)).known()

    print("| | µs on the clock | µs of the processor |\n|---|---|---|")
    await measured("a look at the descriptors", look)
    with override_settings(AGENT_SSE={"LIMITS": {"CONNECTS": None}}):
        await measured("arriving: address, rates, descriptors, a place before the guards", arrives)
    for name in names:
        with override_settings(AGENT_SSE={"CACHE": name}):
            shared.reset()
            if name == "database (SQLite)":
                await asyncio.to_thread(_create_table)
            django_caches[name].clear() if name != "database (SQLite)" else None
            keys: list[str] = []

            async def far(number: int, keys: list[str] = keys) -> None:
                keys.append(str(await shared.take("user", str(number), 256)))

            async def near(number: int, keys: list[str] = keys) -> None:
                keys.append(str(await shared.take("user", "one", 4 * COUNT)))

            await measured(f"{name}: far from a limit", far)
            for number in range(COUNT):  # so many need no word with others
                await near(number)
            await measured(f"{name}: near one, one after the other", near)
            await measured(f"{name}: near one, {TOGETHER} at a time", near, TOGETHER)
            for key in keys:
                shared.give_back(key)


def _create_table() -> None:
    from django.core.management import call_command

    call_command("createcachetable")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        known = caches(folder)
        settings.configure(
            INSTALLED_APPS=["django_agent_sse"],
            CACHES={"default": known["local memory"], **known},
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "db.sqlite3")}},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        )
        django.setup()
        asyncio.run(main([name for name in known if not sys.argv[1:] or name in sys.argv[1:]]))
