"""Settings of the small site that the tests run: in process by pytest-django, and as a server by ``tests/live``.

What a live test varies comes from the environment, set by ``tests.live.servers``:

``SITE_DATABASE``
    A path of an SQLite file, or a ``postgresql://`` URL.
``SITE_MIDDLEWARE``
    A key of ``MIDDLEWARE_SETS``.
``SITE_AGENT_SSE``
    JSON, merged into ``AGENT_SSE``.
``SITE_CHANNEL_LAYERS``
    JSON, for ``CHANNEL_LAYERS``.
``SITE_CACHE``
    A folder, for a cache that processes share.
``SITE_URLCONF``
    A module of addresses.
``SITE_DEBUG``
    ``1`` for ``DEBUG = True``.

``SITE_JOURNAL`` is read by ``journal.py``, ``SITE_WRAPPER`` by ``asgi.py``, and ``SITE_QUIET_SECONDS``, ``SITE_PATIENCE``,
``SITE_ENDING``, ``SITE_GRACE_LEFT``, ``SITE_STALL`` and ``SITE_COLLECT`` (0: no garbage collector) by ``apps.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent

SECURITY = "django.middleware.security.SecurityMiddleware"
WHITENOISE = "whitenoise.middleware.WhiteNoiseMiddleware"
STAMP = "tests.site.middleware.sync_stamp"
STARTPROJECT = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

MIDDLEWARE_SETS = {
    "none": [],
    "default": [SECURITY, *STARTPROJECT],
    "whitenoise": [SECURITY, WHITENOISE, *STARTPROJECT, STAMP],
    "wrapping": [SECURITY, *STARTPROJECT, "tests.site.middleware.wrap_content"],
    "slow": [SECURITY, *STARTPROJECT, "tests.site.middleware.SlowWayOut"],
    "cors": ["tests.site.middleware.cors", SECURITY, *STARTPROJECT],
    "everything": [
        SECURITY,
        WHITENOISE,
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        *STARTPROJECT,
        "django.middleware.locale.LocaleMiddleware",
        STAMP,
    ],
}


def database(location: str) -> dict[str, Any]:
    """Return the ``DATABASES`` entry of an SQLite path or a PostgreSQL URL, whose ``host`` query may be a socket's directory."""
    if "://" not in location:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": location, "OPTIONS": {"timeout": 20}}
    url = urlsplit(location)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.lstrip("/"),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": dict(parse_qsl(url.query)).get("host") or url.hostname or "",
        "PORT": str(url.port or ""),
    }


SECRET_KEY = "a test site signs nothing of value"
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = os.environ.get("SITE_URLCONF", "tests.site.urls")
ASGI_APPLICATION = "tests.site.asgi.application"
STATIC_URL = "static/"
STATIC_ROOT = str(BASE_DIR / "static")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOCALE_PATHS: list[str] = []

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_agent_sse",
    "django_agent_sse.contrib.monitor",
    "tests.site",
]
MIDDLEWARE = MIDDLEWARE_SETS[os.environ.get("SITE_MIDDLEWARE", "default")]
TEMPLATES = [
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
DATABASES = {"default": database(os.environ.get("SITE_DATABASE", str(BASE_DIR / "db.sqlite3")))}
CACHES: dict[str, Any] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if folder := os.environ.get("SITE_CACHE"):
    CACHES["default"] = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": folder}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AGENT_SSE: dict[str, Any] = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"},
    "LIMITS": {"ADDRESS_CONNECTS": None},  # every test has the same address
} | json.loads(os.environ.get("SITE_AGENT_SSE", "{}"))
CHANNEL_LAYERS: dict[str, Any] = json.loads(os.environ.get("SITE_CHANNEL_LAYERS", "{}"))
