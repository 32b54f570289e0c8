"""The permission to export live streams."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    """What ``makemigrations`` made of ``models.LiveStreams``."""

    dependencies = (("agent_sse_monitor", "0001_initial"),)

    operations = (
        migrations.AlterModelOptions(
            name="livestreams",
            options={
                "base_manager_name": "objects",
                "default_permissions": ("view",),
                "managed": False,
                "permissions": (
                    ("close_livestreams", "Can close live streams and drain processes"),
                    ("export_livestreams", "Can export live streams to a file"),
                ),
                "verbose_name": "live stream",
                "verbose_name_plural": "live streams",
            },
        ),
    )
