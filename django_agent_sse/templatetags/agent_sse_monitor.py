"""``{% load agent_sse_monitor %}``: for the package's own pages in the admin."""

from __future__ import annotations

from django import template
from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def monitor_style(context: Context, *more: str) -> SafeString:
    """The style sheets of the monitor's pages, with the nonce of a Content Security Policy where there is one."""
    nonce = _nonce(context)
    sheets = ((static(f"django_agent_sse/{name}.css"), nonce) for name in ("monitor", *more))
    return format_html_join("", '<link rel="stylesheet" href="{}"{}>', sheets)


@register.simple_tag(takes_context=True)
def monitor_script(context: Context) -> SafeString:
    """The script of the page of live streams, likewise."""
    return format_html('<script type="module" src="{}"{}></script>', static("django_agent_sse/monitor.js"), _nonce(context))


@register.simple_tag
def state_word(state: str) -> str:
    """What a state is called; one that nobody knows as it is."""
    return STATES.get(state, state)


STATES = {"late": "late", "gone": "stopped reporting"}


def _nonce(context: Context) -> SafeString:
    nonce = context.get("csp_nonce")  # a lazy one of Django's is false until it is used
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    return SafeString("") if nonce is None else format_html(' nonce="{}"', str(nonce))
