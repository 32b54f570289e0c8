"""``python -m tests.monitor.alone DATABASE [APP …]``: a project with these apps besides, which serves streams for a while.

Prints as JSON what is there of the monitor: modules, threads, statements that wrote, topics, admin pages, permissions, metrics.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.db.backends.signals import connection_created

from django_agent_sse.runtime.under_test import set_under_test

PACKAGE = Path(__file__).resolve().parents[2] / "django_agent_sse"
MONITOR = "django_agent_sse.contrib.monitor"
WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM) \S+", re.IGNORECASE)
PATIENCE = 100.0
written: list[str] = []


def configure(database: str, more: list[str]) -> None:
    """Settings of a project with the admin, the package and more apps."""
    apps = ["admin", "auth", "contenttypes", "sessions", "messages"]
    settings.configure(
        SECRET_KEY="alone",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.monitor.alone_urls",
        INSTALLED_APPS=[*(f"django.contrib.{app}" for app in apps), "django_agent_sse", *more],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
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
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": database,
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
            }
        },
        STATIC_URL="/static/",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )


def _note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if found := WRITES.match(sql):
        written.append(found[0])
    return execute(sql, params, many, context)


def _watch(sender: object, *, connection: Any, **_: object) -> None:
    """Note what is written on each connection, of whichever thread."""
    connection.execute_wrappers.append(_note)


def _import_everything_else() -> None:
    """Every module of the package but the monitor's own: what a project may use without it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(MONITOR) and "channel_layer" not in name:
            import_module(name)


async def _serve_for_a_while(reports: bool) -> None:
    from django_agent_sse.testing import SSEClient
    from tests.inprocess import eventually

    async with asyncio.timeout(PATIENCE * 2), SSEClient(timeout=PATIENCE) as client:
        streams = [await client.open("/ticks/") for _ in range(3)]
        for stream in streams:
            await stream.event()
        if reports:
            await eventually("a report is written", lambda: any("logrow" in statement for statement in written), PATIENCE)
        else:
            await asyncio.sleep(1.5)  # a first report would come within a second
        for stream in streams:
            await stream.disconnect()


def main() -> None:
    """Do it."""
    database, *more = sys.argv[1:]
    configure(database, more)
    django.setup()
    call_command("migrate", verbosity=0)
    _import_everything_else()
    set_under_test(False)  # the module for tests was imported only to be imported
    connections.close_all()
    connection_created.connect(_watch)
    asyncio.run(_serve_for_a_while(MONITOR in more))
    threads = sorted({re.sub(r"[-_]?\d+$", "", thread.name) for thread in threading.enumerate()})
    writes = [*written]
    print(json.dumps({"threads": threads, "written": writes, **_what_is_there()}))


def _what_is_there() -> dict[str, Any]:
    from django.contrib import admin
    from django.contrib.auth.models import Permission, User
    from django.contrib.contenttypes.models import ContentType
    from django.test import Client

    from django_agent_sse.models import LogTopic

    boss = User.objects.create_superuser("boss")
    client = Client()
    client.force_login(boss)
    topics = client.get("/admin/django_agent_sse/logtopic/")
    metrics = client.get("/metrics/").content.decode()
    return {
        "modules": sorted(name for name in sys.modules if name.startswith(MONITOR)),
        "topics": sorted(LogTopic.objects.values_list("name", flat=True)),
        "pages": sorted(model._meta.label for model in admin.site._registry if "sse" in model._meta.app_label),
        "permissions": sorted(Permission.objects.filter(codename__contains="livestreams").values_list("codename", flat=True)),
        "types": sorted(ContentType.objects.filter(model="livestreams").values_list("app_label", flat=True)),
        "index": "livestreams" in client.get("/admin/").content.decode(),
        "topics_page": topics.status_code,
        "readers": "Readers" in topics.content.decode(),
        "link": "Live streams" in topics.content.decode(),
        "metrics": [line.partition(" ")[0] for line in metrics.splitlines() if "opened_total{" in line],
        "ready": client.get("/health/ready/").json(),
    }


if __name__ == "__main__":
    main()
