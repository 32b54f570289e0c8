"""Streams in Django's admin. Needs ``django.contrib.admin`` and ``django.contrib.auth``; nothing else of the package does."""

from __future__ import annotations

from .access import admin_required, admin_view

__all__ = ["admin_required", "admin_view"]
