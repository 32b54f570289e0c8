"""The model behind the admin's page of live streams."""

from __future__ import annotations

from django.apps import apps
from django.utils.translation import gettext_lazy as _

from django_agent_sse.exceptions import ConfigurationError
from django_agent_sse.models import AdminPage

# Else Django would take the model for one of the app "django_agent_sse", whose package this one stands in.
if not apps.is_installed(__name__.rpartition(".")[0]):
    raise ConfigurationError(
        "the monitor is used and is not installed: add 'django_agent_sse.contrib.monitor' to INSTALLED_APPS, and run "
        "`manage.py migrate`"
    )


class LiveStreams(AdminPage):
    """The page "Live streams" of the admin, and the permissions to see it and to close streams. Has no rows."""

    class Meta(AdminPage.Meta):
        permissions = (
            ("close_livestreams", "Can close live streams and drain processes"),
            ("export_livestreams", "Can export live streams to a file"),
        )
        verbose_name = _("live stream")
        verbose_name_plural = _("live streams")
