"""Which topics are followed, and which were deleted: what ``DatabaseEventLog`` needs to evict none that has readers."""

from __future__ import annotations

from django.db import migrations, models

import django_agent_sse.fields


class Migration(migrations.Migration):
    """What ``makemigrations`` made of ``models.TopicNote``; a new table only."""

    dependencies = (("django_agent_sse", "0003_monitor"),)

    operations = (
        migrations.CreateModel(
            name="TopicNote",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", django_agent_sse.fields.ExactField(max_length=200)),
                ("kind", models.CharField(max_length=8)),
                ("at", models.FloatField()),
            ],
            options={
                "verbose_name": "note about a topic",
                "verbose_name_plural": "notes about topics",
                "default_permissions": (),
                "indexes": [models.Index(fields=["kind", "at"], name="agent_sse_note_at")],
                "constraints": [models.UniqueConstraint(fields=("name", "kind"), name="agent_sse_note_name")],
            },
        ),
    )
