"""Another request, which must not wait."""

from __future__ import annotations

from django.urls import path

from .measuring import PING, ping

urlpatterns = [path(PING[1:], ping)]
