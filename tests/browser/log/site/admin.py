"""An admin with logs: groups stand for builds, so that the site needs no model of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from django_agent_sse import aclose_topic, apublish
from django_agent_sse.admin import LiveLogAdminMixin, LogStatus

if settings.WITH_UNFOLD:
    from unfold.admin import ModelAdmin
else:
    from django.contrib.admin import ModelAdmin  # type: ignore[assignment]

admin.site.unregister(Group)


@admin.register(Group)
class BuildAdmin(LiveLogAdminMixin, ModelAdmin):  # type: ignore[misc, type-arg]
    """The viewer in three lines, and three buttons."""

    log_topic = "builds.{pk}"
    log_label = "Log of the build"
    log_actions = {"start": "new", "cancel": "running", "run_again": "ended"}  # noqa: RUF012
    fields = ("name",)

    def get_log_status(self, build: Group) -> LogStatus:
        """Where the site knows no zones, every build began a minute ago."""
        return LogStatus() if settings.USE_TZ else LogStatus(started=datetime.now() - timedelta(minutes=1))

    async def start(self, request: HttpRequest, build: Group) -> None:
        await apublish(f"builds.{build.pk}", "started", event="stdout")

    @admin.action(description="Cancel", permissions=["delete"])
    async def cancel(self, request: HttpRequest, build: Group) -> str:
        await aclose_topic(f"builds.{build.pk}", "cancelled")
        return "It is cancelled."

    def run_again(self, request: HttpRequest, build: Group) -> Any:
        return Group.objects.create(name=f"{build.name} again")
