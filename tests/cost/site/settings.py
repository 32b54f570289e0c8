"""``LINES_HOME`` has its files; ``LINES_LOG`` is the event log as JSON, ``LINES_DATABASE`` a PostgreSQL, if any."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.site.settings import database

SECRET_KEY = "a test site signs nothing of value"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.cost.site.urls"
ASGI_APPLICATION = "tests.cost.site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_agent_sse",
    "django_agent_sse.contrib.monitor",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": database(os.environ.get("LINES_DATABASE", str(Path(os.environ["LINES_HOME"]) / "db.sqlite3")))}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
AGENT_SSE: dict[str, Any] = {"EVENT_LOG": json.loads(os.environ["LINES_LOG"])}
