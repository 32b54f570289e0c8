"""Leases of topics, pointers to them, and who may stop runs."""

from __future__ import annotations

from django.db import migrations, models

import django_agent_sse.fields


class Migration(migrations.Migration):
    """What ``makemigrations`` made of ``models.TopicLease`` and ``models.TopicPointer``: new tables only; and a permission."""

    dependencies = (("django_agent_sse", "0005_monitor_is_an_app"),)

    operations = (
        migrations.CreateModel(
            name="TopicLease",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", django_agent_sse.fields.ExactField(max_length=200)),
                ("holder", django_agent_sse.fields.ExactField(max_length=200)),
                ("deadline", models.FloatField()),
                ("stop", models.BooleanField(default=False)),
                ("last", models.TextField()),
            ],
            options={
                "verbose_name": "lease of a topic",
                "verbose_name_plural": "leases of topics",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("name",), name="agent_sse_lease_name")],
            },
        ),
        migrations.CreateModel(
            name="TopicPointer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", django_agent_sse.fields.ExactField(max_length=200)),
                ("topic", django_agent_sse.fields.ExactField(max_length=200)),
                ("at", models.FloatField()),
            ],
            options={
                "verbose_name": "pointer to a topic",
                "verbose_name_plural": "pointers to topics",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("name",), name="agent_sse_pointer_name")],
                "indexes": [models.Index(fields=["at"], name="agent_sse_pointer_at")],
            },
        ),
        migrations.AlterModelOptions(
            name="logtopic",
            options={
                "default_permissions": ("view", "delete"),
                "permissions": (
                    ("view_payloads", "Can see what is in topics, and the ids that handlers write"),
                    ("publish_logtopic", "Can publish to topics"),
                    ("stop_logtopic", "Can stop the runs that write topics"),
                    ("close_logtopic", "Can close topics"),
                    ("trim_logtopic", "Can trim topics"),
                ),
                "verbose_name": "topic",
                "verbose_name_plural": "topics",
            },
        ),
    )
