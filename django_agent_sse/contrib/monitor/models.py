"""The model behind the admin's page of live streams."""

from __future__ import annotations

from django_agent_sse.models import AdminPage


class LiveStreams(AdminPage):
    """The page "Live streams" of the admin, and the permissions to see it and to close streams. Has no rows."""

    class Meta(AdminPage.Meta):
        permissions = (("close_livestreams", "Can close live streams and drain processes"),)
        verbose_name = "live stream"
        verbose_name_plural = "live streams"

    def __str__(self) -> str:
        return "live streams"
