"""The permission to see the admin's page "Key-value store". Makes no table."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """What ``makemigrations`` made of ``models.KeyValueStore``."""

    initial = True

    dependencies = ()

    operations = (
        migrations.CreateModel(
            name="KeyValueStore",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
            options={
                "verbose_name": "key-value store",
                "verbose_name_plural": "key-value store",
                "managed": False,
                "default_permissions": ("view",),
                "base_manager_name": "objects",
            },
        ),
    )
