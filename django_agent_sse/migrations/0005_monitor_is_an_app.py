"""The page of live streams is now one of the app ``django_agent_sse.contrib.monitor``. Changes nothing in the database."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    """Forget ``LiveStreams``, which had no table.

    Who was granted its permissions keeps them: they pass to the app's own model when the app is installed and migrated, now or
    later. Without the app they let nobody do anything; ``manage.py remove_stale_contenttypes`` removes them.
    """

    dependencies = (("django_agent_sse", "0004_topic_notes"),)

    operations = (migrations.DeleteModel(name="LiveStreams"),)
