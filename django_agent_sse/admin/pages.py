"""What the package's own pages in the admin have in common: nothing is added, changed or deleted there as a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext


class PageAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A page of its own in the admin, with the model's permissions."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def check_view(self, request: HttpRequest) -> None:
        """Raise ``PermissionDenied`` for who may not see the page."""
        if not self.has_view_permission(request):
            raise PermissionDenied

    def render_page(
        self, request: HttpRequest, page: str, context: dict[str, Any], status: int = 200, parents: Sequence[tuple[str, str]] = ()
    ) -> HttpResponse:
        """Render one of the model's templates. What it shows may be secret, so that no cache keeps it.

        Args:
            request: The request.
            page: The template's name.
            context: What it shows; ``title`` among it.
            status: The response's.
            parents: Titles and addresses of the model's pages above this one.
        """
        site = self.admin_site
        above = [
            (gettext("Home"), reverse("admin:index", current_app=site.name)),
            (self.opts.app_config.verbose_name, reverse("admin:app_list", args=[self.opts.app_label], current_app=site.name)),
            *parents,
        ]
        crumbs = {"crumbs": above, "crumbs_in_list": django.VERSION >= (6, 1)}
        context = {**site.each_context(request), "opts": self.opts, **crumbs, **context}
        template = f"admin/{self.opts.app_label}/{self.opts.model_name}/{page}.html"
        response = render(request, template, context, status=status)
        response.headers["Cache-Control"] = "no-store, private"
        return response

    def url_of_page(self, model: str) -> str:
        """Return the address of another model's page, such as ``django_agent_sse_logtopic``; empty where this site has none."""
        try:
            return reverse(f"{self.admin_site.name}:{model}_changelist")
        except NoReverseMatch:
            return ""

    def write_log_entry(self, request: HttpRequest, object_id: str, name: str, message: str, action: int = CHANGE) -> None:
        LogEntry.objects.create(
            user_id=str(request.user.pk),
            content_type_id=ContentType.objects.get_for_model(self.model, for_concrete_model=False).pk,
            object_id=object_id,
            object_repr=name[:200],
            action_flag=action,
            change_message=message,
        )
