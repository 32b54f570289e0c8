"""``{% load agent_sse_admin %}``: for the package's own pages in the admin."""

from __future__ import annotations

from django import template
from django.template.context import Context
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..assets import asset
from .agent_sse import _nonce

register = template.Library()


@register.simple_tag(takes_context=True)
def admin_style(context: Context, path: str) -> SafeString:
    """Return the style sheet of all these pages and one more, with the nonce of a Content Security Policy where there is one."""
    nonce = _nonce(context)
    sheets = ((asset(name), nonce) for name in ("django_agent_sse/admin.css", path))
    return format_html_join("", '<link rel="stylesheet" href="{}"{}>', sheets)


@register.simple_tag
def asset_url(path: str) -> str:
    """Return the address of a script that another one imports."""
    return asset(path)


@register.simple_tag(takes_context=True)
def admin_script(context: Context, path: str) -> SafeString:
    """Return a script of static files, likewise."""
    return format_html('<script type="module" src="{}"{}></script>', asset(path), _nonce(context))
