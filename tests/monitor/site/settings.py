"""A site with the monitor's pages, under a strict Content Security Policy. Its files are in ``MONITOR_HOME``.

``MONITOR_UNFOLD=1`` puts Unfold around the admin, which has inline scripts of its own and so no policy.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import django

from tests.site.settings import database

HOME = Path(os.environ.get("MONITOR_HOME", "."))
WITH_UNFOLD = os.environ.get("MONITOR_UNFOLD") == "1"

SECRET_KEY = "a test site signs nothing of value"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.monitor.site.urls"
ASGI_APPLICATION = "tests.monitor.site.asgi.application"
WSGI_APPLICATION = "tests.monitor.site.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
STATIC_ROOT = str(HOME / "static")
WHITENOISE_USE_FINDERS = True
INSTALLED_APPS = [
    *(["unfold"] if WITH_UNFOLD else []),
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_agent_sse",
    "django_agent_sse.contrib.monitor",
]
POLICY = "tests.monitor.site.policy.content_security_policy"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    POLICY,
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
if WITH_UNFOLD:
    MIDDLEWARE.remove(POLICY)
elif django.VERSION >= (6, 0):
    MIDDLEWARE[MIDDLEWARE.index(POLICY)] = "django.middleware.csp.ContentSecurityPolicyMiddleware"
    PROCESSORS.append("django.template.context_processors.csp")
    SECURE_CSP = {"default-src": ["'self'"], "script-src": ["'self'"], "style-src": ["'self'"], "object-src": ["'none'"]}
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": PROCESSORS},
    }
]
DATABASES = {"default": database(os.environ.get("SITE_DATABASE", str(HOME / "db.sqlite3")))}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CHANNEL_LAYERS: dict[str, Any] = json.loads(os.environ.get("SITE_CHANNEL_LAYERS", "{}"))
LIMITS = {"LIMITS": {"ADDRESS": None, "ADDRESS_CONNECTS": None}}  # all clients of a test have one address
AGENT_SSE: dict[str, Any] = LIMITS | json.loads(os.environ.get("SITE_AGENT_SSE", "{}"))
