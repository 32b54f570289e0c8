from __future__ import annotations

from typing import ClassVar

import django.utils.timezone
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name="Build",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("recipe", models.CharField(max_length=64)),
                (
                    "status",
                    models.CharField(
                        choices=[("running", "Running"), ("passed", "Passed"), ("failed", "Failed"), ("stopped", "Stopped")],
                        default="running",
                        max_length=16,
                    ),
                ),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "exit_code",
                    models.IntegerField(blank=True, help_text="Negative: the signal that ended the process.", null=True),
                ),
                ("lines", models.PositiveIntegerField(default=0)),
            ],
            options={"ordering": ["-pk"]},
        ),
    ]
