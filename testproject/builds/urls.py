"""The URLs of the builds."""

from __future__ import annotations

from django.urls import include, path

from . import chat, triage, views
from .streams import router

urlpatterns = [
    path("", views.index, name="index"),
    path("builds/start/", views.start, name="start-build"),
    path("builds/<int:build_id>/", views.build_page, name="build"),
    path("builds/<int:build_id>/cancel/", views.cancel, name="cancel-build"),
    path("builds/<int:build_id>/again/", views.again, name="again-build"),
    path("builds/<int:build_id>/triage/", include(triage)),
    path("chat/", include(chat)),
    path("logs/<str:name>/page/", views.other_log, name="other-log-page"),
    path("", include(router.urls)),
]
