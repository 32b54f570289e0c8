"""The admin's page of all open streams of all processes, live; and the pages on which staff closes some of them."""

from __future__ import annotations

from typing import Any, cast

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import NoReverseMatch, URLPattern, path, reverse

from django_agent_sse.admin.access import admin_required, admin_view
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.registry import State
from django_agent_sse.streams.stream import Stream
from django_agent_sse.views import SSEView

from ..models import LiveStreams
from ..service import broadcast
from . import health
from .close_form import ClosingForm, NothingThere, Target, command_of
from .live_view import Viewer, query_of

EVENT_INTERVAL = 1.0
"""Seconds between two events of the page."""
MAX_DURATION = 300.0
"""Seconds after which the page's stream begins anew, and the permission is asked for again."""
FIRST_TIMEOUT = 0.7
"""Seconds that the page waits for the other processes' rows before it is sent."""
ORDERS = (
    ("-opened", "Newest first"),
    ("opened", "Oldest first"),
    ("-lag", "Furthest behind first"),
    ("wrote", "Longest silent first"),
    ("-events", "Most events first"),
    ("-bytes", "Most bytes first"),
    ("route", "By route"),
    ("user", "By user"),
    ("state", "By state"),
)
TEMPLATES = "admin/agent_sse_monitor/livestreams"


class LiveEvents(SSEView):
    """The stream of the page: one event a second with all that changes."""

    model_admin: Any = None
    serves_drained = True

    async def handle(self, c: Context, stream: Stream) -> None:
        """Send what there is to see, for as long as the page is open."""
        viewer = await sync_to_async(self.model_admin.viewer)(c.request)
        while True:
            await stream.write(await viewer.look(c.request), event="monitor")
            await stream.sleep(EVENT_INTERVAL)


@admin.register(LiveStreams)
class LiveStreamsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The page "Live streams". For those with the permission ``agent_sse_monitor.view_livestreams``.

    ``agent_sse_monitor.close_livestreams`` lets them close streams and drain processes, ``django_agent_sse.view_payloads`` see
    ids that handlers wrote. It is on Django's own admin site. For another: ``site.register(LiveStreams, LiveStreamsAdmin)``.
    """

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_close_permission(self, request: HttpRequest) -> bool:
        """Whether this user may close streams and drain processes."""
        return bool(request.user.has_perm("agent_sse_monitor.close_livestreams"))

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whether this user may see ids that handlers wrote."""
        return bool(request.user.has_perm("django_agent_sse.view_payloads"))

    def get_urls(self) -> list[URLPattern]:
        guards = [admin_required(self)]
        events = LiveEvents.as_view(model_admin=self, guards=guards, max_duration=MAX_DURATION, heartbeat=15, retry=2000)
        page: Any = admin_view(self.admin_site, self._page)
        close = self.admin_site.admin_view(self.close_view)
        return [
            path("", page, name="agent_sse_monitor_livestreams_changelist"),
            path("events/", events, name="agent_sse_monitor_livestreams_events"),
            path("close/", close, name="agent_sse_monitor_livestreams_close"),
        ]

    # The page

    async def _page(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        viewer = await sync_to_async(self.viewer)(request)
        shown = await viewer.look_first(request, FIRST_TIMEOUT)
        return await sync_to_async(self._render)(request, viewer, shown)

    def viewer(self, request: HttpRequest) -> Viewer:
        """Return who looks, and at what; blocks.

        Raises:
            PermissionDenied: They may not.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        return Viewer(
            query=query_of(request.GET),
            user=str(request.user.pk),
            sees_payloads=self.has_payload_permission(request),
            closes=self.has_close_permission(request),
        )

    def _render(self, request: HttpRequest, viewer: Viewer, shown: dict[str, Any]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Live streams",
            "opts": self.opts,
            "shown": shown,
            "asked": viewer.query,
            "states": [str(state) for state in State],
            "orders": ORDERS,
            "empty": {},
            "topics": self._topics_page(),
            "closes": viewer.closes,
            "query": request.GET.urlencode(),
            "http1": health.HTTP1,
        }
        answer = render(request, f"{TEMPLATES}/change_list.html", context)
        answer.headers["Cache-Control"] = "no-store, private"
        return answer

    def _topics_page(self) -> str:
        """Return the address of the page of topics, where this site has it."""
        try:
            return reverse(f"{self.admin_site.name}:django_agent_sse_logtopic_changelist")
        except NoReverseMatch:
            return ""

    # Closing

    def close_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what exactly to close, and close it when that is confirmed by POST."""
        if not (self.has_view_permission(request) and self.has_close_permission(request)):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        asked = Target.of(request.POST if request.method == "POST" else request.GET)
        try:
            target = async_to_sync(asked.found)()
        except NothingThere as error:
            return self._close_page(request, {"title": asked.title, "nothing": str(error)}, 404)
        form = ClosingForm(target, request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            return self._close(request, target, form)
        context = {"title": target.title, "target": target, "carried": target.carried, "button": target.button, "form": form}
        return self._close_page(request, context, 400 if form.is_bound else 200)

    def _close_page(self, request: HttpRequest, context: dict[str, Any], status: int) -> HttpResponse:
        whole = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        answer = render(request, f"{TEMPLATES}/close.html", whole, status=status)
        answer.headers["Cache-Control"] = "no-store, private"
        return answer

    def _close(self, request: HttpRequest, target: Target, form: ClosingForm) -> HttpResponse:
        command, summary = command_of(target, form, request.user.get_username())
        try:
            async_to_sync(broadcast)(command)
        except AgentSSEError as error:
            messages.error(request, f"Nothing was closed: {public_words(error)}")
        else:
            LogEntry.objects.create(
                user_id=cast(int, request.user.pk),
                content_type_id=ContentType.objects.get_for_model(LiveStreams, for_concrete_model=False).pk,
                object_id=command.id[:100],
                object_repr=summary[:200],
                action_flag=CHANGE,
                change_message=form.audit(summary),
            )
            messages.success(request, f"{summary} Every process has been told; it takes less than a second.")
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:agent_sse_monitor_livestreams_changelist"))
