"""The admin's page on which keys of the key-value store are looked up. It changes nothing."""

from __future__ import annotations

import pprint
import reprlib
from collections import deque
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_safe

from django_agent_sse import conf
from django_agent_sse.exceptions import KVError, KVNotEnumerable
from django_agent_sse.models import KeyValueStore
from django_agent_sse.runtime.formatting import number
from django_agent_sse.streams.kv import KV

from .pages import PageAdmin

LISTED = 200
"""Namespaces and keys that a page lists at most."""
SHOWN = 65_536
"""Characters of a value that a page shows."""
SMALL = 2_000
"""Items, at any depth, of a value that is shown whole. Of a larger one each part shows its beginning."""
WIDTH = 100

_TEXTS = (str, bytes, bytearray)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)


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
        self.check_view(request)
        asked = {name: request.GET.get(name, "") for name in ("cache", "ns", "q", "key")}
        if asked["cache"] not in caches.settings:
            asked["cache"] = conf.setting("CACHE")
        context = {
            "title": gettext("Key-value store"),
            "aliases": list(caches.settings),
            "asked": asked,
            "shown": async_to_sync(look)(KV(asked["cache"]), asked["ns"], asked["q"], asked["key"]),
            "listed": number(LISTED),
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


# Any value as text of bounded size, whatever its ``repr()`` does


def pretty(value: Any) -> tuple[str, bool]:
    """Return a value as text, and whether there is more of it than that. Raises nothing."""
    if isinstance(value, str):
        text, cut = str(value[:SHOWN]), len(value) > SHOWN
    else:
        text, cut = _text(value)
    return text[:SHOWN].encode("utf-8", "backslashreplace").decode(), cut or len(text) > SHOWN


def kind(value: Any) -> str:
    """Return the name of a value's type, and how large it is."""
    name = type(value).__qualname__
    if isinstance(value, str):
        size = ngettext("{count} character", "{count} characters", len(value))
    elif isinstance(value, _TEXTS):
        size = ngettext("{count} byte", "{count} bytes", len(value))
    elif isinstance(value, _CONTAINERS):
        size = ngettext("{count} item", "{count} items", len(value))
    else:
        return name
    return f"{name}, {size.format(count=number(len(value)))}"


def _text(value: Any) -> tuple[str, bool]:
    try:
        if _is_small(value):
            return pprint.pformat(value, width=WIDTH, sort_dicts=False), False
        return _Shortener().repr(value), True
    except Exception as error:
        return f"<{type(value).__qualname__}, whose repr() raised {type(error).__name__}>", False


def _is_small(value: Any) -> bool:
    """Whether it has few items and little text; stops counting where it has not."""
    left, waiting = SMALL, deque([value])
    while waiting and left > 0:
        item = waiting.popleft()
        if isinstance(item, _TEXTS):
            left -= 1 + len(item) // WIDTH
        elif isinstance(item, _CONTAINERS):
            left -= 1 + len(item)
            if left > 0:
                waiting.extend([*item.keys(), *item.values()] if isinstance(item, dict) else item)
        else:
            left -= 1
            if left > 0 and isinstance(inside := getattr(item, "__dict__", None), dict):
                waiting.append(inside)
    return left > 0


class _Shortener(reprlib.Repr):
    """Shows the beginnings of a large value's parts. Of a large object it shows the type: its ``repr()`` would make all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 6
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 50
        self.maxstring = self.maxother = 1_000

    def repr1(self, x: Any, level: int) -> str:
        for kind in (str, bytes, bytearray, dict, list, tuple, set, frozenset, deque):
            if isinstance(x, kind):
                return self._beginning(kind, x, level)
        return super().repr1(x, level) if _is_small(x) else f"<{type(x).__qualname__}>"

    def _beginning(self, kind: type, x: Any, level: int) -> str:
        if kind in _TEXTS:
            return super().repr1(kind(x[: self.maxstring]), level)
        shown: str = getattr(self, f"repr_{kind.__name__}")(x, level)
        return shown
