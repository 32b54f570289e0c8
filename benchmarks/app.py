"""The server under test: the harness's contract, with nothing but the package's public API.

``BARE=1`` drops the default middleware, ``WRAP=1`` wraps the application in ``asgi.wrap``, ``SLIM=1`` makes streams slim, and
with ``UNLIMITED=1`` there are no limits.
Fan-out is a topic in the memory log, with ``LOG=redis`` in the Redis on ``REDIS_PORT``: ``/subscribe/TOPIC`` follows it,
``/publish/TOPIC`` appends to it.
"""

from __future__ import annotations

import asyncio
import os
import time

import django
from django.conf import settings

DEFAULT_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

LOGS = {
    "memory": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"},
    "redis": {
        "BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog",
        "OPTIONS": {"url": f"redis://127.0.0.1:{os.environ.get('REDIS_PORT', '6379')}/1"},
    },
}

COUNTED = ("USER", "SESSION", "ADDRESS", "ROUTE", "PROCESS", "CONNECTS", "ADDRESS_CONNECTS", "UNKNOWN")
LIMITS = dict.fromkeys(COUNTED, 1000000)
"""All that a limit costs, and nobody refused: the load comes from one address."""

settings.configure(
    SECRET_KEY="bench",
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[] if os.environ.get("BARE") == "1" else DEFAULT_MIDDLEWARE,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django_agent_sse",
        "django_agent_sse.contrib.monitor",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(os.environ["WORK"], "db.sqlite3")}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
    AGENT_SSE={
        "EVENT_LOG": LOGS[os.environ.get("LOG", "memory")],
        "LIMITS": None if os.environ.get("UNLIMITED") == "1" else LIMITS,
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from django_agent_sse import Context, Router, Stream, apublish, apublish_many  # noqa: E402
from django_agent_sse.asgi import wrap  # noqa: E402

router = Router(slim=os.environ.get("SLIM") == "1")
tasks: set[asyncio.Task[None]] = set()
TICK = 0.005
"""Seconds between two looks at what is due, as in every peer of the harness."""


@router.sse("stream", control_events=False)
async def stream_events(c: Context, stream: Stream) -> None:
    """``n`` events as fast as the client takes them; with ``as=dict`` each is a dict that the stream makes JSON of."""
    n, size = int(c.query.get("n", "1000")), int(c.query.get("size", "0"))
    if c.query.get("as") == "dict":
        for i in range(n):
            await stream.write_sse({"n": i}, event="tick")
        return
    for i in range(n):
        padding = f', "p": "{"x" * max(0, size - 18 - len(str(i)))}"' if size else ""
        await stream.write_sse(f'{{"n": {i}{padding}}}', event="tick")


@router.sse("subscribe/<str:topic>", control_events=False)
async def subscribe(c: Context, stream: Stream, topic: str) -> None:
    """One more subscriber, from now on, or after the id that it sent."""
    await stream.write("hi")  # the harness waits for a first block
    await stream.follow(topic, start="live")


@csrf_exempt
async def publish(request: HttpRequest, topic: str) -> HttpResponse:
    """Publish the body."""
    await apublish(topic, request.body)
    return HttpResponse(status=204)


@csrf_exempt
async def produce(request: HttpRequest, topic: str) -> HttpResponse:
    """Publish ``count`` messages at ``rate`` a second from this process, those that are due at once in one call."""
    count, rate, size = (int(request.GET[name]) for name in ("count", "rate", "size"))
    task = asyncio.create_task(_produce(topic, count, rate, size))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return HttpResponse(status=202)


async def _produce(topic: str, count: int, rate: int, size: int) -> None:
    began, sent = time.monotonic_ns(), 0
    while sent < count:
        due = min(count, int((time.monotonic_ns() - began) / 1e9 * rate) + 1)
        heads = (f"seq={i} t={began + int(i / rate * 1e9)} " for i in range(sent, due))
        await apublish_many(topic, [head + "x" * max(0, size - len(head)) for head in heads])
        sent = due
        await asyncio.sleep(TICK)


urlpatterns = [path("publish/<str:topic>", publish), path("produce/<str:topic>", produce), *router.urls]
application = get_asgi_application()
if os.environ.get("WRAP") == "1":
    application = wrap(application, match=lambda scope: True)
