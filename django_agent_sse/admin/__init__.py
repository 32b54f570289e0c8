"""Streams in Django's admin. Needs ``django.contrib.admin`` and ``django.contrib.auth``; nothing else of the package does."""

from __future__ import annotations

from .access import admin_required, admin_view
from .kv import KeyValueAdmin
from .live_log import LiveLogAdminMixin, LogStatus
from .topics import TopicsAdmin

__all__ = [
    "KeyValueAdmin",
    "LiveLogAdminMixin",
    "LogStatus",
    "TopicsAdmin",
    "admin_required",
    "admin_view",
]
