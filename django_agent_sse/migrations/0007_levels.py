"""Where the errors and the warnings of a log stand."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """A table of its own; topics that are there already are not in it."""

    dependencies = (("django_agent_sse", "0006_leases"),)

    operations = (
        migrations.CreateModel(
            name="LogMark",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("errors", models.IntegerField()),
                ("warnings", models.IntegerField()),
                ("taken", models.IntegerField()),
                ("taken_errors", models.IntegerField()),
                ("taken_warnings", models.IntegerField()),
                (
                    "topic",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="django_agent_sse.logtopic",
                    ),
                ),
            ],
            options={
                "verbose_name": "mark of a topic",
                "verbose_name_plural": "marks of topics",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("topic", "last"), name="agent_sse_mark_last")],
            },
        ),
    )
