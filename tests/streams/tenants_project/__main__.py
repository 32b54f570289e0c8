"""``python -m tests.streams.tenants_project HOST WAY WRAP SECONDS``: prints what was read, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import django
from django.conf import settings

host, way, wrapped, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
TENANTS = 8


def on_connection(connection: Any, c: Any) -> None:
    """``ON_CONNECTION``, as the documentation has it."""
    connection.set_tenant(c.request.tenant)


settings.configure(
    SECRET_KEY="a test project signs nothing",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {"ENGINE": "django_tenants.postgresql_backend", "NAME": "tenants", "USER": "postgres", "HOST": host},
    },
    DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
    INSTALLED_APPS=["django_tenants", "tests.streams.tenants_project.customers", "django.contrib.contenttypes"],
    SHARED_APPS=["django_tenants", "tests.streams.tenants_project.customers", "django.contrib.contenttypes"],
    TENANT_APPS=["django.contrib.contenttypes"],
    TENANT_MODEL="customers.Client",
    TENANT_DOMAIN_MODEL="customers.Domain",
    MIDDLEWARE=["django_tenants.middleware.main.TenantMainMiddleware"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    AGENT_SSE={
        "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"},
        **({"ON_CONNECTION": on_connection} if way == "on_connection" else {}),
    },
)
django.setup()

import psycopg  # noqa: E402
from asgiref.sync import sync_to_async  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.db import connection  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_tenants.utils import schema_context  # noqa: E402

from django_agent_sse import Context, Router, Stream  # noqa: E402
from django_agent_sse.asgi import wrap  # noqa: E402
from django_agent_sse.runtime.under_test import set_under_test  # noqa: E402
from tests.inprocess import Site  # noqa: E402
from tests.streams.tenants_project.customers.models import Client, Domain  # noqa: E402

set_under_test(False)  # threads keep their connections, as on a server
router = Router()


def reading() -> list[str]:
    """The tenant by the wrapper, by the table that a query reaches, and by that of another schema asked for by name."""
    before = connection.schema_name
    with schema_context("tenant_0"), connection.cursor() as cursor:
        cursor.execute("SELECT name FROM whose")
        other = cursor.fetchone()[0]
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM whose")
        return [before, cursor.fetchone()[0], other]


@router.sse("read/", pinned=way == "pinned")
async def read(c: Context, stream: Stream) -> None:
    """Read again and again."""
    await stream.open()
    while True:
        await stream.write(await sync_to_async(reading)())
        await asyncio.sleep(0.07 if stream.last_event_id else 0.01)


urlpatterns = [path("", include(router.urls))]


def prepare() -> None:
    """The database, the tenants, and a table in each schema."""
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS tenants WITH (FORCE)")
        server.execute("CREATE DATABASE tenants")
    with connection.schema_editor() as editor:
        for model in (Client, Domain):
            editor.create_model(model)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE whose AS SELECT 'public' AS name")
        for number in range(TENANTS):
            name = f"tenant_{number}"
            client = Client.objects.create(schema_name=name, name=name)
            Domain.objects.create(domain=f"t{number}.example.com", tenant=client)
            cursor.execute(f"CREATE SCHEMA {name}")
            cursor.execute(f"CREATE TABLE {name}.whose AS SELECT '{name}' AS name")
    connection.close()


async def main() -> dict[str, Any]:
    """Four clients of each tenant read for a while, come and go."""
    application = wrap(ASGIHandler()) if wrapped else ASGIHandler()
    site = Site(application)
    until = time.monotonic() + seconds
    readings: dict[str, int] = {}
    wrong: list[Any] = []

    async def one(name: str, count: int) -> None:
        host_name = name.replace("enant_", "") + ".example.com"
        mine = ["public", "public"] if way == "nothing" else [name, name]
        while True:
            client = site.connect("/read/", headers={"host": host_name})
            for _ in range(count):
                found = json.loads((await client.event()).data or "")
                readings[name] = readings.get(name, 0) + 1
                if found != [*mine, "tenant_0"]:
                    wrong.append([name, found])
            client.leave()
            await client.over()
            if time.monotonic() >= until:
                return

    await asyncio.gather(*(one(f"tenant_{number}", count) for number in range(TENANTS) for count in (1, 3, 10, 30)))
    return {"tenants": len(readings), "readings": sum(readings.values()), "wrong": wrong[:10]}


prepare()
print(json.dumps(asyncio.run(main())))
