"""``{% load agent_sse %}``."""

from __future__ import annotations

from django import template

from ..eventlog.cursor import topic_cursor
from ..exceptions import AsyncRequired

register = template.Library()


@register.simple_tag
def sse_cursor(*topics: str) -> str:
    """``{% sse_cursor "builds.42" %}``: where these topics end now, for ``?last_event_id=`` of the stream's URL.

    Raises:
        AsyncRequired: The template is rendered on an event loop.
    """
    try:
        return topic_cursor(*topics)
    except AsyncRequired as error:
        raise AsyncRequired(
            "{% sse_cursor %} would hold up the event loop; give the template `await atopic_cursor(…)` from the view"
        ) from error
