"""Plain Django: StreamingHttpResponse over an async generator. BARE=1 drops the default middleware."""

import asyncio
import os
import tempfile

import django
from django.conf import settings

MIDDLEWARE = (
    []
    if os.environ.get("BARE") == "1"
    else [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ]
)
database = os.path.join(os.environ.get("WORK") or tempfile.mkdtemp(), "db.sqlite3")
settings.configure(
    SECRET_KEY="bench",
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=MIDDLEWARE,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from common import HEARTBEAT, Subscription, payload_json, publish  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402


def sse(gen):
    return StreamingHttpResponse(gen, content_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def stream(request):
    n, size = int(request.GET.get("n", 1000)), int(request.GET.get("size", 0))

    async def gen():
        for i in range(n):
            yield f"event: tick\ndata: {payload_json(i, size)}\n\n"

    return sse(gen())


async def subscribe(request, topic):
    async def gen():
        with Subscription(topic) as q:
            yield ": hi\n\n"
            while True:
                try:
                    message = await asyncio.wait_for(q.get(), HEARTBEAT)
                except TimeoutError:
                    yield ": ping\n\n"
                    continue
                yield f"data: {message}\n\n"

    return sse(gen())


@csrf_exempt
async def do_publish(request, topic):
    publish(topic, request.body.decode())
    return HttpResponse(status=204)


urlpatterns = [
    path("stream", stream),
    path("subscribe/<str:topic>", subscribe),
    path("publish/<str:topic>", do_publish),
]
app = get_asgi_application()
