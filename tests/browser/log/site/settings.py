"""A small site with logs to look at, under a strict Content Security Policy. Its files are in ``LOGSITE_HOME``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

HOME = Path(os.environ.get("LOGSITE_HOME", "."))
WITH_UNFOLD = os.environ.get("LOGSITE_UNFOLD") == "1"

SECRET_KEY = "a test site signs nothing of value"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = os.environ.get("LOGSITE_USE_TZ") != "0"
TIME_ZONE = "Europe/Berlin" if USE_TZ else "Etc/GMT-1"  # where no hour comes twice
ROOT_URLCONF = "tests.browser.log.site.urls"
ASGI_APPLICATION = "tests.browser.log.site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
STATIC_ROOT = str(HOME / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
INSTALLED_APPS = [
    *(["unfold"] if WITH_UNFOLD else []),
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_agent_sse",
    "tests.browser.log.site",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "tests.browser.log.site.policy.content_security_policy",
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
if django.VERSION >= (6, 0) and not WITH_UNFOLD:
    MIDDLEWARE[2] = "django.middleware.csp.ContentSecurityPolicyMiddleware"
    PROCESSORS.append("django.template.context_processors.csp")
    SECURE_CSP = {
        "default-src": ["'self'"],
        "script-src": [*(["'self'"] if django.VERSION < (6, 1) else []), "<CSP_NONCE_SENTINEL>"],  # 6.0's admin has no nonces
        "style-src": ["<CSP_NONCE_SENTINEL>", "'self'"],
        "worker-src": ["'self'"],
    }
if WITH_UNFOLD:  # which has inline scripts and styles of its own
    del MIDDLEWARE[2]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": PROCESSORS},
    }
]
DATA_UPLOAD_MAX_MEMORY_SIZE = None  # tests publish long lines
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(HOME / "db.sqlite3"), "OPTIONS": {"timeout": 20}}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AGENT_SSE: dict[str, Any] = {
    "EVENT_LOG": {
        "BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog",  # the default
        "OPTIONS": {
            "MAX_EVENTS": int(os.environ.get("LOGSITE_EVENTS", 200_000)),
            "MAX_BYTES": int(os.environ.get("LOGSITE_BYTES", 80 * 1024 * 1024)),
            "MAX_EVENT_BYTES": 8 * 1024 * 1024,
        },
    },
    "RETRY": 500,
}
