"""The live log beside other packages' mixins that bring a template of their own, in either order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.models import Group
from django.core.checks import CheckMessage
from django.http import HttpResponse
from django.test import Client, modify_settings, override_settings
from django.urls import path
from django_object_actions import DjangoObjectActions
from import_export.admin import ExportActionMixin, ImportExportMixin

from django_agent_sse.admin import KeyValueAdmin, LiveLogAdminMixin, TopicsAdmin
from django_agent_sse.contrib.monitor.admin import LiveStreamsAdmin
from django_agent_sse.eventlog.backend import event_log

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:Overriding get_actions"),  # import-export on Django 6.1
]
BUTTON = 'data-tool-name="restart"'
EXPORT = 'name="_export-item"'
LOG = 'class="sse-log-panel"'


class Log(LiveLogAdminMixin, ModelAdmin):  # type: ignore[type-arg]
    log_topic = "groups.{pk}"


class Restarts(DjangoObjectActions):  # type: ignore[misc]
    change_actions = ("restart",)

    def restart(self, request: Any, obj: Any) -> None:
        """Restart it."""


@pytest.fixture(autouse=True)
def others(tmp_path: Path) -> Iterator[None]:
    for name, parent, rest in (
        ("mine", "admin/change_form.html", "{{ block.super }}"),
        ("whole", "admin/change_form.html", ""),
        ("by_hand", "admin/django_agent_sse/live_log/change_form.html", "{{ block.super }}"),
    ):
        text = f'{{% extends "{parent}" %}}{{% block content %}}<i>mine</i>{rest}{{% endblock %}}'
        (tmp_path / f"{name}.html").write_text(text)
    (tmp_path / "bare.html").write_text("<i>bare</i>")
    own = tmp_path / "admin" / "auth" / "group"
    own.mkdir(parents=True)
    (own / "change_form.html").write_text(
        '{% extends "admin/change_form.html" %}{% block footer %}<i>of the model</i>{% endblock %}'
    )
    templates = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    event_log().clear_all()
    with (
        modify_settings(INSTALLED_APPS={"append": ["django_object_actions", "import_export"]}),
        override_settings(TEMPLATES=templates, DJANGO_OBJECT_ACTIONS_DEFAULT_HTTP_METHOD="POST"),
    ):
        yield
    event_log().clear_all()


def page_of(client: Client, model_admin: type[ModelAdmin[Any]]) -> str:
    """The page of an object in an admin with this model admin."""
    site = AdminSite()
    site.register(Group, model_admin)
    urlconf = ModuleType("urlconf")
    vars(urlconf)["urlpatterns"] = [path("admin/", site.urls)]
    group = Group.objects.create(name="one")
    with override_settings(ROOT_URLCONF=urlconf):
        answer = client.get(f"/admin/auth/group/{group.pk}/change/")
        assert client.get("/admin/auth/group/add/").status_code == 200
        assert client.get("/admin/auth/group/").status_code == 200
        assert LOG not in client.get("/admin/auth/group/add/").content.decode()
    assert answer.status_code == 200
    return answer.content.decode()


def made(*bases: type, **about: Any) -> Any:
    return type("GroupAdmin", (*bases, ModelAdmin), {"log_topic": "groups.{pk}", **about})


def warnings(model_admin: Any) -> list[CheckMessage]:
    return [one for one in model_admin(Group, AdminSite()).check() if (one.id or "").startswith("django_agent_sse.")]


@pytest.mark.parametrize(
    ("bases", "theirs"),
    [
        ((LiveLogAdminMixin, Restarts), [BUTTON]),
        ((Restarts, LiveLogAdminMixin), [BUTTON]),
        ((LiveLogAdminMixin, ExportActionMixin), [EXPORT]),
        ((ExportActionMixin, LiveLogAdminMixin), [EXPORT]),
        ((LiveLogAdminMixin, ImportExportMixin), []),
        ((ImportExportMixin, Restarts, LiveLogAdminMixin), [BUTTON]),
        ((LiveLogAdminMixin, ImportExportMixin, Restarts), [BUTTON]),
    ],
    ids=lambda value: " ".join(one.__name__ for one in value) if isinstance(value, tuple) else "",
)
def test_the_log_and_what_others_add_are_both_there(admin_client: Client, bases: tuple[type, ...], theirs: list[str]) -> None:
    model_admin = made(*bases)
    page = page_of(admin_client, model_admin)
    for part in (LOG, *theirs, 'name="name"', "<i>of the model</i>" if not theirs else LOG):
        assert page.count(part) == 1, part
    assert page.count("django_agent_sse/log") >= 1, "the script of the log"
    assert warnings(model_admin) == []


def test_a_template_of_the_models_own_is_kept(admin_client: Client) -> None:
    page = page_of(admin_client, Log)
    assert (page.count(LOG), page.count("<i>of the model</i>")) == (1, 1)


@pytest.mark.parametrize("name", ["mine.html", "by_hand.html", "whole.html"])
def test_a_template_of_the_model_admins_own_has_the_log_once(admin_client: Client, name: str) -> None:
    model_admin = made(LiveLogAdminMixin, change_form_template=name)
    page = page_of(admin_client, model_admin)
    assert (page.count(LOG), page.count("<i>mine</i>")) == (1, 1)
    assert warnings(model_admin) == []


def test_a_template_without_a_place_for_the_log_is_told(admin_client: Client) -> None:
    model_admin = made(LiveLogAdminMixin, change_form_template="bare.html")
    assert "<i>bare</i>" in page_of(admin_client, model_admin)
    (found,) = warnings(model_admin)
    assert found.id == "django_agent_sse.W010"
    assert found.msg == "GroupAdmin has no live log: its template 'bare.html' has no block named content"


@pytest.mark.parametrize("method", ["render_change_form", "get_urls"])
def test_a_method_that_hides_the_log_is_told(method: str) -> None:
    class Rude:
        def render_change_form(self, *args: Any, **kwargs: Any) -> HttpResponse:
            return HttpResponse("mine")

        def get_urls(self) -> list[Any]:
            return []

    class Polite:
        def render_change_form(self, *args: Any, **kwargs: Any) -> Any:
            return super().render_change_form(*args, **kwargs)  # type: ignore[misc]

        def get_urls(self) -> Any:
            return super().get_urls()  # type: ignore[misc]

    rude = type("Rude", (), {method: vars(Rude)[method]})
    (found,) = warnings(made(rude, LiveLogAdminMixin))
    assert found.msg == f"GroupAdmin has no live log: Rude.{method} does not call super().{method}()"
    assert warnings(made(LiveLogAdminMixin, rude)) == [], "the mixin's own come first, and what they call is not ours to judge"
    assert warnings(made(Polite, LiveLogAdminMixin)) == []


@pytest.mark.parametrize("ours", [KeyValueAdmin, TopicsAdmin, LiveStreamsAdmin])
@pytest.mark.parametrize("mixin", [Restarts, ImportExportMixin, ExportActionMixin])
def test_the_pages_of_the_package_stay_beside_other_mixins(admin_client: Client, ours: Any, mixin: type) -> None:
    from django_agent_sse.contrib.monitor.models import LiveStreams
    from django_agent_sse.models import KeyValueStore, LogTopic  # the models behind the pages

    model: Any = {KeyValueAdmin: KeyValueStore, TopicsAdmin: LogTopic, LiveStreamsAdmin: LiveStreams}[ours]
    pages = []
    for bases in ((ours,), (mixin, ours)):
        site = AdminSite()
        site.register(model, type("Ours", bases, {}))
        urlconf = ModuleType("urlconf")
        vars(urlconf)["urlpatterns"] = [path("admin/", site.urls)]
        with override_settings(ROOT_URLCONF=urlconf):
            answer = admin_client.get(f"/admin/{model._meta.app_label}/{model._meta.model_name}/")
        assert answer.status_code == 200
        pages.append(answer.templates[0].name)
    assert pages[0] == pages[1]
