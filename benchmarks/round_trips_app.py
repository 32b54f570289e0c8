"""The server of ``round_trips.py``: a stream of a topic, and a view that publishes to it, with Django's default middleware.

``LOG`` is ``sqlite``, ``postgres`` or ``redis``, ``WHERE`` the directory, host or URL of its store.
"""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings

LOG, WHERE = os.environ["LOG"], os.environ["WHERE"]
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": f"{WHERE}/db.sqlite3" if LOG == "sqlite" else ":memory:",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"},
}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": WHERE,
    # Two workers with 64 threads each may want more connections than the 100 that PostgreSQL has.
    "OPTIONS": {"pool": {"min_size": 2, "max_size": 20}},
}
settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django_agent_sse",
    ],
    DATABASES={"default": POSTGRES if LOG == "postgres" else SQLITE},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    LOGGING_CONFIG=None,
    AGENT_SSE={
        "LIMITS": None,  # the load comes from one address
        "EVENT_LOG": {
            "BACKEND": f"django_agent_sse.eventlog.{'redis.RedisEventLog' if LOG == 'redis' else 'database.DatabaseEventLog'}",
            "OPTIONS": {"url": WHERE} if LOG == "redis" else {},
        },
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from django_agent_sse import Context, Router, Stream, apublish, asgi  # noqa: E402

router = Router()


@router.sse("follow/<str:topic>/")
async def follow(c: Context, stream: Stream, topic: str) -> None:
    await stream.follow(topic, start="live")


@csrf_exempt
async def ping(request: HttpRequest, topic: str) -> HttpResponse:
    await apublish(topic, f"pong {request.body.decode()}")
    return HttpResponse(status=204)


urlpatterns = [*router.urls, path("ping/<str:topic>/", ping)]
application = asgi.wrap(get_asgi_application())

if __name__ == "__main__":
    from django.core.management import call_command

    call_command(sys.argv[1], verbosity=0)
