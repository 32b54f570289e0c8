"""The admin's page on which keys of the key-value store are looked up. It changes nothing."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin
from django.core.cache import caches
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from django_agent_sse import conf
from django_agent_sse.exceptions import KVError, KVNotEnumerable
from django_agent_sse.models import KeyValueStore
from django_agent_sse.streams.kv import KV

from .pages import PageAdmin
from .safe_repr import kind, pretty

LISTED = 200
"""Namespaces and keys that a page lists at most."""


@admin.register(KeyValueStore)
class KeyValueAdmin(PageAdmin):
    """Looks keys up, and changes nothing. For those with the permission ``django_agent_sse.view_keyvaluestore``.

    It is on Django's own admin site. For another: ``site.register(KeyValueStore, KeyValueAdmin)``.
    """

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(require_safe(self.changelist_view))
        return [path("", page, name="django_agent_sse_keyvaluestore_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Render the page: a cache, its namespaces, the keys of one, the value of one."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = {name: request.GET.get(name, "") for name in ("cache", "ns", "q", "key")}
        if asked["cache"] not in caches.settings:
            asked["cache"] = conf.setting("CACHE")
        context = {
            "title": "Key-value store",
            "aliases": list(caches.settings),
            "asked": asked,
            "shown": async_to_sync(look)(KV(asked["cache"]), asked["ns"], asked["q"], asked["key"]),
            "listed": LISTED,
            **(extra_context or {}),
        }
        return self.render_page(request, "change_list", context)


async def look(kv: KV, ns: str, part: str, key: str) -> dict[str, Any]:
    """Return what there is, for the page, or why it cannot be listed or read; raises nothing."""
    shown: dict[str, Any] = {}
    try:
        if ns and key:
            result = await kv.get(ns, key)
            shown["absent"] = not result.exists
            if result.exists:
                shown["value"], shown["cut"] = pretty(result.data)
                shown["kind"] = kind(result.data)
        namespaces = await kv.get_namespaces()
        shown |= {"namespaces": namespaces[:LISTED], "more_namespaces": len(namespaces) > LISTED}
        if ns:
            keys = list(await (kv.search(ns, part, limit=LISTED + 1) if part else kv.get_keys(ns, limit=LISTED + 1)))
            shown |= {"keys": keys[:LISTED], "more_keys": len(keys) > LISTED}
    except KVNotEnumerable as error:
        shown["unlisted"] = str(error)
    except KVError as error:
        shown["error"] = str(error)
    except Exception as error:  # a cache that cannot be reached, or a value that cannot be unpickled
        shown["error"] = f"{type(error).__name__}: {error}"[:500]
    return shown
