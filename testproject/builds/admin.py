"""Builds in the admin: started, cancelled, and watched while they run."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import URLPattern, URLResolver, include, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_agent_sse import Context, Router
from django_agent_sse.admin import LiveLogAdminMixin, LogStatus, admin_required

from . import overview, runs, triage
from .log import topic_of
from .models import ApiKey, Build
from .recipes import grouped
from .runs import CannotStart
from .streams import build_logs, overview_stream

_STATE = """<span data-build="{id}"><span class="build-status" data-slot="status" data-status="{status}">{status}</span>
<span class="going" data-slot="going" hidden><progress max="1" aria-label="Progress"></progress>
<span class="step"></span></span></span>"""


@admin.register(Build)
class BuildAdmin(LiveLogAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """What a build is cannot be edited: it is started, cancelled, run again and deleted."""

    list_display = ("state", "name", "started_by", "created_at", "took", "printed", "code")
    list_display_links = ("name",)
    list_filter = ("status", "recipe", "started_by")
    list_select_related = ("started_by",)
    search_fields = ("recipe", "=id", "started_by__username")
    fields = ("started_by", "cancelled_by", "created_at", "started_at", "ended_at", "exit_code", "lines")
    readonly_fields = fields
    actions = ("cancel_selected",)
    log_topic = "builds.{pk}"
    log_actions = {"cancel": "running", "again": "ended"}  # noqa: RUF012
    change_form_template = "admin/builds/build/change_form.html"

    class Media:
        css = {"all": ["builds/shared.css", "builds/admin.css"]}  # noqa: RUF012

    def has_change_permission(self, request: HttpRequest, obj: Build | None = None) -> bool:
        """No form: those who may change builds may cancel them, see ``may_cancel``."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Build | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_over)

    def may_cancel(self, request: HttpRequest) -> bool:
        return bool(super().has_change_permission(request))

    has_cancel_permission = may_cancel
    """What the action asks for."""

    # The list

    @admin.display(description="status", ordering="status")
    def state(self, build: Build) -> SafeString:
        return format_html(_STATE, id=build.pk, status=build.status)

    @admin.display(description="build", ordering="pk")
    def name(self, build: Build) -> str:
        return str(build)

    @admin.display(description="took")
    def took(self, build: Build) -> SafeString:
        text = "" if build.duration is None else f"{build.duration:.1f} s"
        return format_html('<span data-build="{}" data-slot="took">{}</span>', build.pk, text)

    @admin.display(description="lines", ordering="lines")
    def printed(self, build: Build) -> SafeString:
        return format_html('<span data-build="{}" data-slot="lines">{}</span>', build.pk, build.lines)

    @admin.display(description="exit code", ordering="exit_code")
    def code(self, build: Build) -> SafeString:
        text = "-" if build.exit_code is None else build.exit_code
        return format_html('<span data-build="{}" data-slot="exit">{}</span>', build.pk, text)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        runs.recover()
        return super().changelist_view(request, {"counts": overview.counts(), **(extra_context or {})})

    @admin.action(description="Cancel the selected builds", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Build]) -> None:
        count = 0
        for build in queryset:
            if runs.cancel(build.pk, request.user):
                self._log(request, build, CHANGE, "Cancelled.")
                count += 1
        self.message_user(request, f"{count} cancelled, {len(queryset) - count} already over.")

    # One build

    def get_urls(self) -> list[URLPattern | URLResolver]:
        router = Router()
        router.sse("overview/", overview_stream, guards=[admin_required(self)], name="builds_build_overview")
        return [path("", include(router.urls)), *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The recipes, each with its button."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._started(request, request.POST.get("recipe", ""))
        context = {**self.admin_site.each_context(request), "title": "Start a build", "opts": self.opts, "media": self.media}
        return render(request, "admin/builds/build/start.html", {**context, "groups": grouped()})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        runs.recover()
        build = self.get_object(request, object_id)
        row = overview.row(build) if build else {}
        return super().change_view(request, object_id, form_url, {**row, **(extra_context or {})})

    def get_log_status(self, obj: Build) -> LogStatus:
        return LogStatus(status=obj.status, started=obj.started_at, ended=obj.ended_at, exit_code=obj.exit_code)

    async def log_stream(self, c: Context, object_id: str) -> Any:
        """More than the topic: the queue, the progress, the end."""
        return await build_logs(c, int(object_id))

    @admin.action(description="Cancel", permissions=["cancel"])
    async def cancel(self, request: HttpRequest, build: Build) -> HttpResponseBase | str:
        """End a build."""
        if not await sync_to_async(runs.cancel)(build.pk, request.user):
            messages.warning(request, f"{build} was already over.")
            return redirect(self._url("change", build.pk))
        await sync_to_async(self._log)(request, build, CHANGE, "Cancelled.")
        return f"{build} is being cancelled."

    @admin.action(description="Run again", permissions=["add"])
    async def again(self, request: HttpRequest, build: Build) -> HttpResponse:
        """Start the recipe of a build once more, and go to the new build."""
        return await sync_to_async(self._started)(request, build.recipe, label=build.label)

    def _started(self, request: HttpRequest, recipe: str, label: str = "") -> HttpResponse:
        try:
            build = runs.start(recipe, request.user, label=label)
        except CannotStart as error:
            messages.error(request, str(error))
            return redirect(self._url("changelist"))
        self._log(request, build, ADDITION, "Started.")
        return redirect(self._url("change", build.pk))

    def _url(self, name: str, *args: int) -> str:
        return reverse(f"admin:builds_build_{name}", args=args, current_app=self.admin_site.name)

    def _log(self, request: HttpRequest, build: Build, flag: int, message: str) -> None:
        LogEntry.objects.log_actions(request.user.pk, [build], flag, change_message=message, single_object=True)

    # The log goes with its build

    def delete_model(self, request: HttpRequest, obj: Build) -> None:
        pk = obj.pk
        topic_of(pk).delete()
        triage.forget(pk)
        super().delete_model(request, obj)
        overview.tell_gone(pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Build]) -> None:
        for build in queryset:
            self.delete_model(request, build)


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Keys are made for oneself and deleted. A superuser sees everybody's."""

    list_display = ("name", "user", "created_at")
    fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        keys = super().get_queryset(request)
        return keys if request.user.is_superuser else keys.filter(user=request.user.pk)

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        obj.user_id = request.user.pk
        key = obj.renew()
        super().save_model(request, obj, form, change)
        messages.success(
            request, format_html("The key is <code>{}</code>. Copy it now: it is not kept, and not shown again.", key)
        )
