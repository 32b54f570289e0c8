"""The site's addresses, and the admin with the monitor, a log, what the process holds, and a route that leaks."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from django_agent_sse import Context, Router, Stream
from django_agent_sse.contrib.monitor import cluster
from django_agent_sse.topics import feeds
from tests.site.urls import urlpatterns as site_urls

from .holding import holding

feeds.LINGER = 0.2  # a topic without readers is kept for half a minute, and a short soak cannot wait for that
cluster.LONG_BUCKET = 8.0  # the monitor's past hour grows until it is full: here it has eight minutes, and the warm-up ten
cluster.cluster_view.reset()
router = Router(app_name="soak")
router.log("log/<slug:name>/", "log.{name}")
leaked: list[object] = []


@router.sse("leaks/")
async def leaks(c: Context, stream: Stream) -> None:
    """Something of each client stays for ever."""
    leaked.append(c)
    await stream.write("hello")


urlpatterns = [
    path("_holding/", holding),
    path("admin/", admin.site.urls),
    path("soak/", include(router.urls)),
    *site_urls,
]
