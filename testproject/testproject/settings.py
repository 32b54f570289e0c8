"""Settings of the test project: SQLite, the local-memory cache, and builds that need no network.

``TESTPROJECT_STATE`` names another folder for the database and the builds' working folders. ``DATABASE_URL`` names another
database, such as ``postgresql://user@host/name``, and needs dj-database-url; ``REDIS_URL`` makes Redis the cache, and needs
django-redis.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

BASE_DIR = Path(__file__).resolve().parent.parent
REPOSITORY = BASE_DIR.parent
STATE = Path(os.environ.get("TESTPROJECT_STATE") or BASE_DIR / ".builds")
STATE.mkdir(parents=True, exist_ok=True)

SECRET_KEY = "published with the source: for this project on a loopback address, and for nothing else"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "daphne",  # first: it makes runserver an ASGI server
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django_agent_sse",
    "django_agent_sse.contrib.monitor",
    "builds",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
LOGIN_URL = LOGOUT_REDIRECT_URL = "login"
LOGIN_REDIRECT_URL = "index"
ROOT_URLCONF = "testproject.urls"
ASGI_APPLICATION = "testproject.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "db.sqlite3",
        # Several processes write: each transaction waits for its turn when it begins, and readers are not in its way.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    },
}
if "DATABASE_URL" in os.environ:
    import dj_database_url

    DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}

# Topics are in the database, the default: builds run in processes of their own, and their logs stay for a year.
AGENT_SSE = {
    "EVENT_LOG": {
        "BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog",
        "OPTIONS": {"MAX_AGE": 365 * 86_400, "MAX_EVENTS": 1_000_000, "MAX_TOPICS": 100_000},
    },
}

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if "REDIS_URL" in os.environ:
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["REDIS_URL"]}}

STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "django_agent_sse": {"handlers": ["console"], "level": "INFO"},
        "builds": {"handlers": ["console"], "level": "INFO"},
    },
}

# What agents say is a run each: seconds between two words, and those after which a run is lost whose process was killed.
AGENT_PACE = 0.02
RUN_LEASE = 10.0
BUILDS_AT_ONCE = 2
BUILDS_WAITING = 20

# What a visitor can start, by name. No shell, and nothing of a request gets into an argument.
# "{workdir}" stands for a fresh folder that goes when the build is over.
TEST_PACKAGES = ["pytest", "pytest_django", "pytest_asyncio", "hypothesis", "httpx", "httpx_sse", "pyte"]
RECIPES = {
    "pipeline": {
        "label": "Compile, test, build",
        "description": "A small pipeline: byte-compile Django, test the wire format, build the wheel.",
        "argv": [sys.executable, str(BASE_DIR / "scripts" / "pipeline.py"), "{workdir}"],
        "cwd": REPOSITORY,
        "needs": ["hatchling", *TEST_PACKAGES],
    },
    "compile": {
        "label": "Byte-compile Django",
        "description": "Every module of the installed Django, into a folder that is thrown away.",
        "argv": [sys.executable, "-X", "pycache_prefix={workdir}", "-m", "compileall", "-f", "django"],
        "cwd": Path(django.__file__).parent.parent,
    },
    "wheel": {
        "label": "Build the wheel",
        "description": "This package as a wheel, offline, and what it holds.",
        "argv": [sys.executable, str(BASE_DIR / "scripts" / "build_wheel.py"), "{workdir}"],
        "cwd": REPOSITORY,
        "needs": ["hatchling"],
    },
    "tests": {
        "label": "Test the wire format",
        "description": "The encoder and the decoder of this package against their tests.",
        "argv": [sys.executable, "-m", "pytest", "tests/wire", "-v", "-m", "not browser", "-p", "no:cacheprovider"],
        "cwd": REPOSITORY,
        "needs": TEST_PACKAGES,
    },
    "shop": {
        "label": "Test a shop",
        "description": "A small program whose tests fail. Ask what went wrong.",
        "argv": [sys.executable, "-m", "pytest", "-v"],
        "cwd": BASE_DIR / "scripts" / "shop",
        "needs": ["pytest"],
    },
}
HARD_CASES = {
    "colours": ("100,000 lines in colours", "As fast as they can be read, a hundredth of them on stderr."),
    "quiet": ("A minute of silence", "Prints a line, nothing for a minute, and another line."),
    "wide": ("A line of 1 MiB", "Shown in two pieces, none of it lost."),
    "nonsense": ("No text at all", "Bytes that are no UTF-8, control characters, no last line end."),
    "deaf": ("Ignores SIGTERM", "With a child that does so too; cancel it, and both are gone two seconds later."),
}
RECIPES |= {
    name: {
        "label": label,
        "description": description,
        "argv": [sys.executable, str(BASE_DIR / "scripts" / "hard.py"), name],
        "cwd": REPOSITORY,
        "group": "Hard cases",
    }
    for name, (label, description) in HARD_CASES.items()
}
