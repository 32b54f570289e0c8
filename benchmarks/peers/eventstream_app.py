"""Django: plain StreamingHttpResponse, django-eventstream or a channel layer.

FANOUT = queue (default) | eventstream | eventstream-redis | eventstream-db | channels | channels-redis
BARE=1 drops startproject's default middleware.
"""

import asyncio
import os
import tempfile

import django
from django.conf import settings

FANOUT = os.environ.get("FANOUT", "queue")
REDIS_PORT = int(os.environ.get("REDIS_PORT", "6379"))
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
extra = {}
if FANOUT == "eventstream-redis":
    extra["EVENTSTREAM_REDIS"] = {"host": "127.0.0.1", "port": REDIS_PORT, "db": 0}
if FANOUT == "eventstream-db":
    extra["EVENTSTREAM_STORAGE_CLASS"] = "django_eventstream.storage.DjangoModelStorage"
if FANOUT == "channels":
    extra["CHANNEL_LAYERS"] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if FANOUT == "channels-redis":
    extra["CHANNEL_LAYERS"] = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [("127.0.0.1", REDIS_PORT)]},
        }
    }
database = os.path.join(os.environ.get("WORK") or tempfile.mkdtemp(), "db.sqlite3")
settings.configure(
    SECRET_KEY="bench",
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=MIDDLEWARE,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django_eventstream",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    **extra,
)
django.setup()

from common import HEARTBEAT, Subscription, payload_json, publish, start_produce  # noqa: E402
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


def publisher(topic):
    return lambda s: publish(topic, s)


if FANOUT.startswith("eventstream"):
    from asgiref.sync import sync_to_async
    from django.core.management import call_command
    from django_eventstream import send_event
    from django_eventstream.views import events

    if FANOUT == "eventstream-db":
        call_command("migrate", verbosity=0)

    def subscribe(request, topic):
        return events(request, channels=[topic])

    @csrf_exempt
    def do_publish(request, topic):
        send_event(topic, "message", request.body.decode())
        return HttpResponse(status=204)

    def publisher(topic):
        send = sync_to_async(send_event)
        return lambda s: send(topic, "message", s)

elif FANOUT.startswith("channels"):
    from channels.layers import get_channel_layer

    layer = get_channel_layer()

    async def subscribe(request, topic):
        async def gen():
            name = await layer.new_channel()
            await layer.group_add(topic, name)
            try:
                yield ": hi\n\n"
                while True:
                    try:
                        message = await asyncio.wait_for(layer.receive(name), HEARTBEAT)
                    except TimeoutError:
                        yield ": ping\n\n"
                        continue
                    yield f"data: {message['text']}\n\n"
            finally:
                await layer.group_discard(topic, name)

        return sse(gen())

    @csrf_exempt
    async def do_publish(request, topic):
        await layer.group_send(topic, {"type": "sse.event", "text": request.body.decode()})
        return HttpResponse(status=204)

    def publisher(topic):
        return lambda s: layer.group_send(topic, {"type": "sse.event", "text": s})


@csrf_exempt
async def do_produce(request, topic):
    p = request.GET
    start_produce(publisher(topic), int(p["count"]), int(p["rate"]), int(p["size"]))
    return HttpResponse(status=204)


urlpatterns = [
    path("stream", stream),
    path("subscribe/<str:topic>", subscribe),
    path("publish/<str:topic>", do_publish),
    path("produce/<str:topic>", do_produce),
]
app = get_asgi_application()
