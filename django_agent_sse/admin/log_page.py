"""The live log on whatever page a model admin has: it stands in a template around that page's own, and beside what others add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core import checks
from django.http import HttpResponse
from django.template import Template, TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.template.loader_tags import BlockNode, ExtendsNode
from django.template.response import TemplateResponse

PAGE = "admin/django_agent_sse/live_log/change_form.html"
"""It extends the page that is in the context, and Django's own where none is: so templates may extend it too."""
NEEDED = ("render_change_form", "get_urls")
"""What the mixin does its work in: who overrides them must call ``super()``."""


def with_log(response: HttpResponse) -> HttpResponse:
    """The page of an object with the log on it, whichever template it has; one that has the log already stays as it is."""
    if isinstance(response, TemplateResponse) and response.context_data and "live_log" in response.context_data:
        page = response.resolve_template(response.template_name)
        template = getattr(page, "template", None)
        if isinstance(template, Template) and PAGE not in {name for name, _ in _family(template)}:
            response.context_data["live_log_page"] = page
            response.template_name = PAGE
    return response


def hidden_log(model_admin: ModelAdmin[Any], mixin: type) -> Iterator[checks.CheckMessage]:
    """What is known to keep the log from its page, for ``manage.py check``."""
    name = type(model_admin).__name__
    for cls in type(model_admin).__mro__[: type(model_admin).__mro__.index(mixin)]:
        for method in NEEDED:
            code = getattr(vars(cls).get(method), "__code__", None)
            if code is not None and not {"super", mixin.__name__} & {*code.co_names, *code.co_freevars}:
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
    """A template and those that it extends, as far as their names stand in them: the name and the blocks of each."""
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
