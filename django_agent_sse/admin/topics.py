"""The admin's page of topics, over any event log: what there is, how much it keeps, who reads it; and what staff may do to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, URLPattern, URLResolver, include, path, reverse
from django.views.decorators.http import require_POST, require_safe

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.outage import outage, public_words
from django_agent_sse.eventlog.records import TopicState
from django_agent_sse.eventlog.validation import valid_topic
from django_agent_sse.exceptions import AgentSSEError, EventLogError, TopicNameInvalid
from django_agent_sse.guards import permission_required
from django_agent_sse.models import LogTopic
from django_agent_sse.runtime import formatting
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.snapshot import Readers, cluster

from .access import admin_required
from .topic_actions import VERBS, Verb, do
from .topic_log import topic_log_router

LISTED = 50
"""Topics of one page."""
UNKNOWN = Readers(missing=1)
"""Where nobody asked, or nobody could."""
TEMPLATES = "admin/django_agent_sse/logtopic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A topic as a page shows it; ``readers`` is ``None`` where that is not known."""

    name: str
    key: str
    parts: list[tuple[str, str]]
    last: str
    state: TopicState
    size: str
    age: str
    quiet: str
    readers: int | None


@admin.register(LogTopic)
class TopicsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The page "Topics". For those with the permission ``django_agent_sse.view_logtopic``, whatever log keeps the topics.

    ``view_payloads`` lets them see what is in topics; ``publish_logtopic``, ``close_logtopic``, ``trim_logtopic`` and
    ``delete_logtopic`` do what they say. It is on Django's own admin site. For another:
    ``site.register(LogTopic, TopicsAdmin)``.
    """

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        guards = [admin_required(self), permission_required("django_agent_sse.view_payloads")]
        router = topic_log_router(self._topic_of_stream, guards)
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(require_safe(self.changelist_view)), name="django_agent_sse_logtopic_changelist"),
            path("<str:key>/change/", wrap(require_safe(self.topic_view)), name="django_agent_sse_logtopic_change"),
            path("<str:key>/do/<slug:verb>/", wrap(require_POST(self.verb_view)), name="django_agent_sse_logtopic_do"),
            path("<str:key>/log/", include(router.urls)),
        ]

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The page: topics that begin with a prefix."""
        self._check(request)
        asked = {name: request.GET.get(name, "").strip()[:200] for name in ("q", "after")}
        found, more, error = _listed(asked["q"], asked["after"])
        readers = _readers(asked["q"]) if found else UNKNOWN
        context = {
            "title": "Topics",
            "asked": asked,
            "found": (rows := [_row(name, state, readers) for name, state in found]),
            "unknown": _why_unknown(readers) if cluster() is not None and any(row.readers is None for row in rows) else "",
            "more": more,
            "error": error,
            "limits": _about_the_log(),
            "counts_readers": cluster() is not None,
            "live_streams": self._live_streams_page(),
            **(extra_context or {}),
        }
        return self._page(request, "change_list", context)

    # One topic

    def topic_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """The page of one topic."""
        self._check(request)
        name, state = _found(key)
        if not state.exists:
            raise Http404(f"There is no topic {name}.")
        return self._page(request, "topic", self._about(request, name, state))

    def _about(self, request: HttpRequest, name: str, state: TopicState) -> dict[str, Any]:
        return {
            "title": name,
            "topic": _row(name, state, _readers(name)),
            "counts_readers": cluster() is not None,
            "verbs": [verb for verb in VERBS.values() if self._may(request, verb) and verb.fits(state)],
            "sees": self._sees(request),
            "src": self._url("log", name),
            "key": _key_of(name),
        }

    def verb_view(self, request: HttpRequest, key: str, verb: str) -> HttpResponse:
        """Does what was asked for by POST; what cannot be undone is asked for once more before."""
        self._check(request)
        name, state = _found(key)
        asked = VERBS.get(verb)
        if asked is None or not state.exists:
            raise Http404(f"There is no {verb!r} of the topic {name}.")
        if not self._may(request, asked):
            raise PermissionDenied
        form = asked.form(request.POST)
        if not form.is_valid():
            context = {**self._about(request, name, state), "form": form, "wrong": asked.name}
            return self._page(request, "topic", context, status=400)
        if asked.warning and not request.POST.get("confirmed"):
            context = {"title": f"{asked.label}: {name}", "topic": _row(name, state, UNKNOWN), "verb": asked, "form": form}
            return self._page(request, "confirm", context)
        exists = do(request, asked, name, form.cleaned_data)
        return redirect(self._url("change", name) if exists else self._url("changelist"))

    # What all of them need

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _may(self, request: HttpRequest, verb: Verb) -> bool:
        return bool(request.user.has_perm(f"django_agent_sse.{verb.permission}"))

    def _sees(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("django_agent_sse.view_payloads"))

    async def _topic_of_stream(self, c: Context, key: str) -> str:
        return _name_of(key)

    def _url(self, what: str, name: str = "") -> str:
        args = [_key_of(name)] if name else []
        return reverse(f"admin:django_agent_sse_logtopic_{what}", args=args, current_app=self.admin_site.name)

    def _live_streams_page(self) -> str:
        """Return the address of the monitor's page, where this site has it."""
        try:
            return reverse(f"{self.admin_site.name}:agent_sse_monitor_livestreams_changelist")
        except NoReverseMatch:
            return ""

    def _page(self, request: HttpRequest, page: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        whole = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        answer = render(request, f"{TEMPLATES}/{page}.html", whole, status=status)
        answer.headers["Cache-Control"] = "no-store, private"
        return answer


def _listed(prefix: str, after: str) -> tuple[list[tuple[str, TopicState]], str, str]:
    """A page of topics, the name after which the next one begins, and why there is none."""
    log = event_log()
    try:
        names = log.topics(prefix, after=after, limit=LISTED + 1)
        found = [(name, log.state(name)) for name in names[:LISTED]]
    except EventLogError as error:
        outage.failed(error, ())
        return [], "", public_words(error)
    return [one for one in found if one[1].exists], names[LISTED - 1] if len(names) > LISTED else "", ""


def _readers(prefix: str) -> Readers:
    everywhere = cluster()
    if everywhere is None:
        return UNKNOWN
    try:
        return async_to_sync(everywhere.readers)(prefix)
    except AgentSSEError:
        return UNKNOWN


def _why_unknown(readers: Readers) -> str:
    """Why some numbers of readers are not known, and what to do."""
    if readers.missing:
        return "Readers are not known now: not every process has told its own in time. Reload the page."
    return (
        f"Each process tells the readers of its {readers.limit} most read topics; where that leaves some out, a dash stands. "
        "Browse by a longer prefix, or open the topic."
    )


def _row(name: str, state: TopicState, readers: Readers) -> Listed:
    now = datetime.now(UTC).timestamp()
    *parents, last = name.split(".")
    paths = ["".join(f"{part}." for part in parents[: depth + 1]) for depth in range(len(parents))]
    return Listed(
        name=name,
        key=_key_of(name),
        parts=[(f"{part}.", whole) for part, whole in zip(parents, paths, strict=True)],
        last=last,
        state=state,
        size=formatting.size(state.bytes),
        age=formatting.span(max(0.0, now - state.oldest_at)) if state.oldest_at is not None else "–",
        quiet=f"{formatting.span(max(0.0, now - state.newest_at))} ago" if state.newest_at is not None else "–",
        readers=readers.of(name),
    )


_FOLDERS = {"_2E": ".", "_2E_2E": ".."}
"""Topics whose names a browser would take for a folder where they stand in an address, by what stands there."""


def _key_of(name: str) -> str:
    """What stands for a topic in an address."""
    return name.replace(".", "_2E") if name in _FOLDERS.values() else quote(name)


def _name_of(key: str) -> str:
    try:
        return valid_topic(_FOLDERS.get(key) or unquote(key))
    except TopicNameInvalid as error:
        raise Http404(str(error)) from error


def _found(key: str) -> tuple[str, TopicState]:
    name = _name_of(key)
    return name, event_log().state(name)


def _about_the_log() -> dict[str, Any]:
    log = event_log()
    return {
        "name": type(log).__name__,
        "durable": log.durable,
        "shared": log.crosses_processes,
        "events": f"{log.limits.max_events:,}",
        "bytes": formatting.size(log.limits.max_bytes),
        "age": formatting.span(log.limits.max_age),
    }
