"""The admin's page of all open streams of all processes, live; and the pages on which staff closes some of them."""

from __future__ import annotations

import contextlib
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_safe

from django_agent_sse.admin.access import admin_required, admin_view
from django_agent_sse.admin.pages import PageAdmin
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.script_words import words_tag
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.stream import Stream
from django_agent_sse.views import SSEView

from ..cluster import cluster_view
from ..models import LiveStreams
from ..service import broadcast
from . import health, labels
from .close_form import ClosingForm, Target, TargetMissing
from .live_view import Viewer, query_of

EVENT_INTERVAL = 1.0
"""Seconds between two events of the page."""
RECHECK = 60.0
"""Seconds after which, at the latest, the permissions of whoever looks are checked again, whatever the project's setting is."""
FIRST_TIMEOUT = 0.7
"""Seconds that the page waits for the other processes' rows before it is sent."""
RETRY_INTERVAL = 0.15
"""Seconds between two looks for them."""


class LiveEvents(SSEView):
    """The stream of the page: one event a second with all that changes."""

    model_admin: Any = None
    serves_drained = for_operators = True
    _rights: tuple[bool, bool] | None = None

    async def authorize(self, c: Context) -> bool:
        """Let nobody go on with more, or less, than their page was made for: it comes back, and is made anew."""
        viewer = await sync_to_async(self.model_admin.viewer)(c.request)
        rights = (viewer.sees_payloads, viewer.closes)
        self._rights = self._rights or rights
        return rights == self._rights

    async def handle(self, c: Context, stream: Stream) -> None:
        """Send what there is to see, for as long as the page is open."""
        viewer = await sync_to_async(self.model_admin.viewer)(c.request)
        while True:
            await stream.write(await viewer.look(c.request), event="monitor")
            await stream.sleep(EVENT_INTERVAL)


@admin.register(LiveStreams)
class LiveStreamsAdmin(PageAdmin):
    """The page "Live streams". For those with the permission ``agent_sse_monitor.view_livestreams``.

    ``agent_sse_monitor.close_livestreams`` lets them close streams and drain processes, ``django_agent_sse.view_payloads`` see
    ids that handlers wrote. It is on Django's own admin site. For another: ``site.register(LiveStreams, LiveStreamsAdmin)``.
    """

    def has_close_permission(self, request: HttpRequest) -> bool:
        """Whether this user may close streams and drain processes."""
        return bool(request.user.has_perm("agent_sse_monitor.close_livestreams"))

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whether this user may see ids that handlers wrote."""
        return bool(request.user.has_perm("django_agent_sse.view_payloads"))

    def get_urls(self) -> list[URLPattern]:
        guards = [admin_required(self)]
        events = LiveEvents.as_view(model_admin=self, guards=guards, recheck=RECHECK, heartbeat=15, retry=2000)
        page: Any = admin_view(self.admin_site, require_safe(self._page))
        close = self.admin_site.admin_view(require_http_methods(["GET", "HEAD", "POST"])(self.close_view))
        return [
            path("", page, name="agent_sse_monitor_livestreams_changelist"),
            path("events/", events, name="agent_sse_monitor_livestreams_events"),
            path("close/", close, name="agent_sse_monitor_livestreams_close"),
        ]

    # The page

    async def _page(self, request: HttpRequest) -> HttpResponseBase:
        viewer = await sync_to_async(self.viewer)(request)
        with contextlib.suppress(AgentSSEError):  # the page says who has not answered, and what it cannot read
            await cluster_view.answers(viewer.query, FIRST_TIMEOUT, RETRY_INTERVAL)
        return await sync_to_async(self._render)(request, viewer, await viewer.look(request))

    def viewer(self, request: HttpRequest) -> Viewer:
        """Return who looks, and at what; blocks.

        Raises:
            PermissionDenied: They may not.
        """
        self.check_view(request)
        return Viewer(
            query=query_of(request.GET),
            user=str(request.user.pk),
            sees_payloads=self.has_payload_permission(request),
            closes=self.has_close_permission(request),
        )

    def _render(self, request: HttpRequest, viewer: Viewer, shown: dict[str, Any]) -> HttpResponse:
        context = {
            "title": gettext("Live streams"),
            "shown": shown,
            "asked": viewer.query,
            "states": labels.STREAM_STATES.items(),
            "orders": labels.ORDERS,
            "words": words_tag(labels.SCRIPT),
            "empty": {},
            "topics": self.url_of_page("django_agent_sse_logtopic"),
            "closes": viewer.closes,
            "query": request.GET.urlencode(),
            "http1": health.http1_notice(),
        }
        return self.render_page(request, "change_list", context)

    # Closing

    def close_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what exactly to close, and close it when that is confirmed by POST."""
        if not (self.has_view_permission(request) and self.has_close_permission(request)):
            raise PermissionDenied
        data = request.POST if request.method == "POST" else None
        asked = Target.of(request.GET if data is None else data)
        try:
            target = async_to_sync(asked.resolve)()
        except TargetMissing as error:
            return self.render_page(request, "close", {"title": asked.title, "nothing": str(error)}, 404)
        form = ClosingForm(target, data)
        if not form.is_valid():  # nor is one that was not sent yet
            context = {"title": target.title, "target": target, "form": form}
            return self.render_page(request, "close", context, 200 if data is None else 400)
        command, done, entry = form.command(request.user.get_username())
        try:
            async_to_sync(broadcast)(command)
        except AgentSSEError as error:
            messages.error(request, gettext("Nothing was closed: {reason}").format(reason=public_words(error)))
        else:
            self.write_log_entry(request, command.id[:100], done, entry)
            messages.success(request, f"{done} {gettext('Every process has been told; it takes less than a second.')}")
        return HttpResponseRedirect(self.url_of_page("agent_sse_monitor_livestreams"))
