"""The tables of ``DatabaseEventLog``."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import django_agent_sse.fields


class Migration(migrations.Migration):
    """What ``makemigrations`` made of the models; new tables only."""

    dependencies = (("django_agent_sse", "0001_initial"),)

    operations = (
        migrations.CreateModel(
            name="LogTopic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", django_agent_sse.fields.ExactField(max_length=200)),
                ("epoch", models.CharField(max_length=8)),
                ("floor", models.BigIntegerField(default=0)),
                ("top", models.BigIntegerField(default=0)),
                ("closed", models.CharField(default="", max_length=200)),
                ("total", models.BigIntegerField(default=0)),
                ("gone", models.BigIntegerField(default=0)),
                ("oldest_at", models.FloatField()),
                ("appended_at", models.FloatField()),
            ],
            options={
                "verbose_name": "topic",
                "default_permissions": ("view", "delete"),
                "constraints": [models.UniqueConstraint(fields=("name",), name="agent_sse_topic_name")],
            },
        ),
        migrations.CreateModel(
            name="LogRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("last", models.BigIntegerField()),
                ("events", models.IntegerField()),
                ("total", models.BigIntegerField()),
                ("at", models.FloatField()),
                ("payload", models.TextField()),
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
                "verbose_name": "events of a topic",
                "verbose_name_plural": "events of topics",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("topic", "last"), name="agent_sse_row_last")],
            },
        ),
        migrations.CreateModel(
            name="LogKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=32)),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("at", models.FloatField()),
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
                "verbose_name": "key of a topic",
                "verbose_name_plural": "keys of topics",
                "default_permissions": (),
                "indexes": [models.Index(fields=["topic", "at"], name="agent_sse_key_at")],
                "constraints": [models.UniqueConstraint(fields=("topic", "digest"), name="agent_sse_key_digest")],
            },
        ),
    )
