"""What a connect, a POST, an idle stream and an event cost, in this tree and in others, one after the other in one run.

::

    python benchmarks/trust.py                    # this tree
    python benchmarks/trust.py ../before .        # two trees in turn, for a table side by side

Each tree runs in a process of its own, through Django's ASGI handler inside ``asgi.wrap()``, in process and without sockets: what
is counted is Django's and ours. Limits are on, and so high that nobody meets them. Processor time, the best of the rounds; memory
is what Python has allocated for a stream that follows a topic, as ``tracemalloc`` counts it. ``--rounds N`` for more than three.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import functools
import gc
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

CONNECTS = 1_000
STREAMS = 1_000
EVENTS = 100
DELTAS = 50_000
COOKIE = "sessionid"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1]])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    trees = [tree.resolve() for tree in given.trees]
    results: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for _ in range(given.rounds):
        for tree in trees:
            environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
            done = subprocess.run([sys.executable, __file__, "--measure"], env=environment, stdout=subprocess.PIPE, check=True)
            results[tree].append(json.loads(done.stdout.splitlines()[-1]))
    for name in results[trees[0]][0]:
        best = [min(result[name] for result in results[tree]) for tree in trees]
        ratio = f" | {best[-1] / best[0]:.3f}" if len(best) > 1 and best[0] else ""
        print(f"| {name} | " + " | ".join(f"{value:,.4g}" for value in best) + f"{ratio} |")


class Client:
    """One request for a stream. ``first`` is done with the first bytes of its body."""

    def __init__(self, application: Any, number: int, path: str, cookie: str = "", method: str = "GET") -> None:
        self.first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.taken = 0
        self.waiting: Callable[[int], object] = lambda size: None
        self._began = time.perf_counter()
        self._left = asyncio.Event()
        self._asked = False
        headers = [(b"host", b"testserver"), (b"accept", b"text/event-stream"), (b"user-agent", b"Mozilla/5.0 Firefox/120.0")]
        if cookie:
            headers += [(b"cookie", f"{COOKIE}={cookie}".encode()), (b"sec-fetch-site", b"same-origin")]
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
            "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
            "client": (f"8.{number // 250 % 250}.8.{number % 250}", 40_000), "server": ("testserver", 80),
        }  # fmt: skip
        self.task = asyncio.create_task(application(scope, self._receive, self._send))
        self.task.add_done_callback(self._over)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body" and (body := message.get("body")):
            self.taken += len(body)
            if not self.first.done():
                self.first.set_result(time.perf_counter() - self._began)
            self.waiting(len(body))

    def _over(self, task: asyncio.Task[None]) -> None:
        if not self.first.done():
            self.first.set_exception(task.exception() or RuntimeError("there is no stream"))

    async def leave(self) -> None:
        self._left.set()
        await self.task


def measure() -> None:
    import django
    from django.conf import settings

    from django_agent_sse.conf import DEFAULTS

    high = dict.fromkeys(("USER", "SESSION", "ADDRESS", "ROUTE", "PROCESS", "CONNECTS", "ADDRESS_CONNECTS"), 1_000_000)
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="urlconf",
        MIDDLEWARE=MIDDLEWARE,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django_agent_sse",
            "django_agent_sse.contrib.monitor",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:trust?mode=memory&cache=shared"}},
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        LOGGING_CONFIG=None,
        AGENT_SSE={
            "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"},
            **({"LIMITS": high} if "LIMITS" in DEFAULTS else {}),
        },
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(json.dumps(asyncio.run(measured())))


def signed_in() -> str:
    """Return the key of a session of a user."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.cache import SessionStore

    user = User.objects.create(username="somebody", password="!")
    session = SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


async def timed(count: int, body: Callable[[], Awaitable[object]]) -> float:
    """Return the microseconds of the processor that each of so many took."""
    gc.collect()
    began = time.process_time()
    await body()
    return (time.process_time() - began) / count * 1e6


async def calls(count: int, body: Callable[[], Awaitable[object]]) -> float:
    """Return how many functions were called on the event loop's thread for each of so many: the same on any machine."""
    profile = cProfile.Profile()
    with profile:
        await body()
    return sum(entry.callcount for entry in profile.getstats()) / count


async def measured() -> dict[str, float]:
    from asgiref.sync import sync_to_async
    from django.core.handlers.asgi import ASGIHandler
    from django.http import HttpRequest, HttpResponse
    from django.test import override_settings
    from django.urls import path as url_path
    from django.views.decorators.csrf import csrf_exempt

    from django_agent_sse import Context, Router, Stream, apublish, login_required, publish
    from django_agent_sse.asgi import wrap

    router = Router()

    @router.sse("follow/")
    async def follow(c: Context, stream: Stream) -> None:
        await stream.write("hi")
        await stream.follow("news", start="live")

    @router.sse("mine/", guards=[login_required])
    async def mine(c: Context, stream: Stream) -> None:
        await stream.write("hi")
        await stream.follow("news", start="live")

    @router.sse("deltas/")
    async def deltas(c: Context, stream: Stream) -> None:
        for number in range(DELTAS):
            await stream.write_sse(f'{{"n": {number}}}', event="delta")

    @csrf_exempt
    async def publishes_one(request: HttpRequest) -> HttpResponse:
        await apublish("nobody", "as a client sends it")
        return HttpResponse("published")

    urlconf = sys.modules["urlconf"] = ModuleType("urlconf")
    urlconf.urlpatterns = [*router.urls, url_path("publish/", publishes_one)]  # type: ignore[attr-defined]
    found: dict[str, float] = {}
    cookie = await sync_to_async(signed_in)()
    application = wrap(ASGIHandler())

    async def connects(application: Any, path: str, cookie: str = "") -> Callable[[], Awaitable[None]]:
        async def body() -> None:
            for number in range(CONNECTS):
                client = Client(application, number, path, cookie)
                latencies.append(await client.first)
                await client.leave()

        return body

    async def posts() -> None:
        for number in range(CONNECTS):
            await Client(application, number, "/publish/", method="POST").task

    for name, middleware in (("default middleware", MIDDLEWARE), ("no middleware", [])):
        with override_settings(MIDDLEWARE=middleware):
            application = wrap(ASGIHandler())
            await posts()  # warms up
            found[f"a POST that publishes, {name}, µs"] = await timed(CONNECTS, posts)
            found[f"… its functions called, {name}"] = await calls(CONNECTS, posts)
            for who, path, own in (("anybody", "/follow/", ""), ("signed in, login_required", "/mine/", cookie)):
                if own and not middleware:
                    continue
                latencies: list[float] = []
                body = await connects(application, path, own)
                await body()  # warms up
                latencies.clear()
                found[f"a connect, {name}, {who}, µs"] = await timed(CONNECTS, body)
                found[f"… its first event, {name}, {who}, median, µs"] = sorted(latencies)[CONNECTS // 2] * 1e6
                found[f"… its functions called, {name}, {who}"] = await calls(CONNECTS, body)
    application = wrap(ASGIHandler())

    async def all_deltas() -> None:
        client = Client(application, 1, "/deltas/")
        await client.task

    await all_deltas()
    found["a delta of a handler, µs"] = min([await timed(DELTAS, all_deltas) for _ in range(3)])

    for who, path, own in (("anybody", "/follow/", ""), ("signed in", "/mine/", cookie)):
        warm = [Client(application, number, path, own) for number in range(20)]
        for client in warm:
            await client.first
        gc.collect()
        tracemalloc.start(1)
        before = tracemalloc.get_traced_memory()[0]
        clients = []
        for number in range(STREAMS):
            clients.append(Client(application, number, path, own))
            await clients[-1].first
        await asyncio.sleep(0.5)
        gc.collect()
        found[f"memory of an idle stream, {who}, KiB"] = (tracemalloc.get_traced_memory()[0] - before) / STREAMS / 1024
        tracemalloc.stop()

        async def fan_out(last: Client) -> None:
            for number in range(EVENTS):
                done = last.taken
                await apublish("news", f"event {number} of some length, as they are")
                while last.taken == done:
                    await asyncio.sleep(0)

        body = functools.partial(fan_out, clients[-1])
        await body()
        rounds = [await timed(EVENTS * (STREAMS + len(warm)), body) for _ in range(3)]
        found[f"a delivery of a topic to 1,000 streams, {who}, µs"] = min(rounds)
        for client in (*clients, *warm):
            await client.leave()

    def publishes() -> None:
        for number in range(20_000):
            publish("nobody", number)

    found["publish() with no reader, µs"] = min([await timed(20_000, lambda: asyncio.to_thread(publishes)) for _ in range(3)])
    return found


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["--measure"] else main()
