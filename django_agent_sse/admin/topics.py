"""The admin's page of topics, over any event log: what there is, how much it keeps, who reads it; and what staff may do to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, include, path, reverse
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_POST, require_safe

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.outage import outage, public_words
from django_agent_sse.eventlog.records import TopicState
from django_agent_sse.eventlog.validation import valid_topic
from django_agent_sse.exceptions import AgentSSEError, EventLogError, TopicNameInvalid
from django_agent_sse.guards import permission_required
from django_agent_sse.logs import log_views, part_of_log
from django_agent_sse.models import LogTopic
from django_agent_sse.routing import Router
from django_agent_sse.runs.state import RunState, run_states
from django_agent_sse.runtime import formatting
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.snapshot import Readers, cluster
from django_agent_sse.views import SSEView
from django_agent_sse.wire import Event
from django_agent_sse.wire.event import FITS
from django_agent_sse.wire.log_lines import LEVELS, RECORD, is_line
from django_agent_sse.wire.redraws import redraw_of

from .access import admin_required
from .pages import PageAdmin
from .topic_actions import ACTIONS

LISTED = 50
"""Topics of one page."""
TRAIL = 2_000
"""Characters of an address that say where the pages before began."""
UNKNOWN = Readers(missing=1)
"""Where nobody asked, or nobody could."""
NAMED = "\x1b[36m{name}\x1b[0m {data}"
"""The name in a colour of the terminal, which the viewer knows."""
RECHECK = 60.0
"""Seconds after which, at the latest, the permissions of whoever looks are checked again, whatever the project's setting is."""


@admin.register(LogTopic)
class TopicsAdmin(PageAdmin):
    """The page "Topics". For those with the permission ``django_agent_sse.view_logtopic``, whatever log keeps the topics.

    ``view_payloads`` lets them see what is in topics; ``publish_logtopic``, ``stop_logtopic``, ``close_logtopic``,
    ``trim_logtopic`` and ``delete_logtopic`` do what they say. It is on Django's own admin site. For another:
    ``site.register(LogTopic, TopicsAdmin)``.
    """

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        guards = [admin_required(self), permission_required("django_agent_sse.view_payloads")]
        router = topic_log_router(self._topic_of_stream, guards)
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(require_safe(self.changelist_view)), name="django_agent_sse_logtopic_changelist"),
            path("<str:key>/change/", wrap(require_safe(self.topic_view)), name="django_agent_sse_logtopic_change"),
            path("<str:key>/do/<slug:action>/", wrap(require_POST(self.action_view)), name="django_agent_sse_logtopic_do"),
            path("<str:key>/log/", include(router.urls)),
        ]

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Render the page: topics that begin with a prefix."""
        self.check_view(request)
        asked = {name: request.GET.get(name, "").strip()[:200] for name in ("q", "after")}
        trail = _trail(request.GET.getlist("before"))
        topics, runs, more, error = _page_of_topics(asked["q"], asked["after"])
        readers = _readers(asked["q"]) if topics else UNKNOWN
        rows = [_row(name, state, readers, runs.get(name)) for name, state in topics]
        counts_readers = cluster() is not None
        context = {
            "title": gettext("Topics"),
            "asked": asked,
            "rows": rows,
            "unknown": _why_unknown(readers) if counts_readers and any(row["readers"] is None for row in rows) else "",
            "more": _address(asked["q"], more, [*trail, asked["after"]]) if more else "",
            "previous": _address(asked["q"], trail[-1] if trail else "", trail[:-1]) if asked["after"] else "",
            "error": error,
            "limits": _about_the_log(),
            "counts_readers": counts_readers,
            "has_runs": bool(runs),
            "live_streams": self.url_of_page("agent_sse_monitor_livestreams"),
            **(extra_context or {}),
        }
        return self.render_page(request, "change_list", context)

    # One topic

    def topic_view(self, request: HttpRequest, key: str) -> HttpResponse:
        self.check_view(request)
        return self.render_page(request, "topic", self._about(request, *_topic_of(key)), parents=self._above())

    def _about(self, request: HttpRequest, name: str, state: TopicState, run: RunState | None) -> dict[str, Any]:
        fitting = [action for action in ACTIONS.values() if action.fits(state, run)]
        initial = {"run": run.id} if run is not None else {}
        actions = {
            action.name: action(auto_id=f"{action.name}-%s", initial=initial)
            for action in fitting
            if self._may(request, f"{action.name}_logtopic")
        }
        return {
            "title": name,
            "topic": _row(name, state, _readers(name), run),
            "counts_readers": cluster() is not None,
            "stop": actions.pop("stop", None),  # stands beside what is known of the run
            "actions": [*actions.values()],
            "sees": self._may(request, "view_payloads"),
            "src": self._url("log", name),
        }

    def action_view(self, request: HttpRequest, key: str, action: str) -> HttpResponse:
        """Do what was asked for by POST; ask once more for what cannot be undone."""
        self.check_view(request)
        name, state, run = _topic_of(key)
        if action not in ACTIONS:
            raise Http404(gettext("There is no action {action} for a topic.").format(action=action))
        if not self._may(request, f"{action}_logtopic"):
            raise PermissionDenied
        form = ACTIONS[action](request.POST)
        if not form.is_valid():
            about = {**self._about(request, name, state, run), "form": form}
            return self.render_page(request, "topic", about, 400, self._above())
        if form.warning and not request.POST.get("confirmed"):
            context = {"title": form.label, "topic": _row(name, state, UNKNOWN, run), "form": form}
            return self.render_page(request, "confirm", context, parents=[*self._above(), (name, self._url("change", name))])
        try:
            done = form.perform(name)
        except AgentSSEError as error:
            messages.error(request, gettext("Nothing was done: {reason}").format(reason=public_words(error)))
            return redirect(self._url("change", name))
        self.write_log_entry(request, name, name, done, DELETION if action == "delete" else CHANGE)
        # The admin capitalizes what a message begins with.
        messages.success(request, gettext("Topic {name}: {done}").format(name=name, done=done))
        return redirect(self._url("changelist") if action == "delete" else self._url("change", name))

    # What all of them need

    def _may(self, request: HttpRequest, permission: str) -> bool:
        return bool(request.user.has_perm(f"django_agent_sse.{permission}"))

    async def _topic_of_stream(self, c: Context, key: str) -> str:
        return _name_of(key)

    def _above(self) -> list[tuple[str, str]]:
        return [(gettext("Topics"), self._url("changelist"))]

    def _url(self, what: str, name: str = "") -> str:
        args = [key_of(name)] if name else []
        return reverse(f"admin:django_agent_sse_logtopic_{what}", args=args, current_app=self.admin_site.name)


def _page_of_topics(prefix: str, after: str) -> tuple[list[tuple[str, TopicState]], dict[str, RunState], str, str]:
    """Return a page of topics, their runs, the name after which the next page begins, and why there is none."""
    log = event_log()
    try:
        names = log.topics(prefix, after=after, limit=LISTED + 1)
        runs = run_states(log, names[:LISTED])  # first: one that is lost is closed by that
        states = [(name, log.state(name)) for name in names[:LISTED]]
    except EventLogError as error:
        outage.failed(error, ())
        return [], {}, "", public_words(error)
    return [pair for pair in states if pair[1].exists], runs, names[LISTED - 1] if len(names) > LISTED else "", ""


def _trail(before: Sequence[str]) -> list[str]:
    """Return after which names the pages before this one began, the nearest last; where an address has no room, the last ones."""
    names, room = list[str](), TRAIL
    for name in reversed(before):
        room -= len(name) + 1
        if room < 0:
            break
        names.insert(0, name[:200])
    return names


def _address(prefix: str, after: str, trail: Sequence[str]) -> str:
    """Return the query of a page of topics."""
    query = QueryDict(mutable=True)
    if prefix:
        query["q"] = prefix
    if after:
        query["after"] = after
        query.setlist("before", [*_trail(trail)])
    return query.urlencode()


def _readers(prefix: str) -> Readers:
    everywhere = cluster()
    if everywhere is None:
        return UNKNOWN
    try:
        return async_to_sync(everywhere.readers)(prefix)
    except AgentSSEError:
        return UNKNOWN


def _why_unknown(readers: Readers) -> str:
    if readers.missing:
        return gettext("The numbers of readers are unknown: not every process has answered in time. Reload the page.")
    return ngettext(
        "Each process reports the readers of its most read topic; a dash means that the number is unknown. "
        "Browse by a longer prefix, or open the topic.",
        "Each process reports the readers of its {count} most read topics; a dash means that the number is unknown. "
        "Browse by a longer prefix, or open the topic.",
        readers.limit,
    ).format(count=formatting.number(readers.limit))


def _row(name: str, state: TopicState, readers: Readers, run: RunState | None) -> dict[str, Any]:
    now = datetime.now(UTC).timestamp()
    *parents, last = name.split(".")
    parts = [f"{part}." for part in parents]
    oldest, newest = state.oldest_at, state.newest_at
    return {
        "name": name,
        "key": key_of(name),
        "parts": [*zip(parts, accumulate(parts), strict=True)],
        "last": last,
        "state": state,
        "size": formatting.size(state.bytes),
        "oldest": "–" if oldest is None else formatting.span(max(0.0, now - oldest)),
        "newest": "–" if newest is None else formatting.ago(max(0.0, now - newest)),
        "events": formatting.number(state.events),
        "top": formatting.number(state.top),
        "readers": None if (count := readers.of(name)) is None else formatting.number(count),
        "run": run,
        "lease": "" if run is None or run.ending is not None else formatting.span(run.left),
    }


_FOLDERS = {"_2E": ".", "_2E_2E": ".."}
"""Topics whose names a browser would take for a folder where they stand in an address, by what stands there."""


def key_of(name: str) -> str:
    """Return what stands for a topic in an address."""
    return name.replace(".", "_2E") if name in _FOLDERS.values() else quote(name)


def _name_of(key: str) -> str:
    try:
        return valid_topic(_FOLDERS.get(key) or unquote(key))
    except TopicNameInvalid as error:
        raise Http404(str(error)) from error


def _topic_of(key: str) -> tuple[str, TopicState, RunState | None]:
    name, log = _name_of(key), event_log()
    run = run_states(log, [name]).get(name)
    state = log.state(name)
    if not state.exists:
        raise Http404(gettext("There is no topic {name}.").format(name=name))
    return name, state, run


def _about_the_log() -> dict[str, Any]:
    log = event_log()
    return {
        "name": type(log).__name__,
        "durable": log.durable,
        "shared": log.crosses_processes,
        "events": ngettext("{count} event", "{count} events", log.limits.max_events).format(
            count=formatting.number(log.limits.max_events)
        ),
        "bytes": formatting.size(log.limits.max_bytes),
        "age": formatting.span(log.limits.max_age),
    }


def as_line(event: Event) -> Event:
    """Return what the viewer shows of an event."""
    if is_line(event):
        return event if event.event in ("stdout", "stderr", *LEVELS) else Event(event.data, event="stdout")
    if event.event == RECORD or redraw_of(event.event, event.data) is not None:
        return event
    data = event.data
    if len(data) > FITS // 2:  # with the name, and its colour, it might be too large for a stream
        data = f"{data[: FITS // 2]}… [cut: the event has {len(data):,} characters]"
    return Event(NAMED.format(name=event.event, data=data), event="stdout")


def topic_log_router(topic: Callable[..., Awaitable[str]], guards: Sequence[Any]) -> Router:
    """Return the viewer's three routes, below ``""``."""
    router = Router(guards=guards, recheck=RECHECK)
    for part, view in log_views(topic, as_line).items():
        name = "django_agent_sse_logtopic_log" + (f"-{part}" if part else "")
        options: dict[str, Any] = {"control_events": False} if part == "raw" else {}
        router.sse(part_of_log("", part), _for_operators(view), name=name, **options)
    return router


def _for_operators(view: Any) -> type[SSEView]:
    """Return a view that staff get also where the process has as many streams as it may have."""
    if isinstance(view, type):
        return type(view.__name__, (view,), {"for_operators": True})
    return type("log", (SSEView,), {"handle": staticmethod(view), "for_operators": True})
