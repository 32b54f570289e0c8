"""The log viewer on the page of any object in the admin, with the buttons that belong to it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.admin.utils import quote, unquote
from django.core import checks
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template import Template, TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.template.loader_tags import BlockNode, ExtendsNode
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, include, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.validation import fields_of, filled, valid_topic
from django_agent_sse.exceptions import ConfigurationError, EventLogError, RouteError, TopicNameInvalid
from django_agent_sse.routing import Router
from django_agent_sse.runtime.safe_text import printable
from django_agent_sse.streams.context import Context
from django_agent_sse.streams.error_responses import error_body

from .access import admin_required, admin_view

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite, ModelAdmin

    _Base = ModelAdmin[Any]
else:
    _Base = object

logger = logging.getLogger("django_agent_sse.log")

PHASES = ("new", "running", "ended")
"""When a button is shown: before the first line, while the log is open, after its end."""
PAGE = "admin/django_agent_sse/live_log/change_form.html"
"""It extends the page that is in the context, and Django's own where none is: so templates may extend it too."""
NEEDED = ("render_change_form", "get_urls")
"""What the mixin does its work in: who overrides them must call ``super()``."""
_OF_OBJECTS = ("view", "change", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """What a model knows of the run behind its log.

    Attributes:
        status: ``queued``, ``running``, ``passed``, ``failed``, ``cancelled`` or a word of yours; ``""`` where the log tells.
        started: When it began; a time without a zone is one of the server's.
        ended: When it ended.
        exit_code: What it ended with.
    """

    status: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None


class LiveLogAdminMixin(_Base):
    """The live log of an object on its page: ``class BuildAdmin(LiveLogAdminMixin, ModelAdmin): log_topic = "builds.{pk}"``.

    Who may view the object in this admin may see its log. Stream, parts and text are served below the object's own URL, as
    ``admin:<app>_<model>_log``, ``…_log-range`` and ``…_log-raw``.

    Attributes:
        log_topic: The topic's name, with attributes of the object in it. Their values may hold no ``.``, and nothing but
            printable ASCII: the page of an object with another one says so in place of its log.
        log_label: What screen readers call the log.
        log_lines: How many of the last lines stand in the page before its script runs.
        log_actions: Methods ``(self, request, obj)``, plain or ``async``, that get a button: a list of names, or names with when
            they are shown, ``{"start": "new", "cancel": "running", "run_again": "ended"}``. ``@admin.action`` gives a label and
            permissions (``change`` without). They are called by POST, and return text (a message), an object (to go to its
            page), a response, or nothing.
        log_stream: A handler ``async (self, c, object_id)`` of your own for the stream, where it tells more than the topic.
    """

    log_topic: str = ""
    log_label: str | Promise = _("Log")
    log_lines: int = 100
    log_actions: Mapping[str, str] | Sequence[str] = ()
    log_stream: ClassVar[Any] = None

    def __init__(self, model: type[Model], admin_site: AdminSite) -> None:
        super().__init__(model, admin_site)
        name = type(self).__name__
        if not self.log_topic and type(self).get_log_topic is LiveLogAdminMixin.get_log_topic:
            raise ConfigurationError(f'{name} has no log_topic: write log_topic = "{self.opts.model_name}s.{{pk}}"')
        try:
            fields_of(self.log_topic or "none")
        except RouteError as error:
            raise ConfigurationError(f"{name}.log_topic: {error}") from error
        for action, when in self._log_whens().items():
            if not callable(getattr(self, action, None)):
                raise ConfigurationError(f"{name}.log_actions names {action!r}; write `def {action}(self, request, obj)`")
            if not when.split() or set(when.split()) - set(PHASES):
                raise ConfigurationError(f"{name}.log_actions[{action!r}] is {when!r}; it is one or more of {', '.join(PHASES)}")

    # What a model admin may override

    def get_log_topic(self, obj: Any) -> str:
        """Return the topic of an object.

        Raises:
            TopicNameInvalid: An attribute in ``log_topic`` is not there, or cannot stand in a topic's name: its page says so
                where the log would be, and its log is a 404. One of your own may raise it, too.
        """
        try:
            values = {name: getattr(obj, name) for name in fields_of(self.log_topic)}
        except AttributeError as error:
            raise TopicNameInvalid(f"log_topic is {self.log_topic!r}, and {error}") from error
        return filled(self.log_topic, values)

    def get_log_status(self, obj: Any) -> LogStatus:
        """Return what is known of the run of an object, when its page is rendered."""
        return LogStatus()

    def has_log_action_permission(self, request: HttpRequest, action: str, obj: Any) -> bool:
        """Whether this user gets this button: they must have all the permissions of the action."""
        for name in getattr(getattr(self, action), "allowed_permissions", None) or ("change",):
            check = getattr(self, f"has_{name}_permission")
            if not (check(request, obj) if name in _OF_OBJECTS else check(request)):
                return False
        return True

    # Pages and URLs

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None and obj.pk is not None:
            context["live_log"] = self._live_log(request, obj)
        response = super().render_change_form(request, context, *args, **kwargs)
        # The log goes onto the page whichever template that has; one that has it already stays as it is.
        if isinstance(response, TemplateResponse) and response.context_data and "live_log" in response.context_data:
            page = response.resolve_template(response.template_name)
            template = getattr(page, "template", None)
            if isinstance(template, Template) and PAGE not in {name for name, _ in _family(template)}:
                response.context_data["live_log_page"] = page
                response.template_name = PAGE
        return response

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *_hidden_log(self)]

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        router = Router(guards=[admin_required(self), self._may_see_log])
        name = f"{self.opts.app_label}_{self.opts.model_name}_log"
        if self.log_stream is not None:
            router.sse("<path:object_id>/log/", self.log_stream, name=name)  # before the topic's own, which it hides
        router.log("<path:object_id>/log/", self._topic_of_request, name=name)
        action = admin_view(self.admin_site, self._log_action)
        return [
            path("<path:object_id>/log/do/<slug:action>/", action, name=f"{name}-do"),  # type: ignore[arg-type]
            path("", include(router.urls)),
            *super().get_urls(),
        ]

    def _live_log(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        try:
            topic = valid_topic(self.get_log_topic(obj))
        except TopicNameInvalid as error:
            logger.warning("%s %s has no log: %s", self.opts.label, printable(obj.pk), error)
            return {"label": self.log_label, "nothing": str(error)}
        return {
            "topic": topic,
            "src": self._log_url("log", obj),
            "known": self.get_log_status(obj),
            "label": self.log_label,
            "lines": self.log_lines,
            "login": reverse("admin:login", current_app=self.admin_site.name),
            "actions": self._log_buttons(request, obj, topic),
        }

    def _log_buttons(self, request: HttpRequest, obj: Any, topic: str) -> list[dict[str, Any]]:
        phase = self._log_phase(obj, topic)
        return [
            {
                "label": str(getattr(getattr(self, action), "short_description", None) or action.replace("_", " ").capitalize()),
                "url": self._log_url("log-do", obj, action),
                "when": when,
                "hidden": phase not in when.split(),
            }
            for action, when in self._log_whens().items()
            if self.has_log_action_permission(request, action, obj)
        ]

    def _log_phase(self, obj: Any, topic: str) -> str:
        known = self.get_log_status(obj)
        if known.ended is not None:
            return "ended"
        try:
            state = event_log().state(topic)
        except EventLogError:
            return "running"
        if state.closed is not None:
            return "ended"
        return "running" if state.exists or known.status or known.started else "new"

    def _log_whens(self) -> dict[str, str]:
        given = self.log_actions
        return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, " ".join(PHASES))

    def _log_url(self, what: str, obj: Any, *args: str) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{what}"
        return reverse(name, args=[quote(obj.pk), *args], current_app=self.admin_site.name)

    # Requests

    async def _may_see_log(self, c: Context) -> bool | HttpResponseBase:
        """Guard one object: 404 where there is none, 403 where its log may not be seen."""
        try:
            c.var.log_topic = await sync_to_async(self._topic_to_see)(c.request, str(c.params["object_id"]))
        except Http404 as error:
            return c.json(error_body(404, str(error)), status=404)
        except PermissionDenied:
            return False
        return True

    async def _topic_of_request(self, c: Context, object_id: str) -> str:
        return str(c.var.log_topic)

    def _topic_to_see(self, request: HttpRequest, object_id: str) -> str:
        try:
            return valid_topic(self.get_log_topic(self._log_object(request, object_id)))
        except TopicNameInvalid as error:
            raise Http404(gettext("There is no log: {reason}").format(reason=error)) from error

    def _log_object(self, request: HttpRequest, object_id: str) -> Any:
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404(gettext("There is no {model} {id}.").format(model=self.opts.verbose_name, id=object_id))
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    async def _log_action(self, request: HttpRequest, object_id: str, action: str) -> HttpResponseBase:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = await sync_to_async(self._log_object)(request, object_id)
        if action not in self._log_whens():
            raise Http404(gettext("There is no action {action}.").format(action=action))
        if not await sync_to_async(self.has_log_action_permission)(request, action, obj):
            raise PermissionDenied
        method = getattr(self, action)
        called = method if inspect.iscoroutinefunction(method) else sync_to_async(method)
        return await sync_to_async(self._log_answer)(request, obj, await called(request, obj))

    def _log_answer(self, request: HttpRequest, obj: Any, result: object) -> HttpResponseBase:
        if isinstance(result, HttpResponseBase):
            return result
        if isinstance(result, str):
            messages.success(request, result)
        return redirect(self._log_url("change", result if isinstance(result, self.model) else obj))


def _hidden_log(model_admin: ModelAdmin[Any]) -> Iterator[checks.CheckMessage]:
    """Yield what is known to keep the log from its page, for ``manage.py check``."""
    name = type(model_admin).__name__
    for cls in type(model_admin).__mro__[: type(model_admin).__mro__.index(LiveLogAdminMixin)]:
        for method in NEEDED:
            code = getattr(vars(cls).get(method), "__code__", None)
            if code is not None and not {"super", LiveLogAdminMixin.__name__} & {*code.co_names, *code.co_freevars}:
                yield _warning(model_admin, f"{name} has no live log: {cls.__name__}.{method} does not call super().{method}()")
    if model_admin.change_form_template and not _has_content(model_admin.change_form_template):
        yield _warning(
            model_admin, f"{name} has no live log: its template {model_admin.change_form_template!r} has no block named content"
        )


def _warning(model_admin: ModelAdmin[Any], why: str) -> checks.CheckMessage:
    hint = 'The log stands in the block content of the page: extend "admin/change_form.html", and call super().'
    return checks.Warning(why, hint=hint, obj=model_admin.__class__, id="django_agent_sse.W010")


def _has_content(name: Any) -> bool:
    try:
        template = getattr(get_template(name), "template", None)
        return not isinstance(template, Template) or any("content" in blocks for _, blocks in _family(template))
    except (TemplateDoesNotExist, TemplateSyntaxError):  # the page itself will tell
        return True


def _family(template: Template) -> Iterator[tuple[str, set[str]]]:
    """Yield the names and the blocks of a template and of those that it extends, as far as their names are constants."""
    seen: set[str] = set()
    while True:
        own = {node.name for node in template.nodelist.get_nodes_by_type(BlockNode) if isinstance(node, BlockNode)}
        yield str(template.name), own
        parents = [node for node in template.nodelist if isinstance(node, ExtendsNode)]
        name = getattr(parents[0].parent_name, "var", None) if parents else None
        if not isinstance(name, str):
            if parents:
                yield "", {"content"}  # known only when it is rendered
            return
        if name in seen:
            return
        seen.add(name)
        template = template.engine.get_template(name)
