"""The pages and the streams of the builds."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("", include("builds.urls"))]
