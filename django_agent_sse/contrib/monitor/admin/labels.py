"""What the monitor's pages call things, in the language of the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

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
    "idle": _("idle"),
    "gone": _("stopped reporting"),
}
VIEWS: Final[Mapping[str, Promise]] = {
    "streams": _("Streams"),
    "routes": _("Routes"),
    "problems": _("Errors and refusals"),
    "runs": _("Runs"),
    "processes": _("Processes"),
}
RANGES: Final[Mapping[str, Promise]] = {"": _("5 minutes"), "hour": _("1 hour")}


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: Of its cells.
        label: What stands above it.
        sort: The order that its header asks for first; empty where there is none.
        number: Its cells stand at their end.
        falls: What is shown grows where what is sorted by falls: how long something is open, by when it was opened.
    """

    name: str
    label: Promise
    sort: str = ""
    number: bool = False
    falls: bool = False


STREAMS: Final = (
    Column("route", _("Route and topics"), "route"),
    Column("user", _("User"), "user"),
    Column("open", _("Open for"), "opened", falls=True),
    Column("sent", _("Sent"), "-events", number=True),
    Column("id", _("Last id")),
    Column("lag", _("Lag"), "-lag", number=True),
    Column("client", _("Client")),
    Column("state", _("State"), "state"),
)
ROUTES: Final = (
    Column("route", _("Route"), "route"),
    Column("open", _("Open now"), "-open", number=True),
    Column("opened", _("Opened"), "-opened", number=True),
    Column("start", _("First byte"), "-start", number=True),
    Column("length", _("Open for"), "-length", number=True),
    Column("behind", _("Behind"), "-behind", number=True),
    Column("errors", _("Errors"), "-errors", number=True),
    Column("refused", _("Refused"), "-refused", number=True),
)
ORDERS: Final[tuple[tuple[str, Promise], ...]] = (
    ("-opened", _("Newest first")),
    ("opened", _("Oldest first")),
    ("-lag", _("Furthest behind first")),
    ("-buffered", _("Most bytes waiting first")),
    ("wrote", _("Longest silent first")),
    ("-events", _("Most events first")),
    ("-bytes", _("Most bytes first")),
    ("route", _("By route")),
    ("user", _("By user")),
    ("state", _("By state")),
)
TROUBLES: Final[Mapping[tuple[str, str], Promise]] = {
    ("endings", "handler_error"): _("A handler failed after its stream had begun"),
    ("endings", "slow_client"): _("A client took nothing for too long"),
    ("endings", "revoked"): _("A guard said no to an open stream"),
    ("endings", "kicked"): _("Staff closed a stream"),
    ("refused", "guard"): _("A guard said no"),
    ("refused", "origin"): _("A page of another origin sent cookies that it may not send"),
    ("refused", "overloaded"): _("The process was drained or overloaded, or the event log could not be read"),
    ("refused", "gone"): _("The client’s position is no longer kept"),
    ("refused", "not_found"): _("There was no such stream"),
    ("refused", "error"): _("A handler failed before its stream began"),
    ("refused", "closing"): _("The process was ending"),
    ("refused", "limit_user"): _("Limit: streams of one user"),
    ("refused", "limit_session"): _("Limit: streams of one session"),
    ("refused", "limit_address"): _("Limit: streams of one address"),
    ("refused", "limit_route"): _("Limit: streams of the route"),
    ("refused", "limit_process"): _("Limit: streams of the process"),
    ("refused", "limit_descriptors"): _("Limit: descriptors of the process"),
    ("refused", "limit_connects"): _("Limit: streams that begin in a second"),
    ("refused", "limit_address_connects"): _("Limit: streams of one address that begin in a second"),
    ("refused", "limit_unknown"): _("Limit: requests of one address whose user is not known yet"),
}
"""What went wrong, by how it was counted. A word that does not stand here is shown as it is."""
RUN_ENDINGS: Final[Mapping[str, Promise]] = {
    "finished": _("Finished"),
    "failed": _("Failed"),
    "stopped": _("Stopped"),
    "interrupted": _("Interrupted"),
    "lost": _("Lost"),
}
SCRIPT: Final[tuple[Message, ...]] = (
    gettext_noop("All processes"),
    gettext_noop("All routes"),
    gettext_noop("Connecting…"),
    gettext_noop("Disconnected. Trying again…"),
    gettext_noop("Live"),
    gettext_noop("Paused while hidden"),
    gettext_noop("Reconnecting…"),
    gettext_noop("Refused: {reason}. Trying again…"),
    gettext_noop("Signed out."),
    gettext_noop("This page’s stream was closed. Reload the page to open another."),
    gettext_noop("You may no longer see this page."),
    gettext_noop("no longer listed"),
    gettext_noop("{count} new"),
)
"""What the page's script says."""
