"""What the monitor's pages call things, in the language of the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from django_agent_sse.script_words import Message
from django_agent_sse.streams.registry import State

STREAM_STATES: Final[Mapping[str, Promise]] = {
    State.STARTING: _("starting"),
    State.LIVE: _("live"),
    State.REPLAYING: _("replaying"),
    State.SLOW: _("slow"),
    State.CLOSING: _("closing"),
    State.LINGERING: _("lingering"),
}
PROCESS_STATES: Final[Mapping[str, Promise]] = {
    "reporting": _("reporting"),
    "late": _("late"),
    "draining": _("draining"),
    "gone": _("stopped reporting"),
}
ORDERS: Final[tuple[tuple[str, Promise], ...]] = (
    ("-opened", _("Newest first")),
    ("opened", _("Oldest first")),
    ("-lag", _("Furthest behind first")),
    ("wrote", _("Longest silent first")),
    ("-events", _("Most events first")),
    ("-bytes", _("Most bytes first")),
    ("route", _("By route")),
    ("user", _("By user")),
    ("state", _("By state")),
)
SCRIPT: Final[tuple[Message, ...]] = (
    gettext_noop("All processes"),
    gettext_noop("All routes"),
    gettext_noop("Connecting…"),
    gettext_noop("Disconnected. Trying again; if you were signed out, reload the page."),
    gettext_noop("Live, {time}"),
    gettext_noop("Paused while hidden"),
    gettext_noop("Reconnecting…"),
    gettext_noop("This page’s stream was closed. Reload the page to open another."),
)
"""What the page's script says."""
