"""The admin's page on which keys of the key-value store are looked up. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin
from django.core.cache import caches
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render
from django.urls import URLPattern, path

from django_agent_sse import conf
from django_agent_sse.exceptions import KVError, KVNotEnumerable
from django_agent_sse.models import KeyValueStore
from django_agent_sse.streams.kv import KV

from .safe_repr import kind, pretty

LISTED = 200
"""Namespaces and keys that a page lists at most."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What a page shows, and what it could not find out."""

    namespaces: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    more_namespaces: bool = False
    more_keys: bool = False
    value: str | None = None
    kind: str = ""
    cut: bool = False
    absent: bool = False
    unlisted: str = ""
    error: str = ""


@admin.register(KeyValueStore)
class KeyValueAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Looks keys up, and changes nothing. For those with the permission ``django_agent_sse.view_keyvaluestore``.

    It is on Django's own admin site. For another: ``site.register(KeyValueStore, KeyValueAdmin)``.
    """

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return [path("", self.admin_site.admin_view(self.changelist_view), name="django_agent_sse_keyvaluestore_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The page: a cache, its namespaces, the keys of one, the value of one."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = {name: request.GET.get(name, "") for name in ("cache", "ns", "q", "key")}
        if asked["cache"] not in caches.settings:
            asked["cache"] = conf.setting("CACHE")
        found = async_to_sync(look)(KV(asked["cache"]), asked["ns"], asked["q"], asked["key"])
        context = {
            **self.admin_site.each_context(request),
            "title": "Key-value store",
            "opts": self.opts,
            "aliases": list(caches.settings),
            "asked": asked,
            "found": found,
            "listed": LISTED,
            **(extra_context or {}),
        }
        answer = render(request, "admin/django_agent_sse/keyvaluestore/change_list.html", context)
        answer.headers["Cache-Control"] = "no-store, private"  # values may be secrets
        return answer


async def look(kv: KV, ns: str, part: str, key: str) -> Found:
    """Look up what there is; raises nothing."""
    found = Found()
    try:
        if ns and key:
            await _look_up(kv, ns, key, found)
        await _list(kv, ns, part, found)
    except KVNotEnumerable as error:
        found.unlisted = str(error)
    except KVError as error:
        found.error = str(error)
    except Exception as error:  # a cache that cannot be reached, or a value that cannot be unpickled
        found.error = f"{type(error).__name__}: {error}"[:500]
    return found


async def _look_up(kv: KV, ns: str, key: str, found: Found) -> None:
    result = await kv.get(ns, key)
    found.absent = not result.exists
    if result.exists:
        found.value, found.cut = pretty(result.data)
        found.kind = kind(result.data)


async def _list(kv: KV, ns: str, part: str, found: Found) -> None:
    namespaces = await kv.get_namespaces()
    found.namespaces, found.more_namespaces = namespaces[:LISTED], len(namespaces) > LISTED
    if ns:
        keys = list(await (kv.search(ns, part, limit=LISTED + 1) if part else kv.get_keys(ns, limit=LISTED + 1)))
        found.keys, found.more_keys = keys[:LISTED], len(keys) > LISTED
