"""The monitor's pages in Django's admin. Only these need ``django.contrib.admin`` and ``django.contrib.auth``."""

from __future__ import annotations

from .live_streams import LiveStreamsAdmin

__all__ = ["LiveStreamsAdmin"]
