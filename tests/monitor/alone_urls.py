"""The routes of ``alone``."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import include, path

from django_agent_sse import Router
from django_agent_sse.contrib.prometheus import metrics_view

router = Router()


@router.sse("ticks/")
async def ticks(c: Any, stream: Any) -> None:
    await stream.write("tick")
    await stream.wait_closed()


urlpatterns = [
    *router.urls,
    path("admin/", admin.site.urls),
    path("metrics/", metrics_view(guards=[])),
    path("health/", include("django_agent_sse.contrib.health")),
]
