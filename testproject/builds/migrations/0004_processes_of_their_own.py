"""Builds run in processes of their own: how far they are, and that they are to be cancelled, is in their rows."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation


def stopped_is_cancelled(apps: Any, schema_editor: Any) -> None:
    apps.get_model("builds", "Build").objects.filter(status="stopped").update(status="cancelled")


class Migration(migrations.Migration):
    dependencies: ClassVar[list[Any]] = [("builds", "0003_api_keys")]

    operations: ClassVar[list[Operation]] = [
        migrations.AddField("build", "command", models.JSONField(blank=True, default=list, editable=False)),
        migrations.AddField("build", "cancelling", models.BooleanField(default=False, editable=False)),
        migrations.AddField("build", "fraction", models.FloatField(editable=False, null=True)),
        migrations.AddField("build", "step", models.CharField(blank=True, editable=False, max_length=255)),
        migrations.AddField("build", "usual", models.FloatField(editable=False, null=True)),
        migrations.AlterField("build", "recipe", models.CharField(blank=True, max_length=64)),
        migrations.AlterField(
            "build",
            "status",
            models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("running", "Running"),
                    ("passed", "Passed"),
                    ("failed", "Failed"),
                    ("cancelled", "Cancelled"),
                    ("lost", "Lost"),
                ],
                default="queued",
                max_length=16,
            ),
        ),
        migrations.RunPython(stopped_is_cancelled, migrations.RunPython.noop),
    ]
