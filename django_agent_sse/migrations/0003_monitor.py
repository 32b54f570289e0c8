"""The admin's page of live streams, and permissions for it and for topics. Makes and changes no table."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """What ``makemigrations`` made of ``models.LiveStreams`` and the permissions of ``models.LogTopic``."""

    dependencies = (("django_agent_sse", "0002_event_log"),)

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
        migrations.AlterModelOptions(
            name="logtopic",
            options={
                "default_permissions": ("view", "delete"),
                "permissions": (
                    ("view_payloads", "Can see what is in topics, and the ids that handlers write"),
                    ("publish_logtopic", "Can publish to topics"),
                    ("close_logtopic", "Can close topics"),
                    ("trim_logtopic", "Can trim topics"),
                ),
                "verbose_name": "topic",
            },
        ),
    )
