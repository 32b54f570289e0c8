"""The admin's page of live streams and its permissions, with who held them before the monitor was an app. Makes no table."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

BEFORE, NOW, MODEL = "django_agent_sse", "agent_sse_monitor", "livestreams"


def take_over(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Give the content type of the model before to this app: its permissions, who has them, and the admin's log stay with it."""
    _move(apps, schema_editor, BEFORE, NOW)


def give_back(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Undo it."""
    _move(apps, schema_editor, NOW, BEFORE)


def _move(apps: Any, schema_editor: BaseDatabaseSchemaEditor, before: str, now: str) -> None:
    # Not a dependency: a project without django.contrib.contenttypes can have the monitor, and may install that one later.
    try:
        types = apps.get_model("contenttypes", "ContentType")
    except LookupError:
        return
    alias = schema_editor.connection.alias
    if not router.allow_migrate_model(alias, types):
        return
    mine = types.objects.using(alias).filter(model=MODEL)
    if not mine.filter(app_label=now).exists():
        mine.filter(app_label=before).update(app_label=now)


class Migration(migrations.Migration):
    """What ``makemigrations`` made of ``models.LiveStreams``, and the step from the model before."""

    initial = True

    # The model before must be forgotten by then, else what is stale and what is not would depend on the order.
    dependencies = (("django_agent_sse", "0005_monitor_is_an_app"),)

    operations = (
        migrations.CreateModel(
            name="LiveStreams",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
            options={
                "verbose_name": "live stream",
                "verbose_name_plural": "live streams",
                "permissions": (("close_livestreams", "Can close live streams and drain processes"),),
                "managed": False,
                "default_permissions": ("view",),
                "base_manager_name": "objects",
            },
        ),
        migrations.RunPython(take_over, give_back, elidable=False),
    )
