"""Builds that wait, that are cancelled, and who did it."""

from __future__ import annotations

from typing import Any, ClassVar

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


def created_when_started(apps: Any, schema_editor: Any) -> None:
    apps.get_model("builds", "Build").objects.update(created_at=models.F("started_at"))


def who(related_name: str) -> models.ForeignKey[Any, Any]:
    return models.ForeignKey(
        blank=True,
        editable=False,
        null=True,
        on_delete=django.db.models.deletion.SET_NULL,
        related_name=related_name,
        to=settings.AUTH_USER_MODEL,
    )


class Migration(migrations.Migration):
    dependencies: ClassVar[list[Any]] = [
        ("builds", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar[list[Operation]] = [
        migrations.AddField("build", "started_by", who("started_builds")),
        migrations.AddField("build", "cancelled_by", who("cancelled_builds")),
        migrations.AddField("build", "created_at", models.DateTimeField(default=django.utils.timezone.now)),
        migrations.AlterField("build", "started_at", models.DateTimeField(blank=True, null=True)),
        migrations.AlterField(
            "build",
            "status",
            models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("running", "Running"),
                    ("passed", "Passed"),
                    ("failed", "Failed"),
                    ("stopped", "Stopped"),
                    ("cancelled", "Cancelled"),
                    ("lost", "Lost"),
                ],
                default="queued",
                max_length=16,
            ),
        ),
        migrations.RunPython(created_when_started, migrations.RunPython.noop),
    ]
