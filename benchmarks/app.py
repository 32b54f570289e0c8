"""The server under test: the harness's contract, with nothing but the package's public API.

``BARE=1`` drops the default middleware, ``WRAP=1`` wraps the application in ``asgi.wrap``, ``SLIM=1`` makes streams slim.
Fan-out here is a queue per client: topics come with the event log.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict

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
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(os.environ["WORK"], "db.sqlite3")}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from django_agent_sse import Context, Router, Stream  # noqa: E402
from django_agent_sse.asgi import wrap  # noqa: E402

router = Router(slim=os.environ.get("SLIM") == "1")
subscribers: dict[str, set[Stream]] = defaultdict(set)


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


@router.sse("subscribe/<str:topic>")
async def subscribe(c: Context, stream: Stream, topic: str) -> None:
    """One more subscriber, for as long as the client stays."""
    await stream.write("hi")  # the harness waits for a first block
    subscribers[topic].add(stream)
    try:
        await stream.wait_closed()
    finally:
        subscribers[topic].discard(stream)


@csrf_exempt
async def publish(request: HttpRequest, topic: str) -> HttpResponse:
    """Write the body to every subscriber."""
    message = request.body.decode()
    for stream in subscribers[topic]:
        stream.write(message)
    await asyncio.sleep(0)
    return HttpResponse(status=204)


urlpatterns = [path("publish/<str:topic>", publish), *router.urls]
application = get_asgi_application()
if os.environ.get("WRAP") == "1":
    application = wrap(application, match=lambda scope: True)
