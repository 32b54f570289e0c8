"""The admin's page of all open streams of all processes, live; and the pages on which staff closes some of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_safe

from django_agent_sse.admin.access import admin_required, admin_view
from django_agent_sse.admin.pages import PageAdmin
from django_agent_sse.admin.topics import key_of
from django_agent_sse.eventlog.outage import public_words
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.script_words import words_tag
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.stream import Stream
from django_agent_sse.views import SSEView

from ..cluster import cluster_view
from ..models import LiveStreams
from ..service import broadcast
from . import export, health, labels
from .close_form import ClosingForm, Target, TargetMissing
from .live_view import Viewer, address_of, query_of, users_named

FILTERS = ("text", "route", "user", "anonymous", "process", "state")
"""What the page's address has that leaves streams out."""
MAX_FILTERS = 4_000
"""Characters of the address of the page that somebody came from."""
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
    _rights: tuple[bool, ...] | None = None

    async def authorize(self, c: Context) -> bool:
        """Let nobody go on with more, or less, than their page was made for: it comes back, and is made anew."""
        viewer = await sync_to_async(self.model_admin.viewer)(c.request)
        rights = (viewer.sees_payloads, viewer.sees_topics, viewer.closes)
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

    ``agent_sse_monitor.close_livestreams`` lets them close streams and drain processes, ``agent_sse_monitor.export_livestreams``
    take what is shown away as a file, ``django_agent_sse.view_payloads`` see ids that handlers wrote. It is on Django's own admin
    site. For another: ``site.register(LiveStreams, LiveStreamsAdmin)``.
    """

    def has_close_permission(self, request: HttpRequest) -> bool:
        """Whether this user may close streams and drain processes."""
        return bool(request.user.has_perm("agent_sse_monitor.close_livestreams"))

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Whether this user may take what the page shows away as a file."""
        return bool(request.user.has_perm("agent_sse_monitor.export_livestreams"))

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whether this user may see ids that handlers wrote."""
        return bool(request.user.has_perm("django_agent_sse.view_payloads"))

    def has_topic_permission(self, request: HttpRequest) -> bool:
        """Whether this user may see topics by their whole names: those of runs have ids in them."""
        return bool(request.user.has_perm("django_agent_sse.view_logtopic"))

    def get_urls(self) -> list[URLPattern]:
        guards = [admin_required(self)]
        events = LiveEvents.as_view(model_admin=self, guards=guards, recheck=RECHECK, heartbeat=15, retry=2000)
        page: Any = admin_view(self.admin_site, require_safe(self._page))
        export: Any = admin_view(self.admin_site, require_safe(self._export))
        close = self.admin_site.admin_view(require_http_methods(["GET", "HEAD", "POST"])(self.close_view))
        return [
            path("", page, name="agent_sse_monitor_livestreams_changelist"),
            path("events/", events, name="agent_sse_monitor_livestreams_events"),
            path("export/", export, name="agent_sse_monitor_livestreams_export"),
            path("close/", close, name="agent_sse_monitor_livestreams_close"),
        ]

    # The page

    async def _page(self, request: HttpRequest) -> HttpResponseBase:
        viewer = await sync_to_async(self.viewer)(request)
        if viewer.asks is not None:
            with contextlib.suppress(AgentSSEError):  # the page says who has not answered, and what it cannot read
                await cluster_view.answers(viewer.asks, FIRST_TIMEOUT, RETRY_INTERVAL)
        return await sync_to_async(self._render)(request, viewer, await viewer.look(request))

    def viewer(self, request: HttpRequest) -> Viewer:
        """Return who looks, and at what; blocks.

        Raises:
            PermissionDenied: They may not.
        """
        self.check_view(request)
        view, order = request.GET.get("view", ""), request.GET.get("order", "route")
        sees_topics = self.has_topic_permission(request)
        return Viewer(
            query=query_of(request.GET, whole=sees_topics, users=users_named),
            user=str(request.user.pk),
            sees_payloads=self.has_payload_permission(request),
            closes=self.has_close_permission(request),
            view=view if view in labels.VIEWS else "streams",
            hour=request.GET.get("range") == "hour",
            order=order if order.removeprefix("-") in {column.sort.lstrip("-") for column in labels.ROUTES} else "route",
            topic_page=self._topic_page(request),
            sees_topics=sees_topics,
        )

    def _topic_page(self, request: HttpRequest) -> Callable[[str], str]:
        """Return what gives the address of a topic's page; nothing where this user may not see it, or there is none."""
        pages = self.url_of_page("django_agent_sse_logtopic")
        if not pages or not request.user.has_perm("django_agent_sse.view_logtopic"):
            return lambda topic: ""
        return lambda topic: f"{pages}{key_of(topic)}/change/"

    def _render(self, request: HttpRequest, viewer: Viewer, shown: dict[str, Any]) -> HttpResponse:
        asked = request.GET
        sort = viewer.order if viewer.view == "routes" else viewer.query.sort
        context = {
            "title": gettext("Live streams"),
            "shown": shown,
            "asked": viewer.query,
            "viewer": viewer,
            "view_template": f"admin/agent_sse_monitor/livestreams/{viewer.view}.html",
            "states": labels.STREAM_STATES.items(),
            "orders": labels.ORDERS,
            "columns": [_header(asked, column, sort, viewer.view) for column in _COLUMNS.get(viewer.view, ())],
            "views": [(view, label, address_of(asked, view=view)) for view, label in labels.VIEWS.items()],
            "ranges": [(range, label, address_of(asked, range=range)) for range, label in labels.RANGES.items()],
            "problems": address_of(asked, view="problems"),
            "words": words_tag(labels.SCRIPT),
            "empty": {},
            "topics": self.url_of_page("django_agent_sse_logtopic"),
            "login": f"{reverse('admin:login', current_app=self.admin_site.name)}?{urlencode({'next': request.get_full_path()})}",
            "closes": viewer.closes,
            "exports": self.has_export_permission(request),
            "query": address_of(asked),
            "filtered": any(asked.get(name) for name in FILTERS),
            "unfiltered": address_of(asked, **dict.fromkeys(FILTERS, "")),
            "http1": health.http1_notice(),
        }
        return self.render_page(request, "change_list", context)

    # The export

    async def _export(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with a file: ``?format=json``, or ``?format=csv&table=``; with the page's filters."""
        viewer = await sync_to_async(self._exporter)(request)
        kind, table = request.GET.get("format", "json"), request.GET.get("table", "streams")
        if kind not in ("json", "csv") or table not in export.TABLES:
            kinds, names = "json, csv", ", ".join(export.TABLES)
            return HttpResponseBadRequest(
                gettext("format is one of {kinds}, and table one of {names}.").format(kinds=kinds, names=names),
                content_type="text/plain; charset=utf-8",
            )
        try:
            document = await export.document(viewer)
        except AgentSSEError as error:
            reason = gettext("The processes cannot be asked now: {reason}").format(reason=public_words(error))
            return HttpResponse(reason, status=503, content_type="text/plain; charset=utf-8")
        done = gettext("Exported the live streams as {kind}.").format(kind=kind.upper() if kind == "json" else f"CSV ({table})")
        await sync_to_async(self.write_log_entry)(request, "export", done, done)
        return await sync_to_async(export.answer)(request, document, kind, table)

    def _exporter(self, request: HttpRequest) -> Viewer:
        viewer = self.viewer(request)
        if not self.has_export_permission(request):
            raise PermissionDenied
        return viewer

    # Closing

    def close_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what exactly to close, and close it when that is confirmed by POST."""
        if not (self.has_view_permission(request) and self.has_close_permission(request)):
            raise PermissionDenied
        data = request.POST if request.method == "POST" else None
        asked = Target.of(request.GET if data is None else data)
        filters = address_of(QueryDict((request.GET if data is None else data).get("filters", "")[:MAX_FILTERS]))
        page = self.url_of_page("agent_sse_monitor_livestreams")
        around = {"filters": filters, "page": f"{page}?{filters}" if filters else page}
        above = [(gettext("Live streams"), around["page"])]
        try:
            target = async_to_sync(asked.resolve)()
        except TargetMissing as error:
            return self.render_page(request, "close", {"title": asked.title, "nothing": str(error), **around}, 404, above)
        form = ClosingForm(target, data)
        if not form.is_valid():  # nor is one that was not sent yet
            context = {"title": target.title, "target": target, "form": form, **around}
            return self.render_page(request, "close", context, 200 if data is None else 400, above)
        command, done, entry = form.command(request.user.get_username())
        try:
            async_to_sync(broadcast)(command)
        except AgentSSEError as error:
            messages.error(request, gettext("Nothing was closed: {reason}").format(reason=public_words(error)))
        else:
            self.write_log_entry(request, command.id[:100], done, entry)
            messages.success(request, f"{done} {gettext('Every process has been told; it takes less than a second.')}")
        return HttpResponseRedirect(around["page"])


_COLUMNS = {"streams": labels.STREAMS, "routes": labels.ROUTES}


def _header(asked: QueryDict, column: labels.Column, sort: str, view: str) -> dict[str, Any]:
    """Return what stands above a column: asked once more it sorts the other way round."""
    key, by = column.sort.lstrip("-"), "order" if view == "routes" else "sort"
    sorted_by = bool(key) and sort.lstrip("-") == key
    other = key if sort.startswith("-") else f"-{key}"
    rises = sort.startswith("-") == column.falls
    return {
        "name": column.name,
        "label": column.label,
        "number": column.number,
        "sort": column.sort,
        "falls": column.falls,
        "href": address_of(asked, **{by: other if sorted_by else column.sort}) if key else "",
        "aria": ("ascending" if rises else "descending") if sorted_by else "",
    }
