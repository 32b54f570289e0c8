"""``LiveLogAdminMixin``: the viewer on the page of an object, its URLs and its buttons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from django_agent_sse import Context, Stream, Topic
from django_agent_sse.admin import LiveLogAdminMixin, LogStatus
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import ConfigurationError

pytestmark = pytest.mark.django_db


class GroupAdmin(LiveLogAdminMixin, ModelAdmin):  # type: ignore[type-arg]
    log_topic = "groups.{pk}"
    log_actions = {"start": "new", "stop": "running", "again": "ended", "export": "running ended"}  # noqa: RUF012

    def start(self, request: HttpRequest, group: Group) -> None:
        Topic(f"groups.{group.pk}").publish("started")

    @admin.action(description="Stop it", permissions=["stop"])
    async def stop(self, request: HttpRequest, group: Group) -> str:
        await Topic(f"groups.{group.pk}").aclose("stopped")
        return "It was stopped."

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def again(self, request: HttpRequest, group: Group) -> Group:
        return Group.objects.create(name=f"{group.name} again")

    @admin.action(permissions=["view"])
    def export(self, request: HttpRequest, group: Group) -> HttpResponse:
        return HttpResponse("exported")


def site_with(model_admin: type[ModelAdmin[Any]]) -> Any:
    site = AdminSite()
    site.register(Group, model_admin)
    urlconf = ModuleType("urlconf")
    vars(urlconf)["urlpatterns"] = [path("admin/", site.urls)]
    return override_settings(ROOT_URLCONF=urlconf)


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    event_log().clear_all()
    with site_with(GroupAdmin):
        yield
    event_log().clear_all()


@pytest.fixture
def group() -> Group:
    return Group.objects.create(name="Group")


def page_of(client: Client, group: Group) -> str:
    answer = client.get(f"/admin/auth/group/{group.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def buttons(html: str) -> dict[str, bool]:
    """The labels, and which are shown."""
    found = re.findall(
        r'<form method="post" action="[^"]*/log/do/\w+/" data-when="[\w ]+"( hidden)?>.*?<button>([^<]+)<', html, re.DOTALL
    )
    return {label: not hidden for hidden, label in found}


@pytest.fixture
def viewer(client: Client) -> Client:
    """Somebody on the staff who may only look."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_group"))
    client.force_login(user)
    return client


def test_the_page_of_an_object_has_its_log(admin_client: Client, group: Group) -> None:
    Topic(f"groups.{group.pk}").publish_many(["one", "<two>"])
    html = page_of(admin_client, group)
    base = f"/admin/auth/group/{group.pk}/log/"
    assert f'<sse-log src="{base}" raw="{base}raw/" range="{base}range/"' in html
    assert "one\n&lt;two&gt;" in html
    assert "django_agent_sse/log.js" in html
    assert 'login="/admin/login/"' in html
    assert html.index("<sse-log") < html.index('id="group_form"')
    assert "<sse-log" not in admin_client.get("/admin/auth/group/add/").content.decode()


def test_buttons_are_shown_when_it_is_time_for_them(admin_client: Client, group: Group) -> None:
    topic = Topic(f"groups.{group.pk}")
    assert buttons(page_of(admin_client, group)) == {"Start": True, "Stop it": False, "Again": False, "Export": False}
    topic.publish("a line")
    assert buttons(page_of(admin_client, group)) == {"Start": False, "Stop it": True, "Again": False, "Export": True}
    topic.close()
    assert buttons(page_of(admin_client, group)) == {"Start": False, "Stop it": False, "Again": True, "Export": True}


def test_buttons_are_for_those_with_the_permission(viewer: Client, group: Group) -> None:
    assert buttons(page_of(viewer, group)) == {"Export": False}
    base = f"/admin/auth/group/{group.pk}/log/do"
    assert viewer.post(f"{base}/stop/").status_code == 403
    assert viewer.post(f"{base}/start/").status_code == 403
    assert viewer.post(f"{base}/export/").content == b"exported"


def test_a_button_calls_the_method_and_comes_back(admin_client: Client, group: Group) -> None:
    page, base = f"/admin/auth/group/{group.pk}/change/", f"/admin/auth/group/{group.pk}/log/do"
    assert admin_client.post(f"{base}/start/")["Location"] == page
    assert Topic(f"groups.{group.pk}").state().top == 1
    answer = admin_client.post(f"{base}/stop/", follow=True)
    assert "It was stopped." in answer.content.decode()
    assert Topic(f"groups.{group.pk}").state().closed == "stopped"
    again = admin_client.post(f"{base}/again/")
    assert again["Location"] == f"/admin/auth/group/{Group.objects.get(name='Group again').pk}/change/"


def test_a_button_wants_a_post_a_token_and_a_name_that_it_has(group: Group) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("admin"))
    base = f"/admin/auth/group/{group.pk}/log/do"
    assert client.post(f"{base}/start/").status_code == 403
    client = Client()
    client.force_login(User.objects.get(username="admin"))
    assert client.get(f"{base}/start/").status_code == 405
    assert client.post(f"{base}/delete_model/").status_code == 404
    assert client.post("/admin/auth/group/999/log/do/start/").status_code == 404
    assert Client().post(f"{base}/start/")["Location"].startswith("/admin/login/")
    assert not Topic(f"groups.{group.pk}").state().exists


@pytest.mark.parametrize("part", ["", "range/", "raw/?follow=0"])
@pytest.mark.django_db(transaction=True)
async def test_the_log_is_for_those_who_may_see_the_object(part: str) -> None:
    group = await Group.objects.acreate(name="Group")
    topic = Topic(f"groups.{group.pk}")
    await topic.apublish("a line")
    await topic.aclose()
    url = f"/admin/auth/group/{group.pk}/log/{part}"
    client = AsyncClient()
    assert (await client.get(url)).status_code == 401
    await client.aforce_login(await User.objects.acreate_user("nobody", is_staff=True))
    assert (await client.get(url)).status_code == 403
    await client.aforce_login(await User.objects.acreate_user("root", is_staff=True, is_superuser=True))
    assert (await client.get(url.replace(f"/{group.pk}/", "/999/"))).status_code == 404
    answer = await client.get(url)
    assert answer.status_code == 200
    body = b"".join([part async for part in answer.streaming_content]) if answer.streaming else answer.content
    assert b"a line" in body


class OwnAdmin(LiveLogAdminMixin, ModelAdmin):  # type: ignore[type-arg]
    """Everything said otherwise."""

    log_actions = ("start",)
    log_lines = 1

    def get_log_topic(self, obj: Group) -> str:
        return f"own.{obj.name}"

    def get_log_status(self, obj: Group) -> LogStatus:
        return LogStatus(status="lost", exit_code=-9)

    def has_view_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return obj is None or obj.name != "secret"

    def start(self, request: HttpRequest, group: Group) -> None:
        """Nothing."""

    async def log_stream(self, c: Context, stream: Stream, object_id: str) -> None:
        await stream.write(f"of its own, {object_id}")


@pytest.mark.django_db(transaction=True)
async def test_a_model_admin_may_say_everything_otherwise() -> None:
    group = await Group.objects.acreate(name="mine")
    secret = await Group.objects.acreate(name="secret")
    await Topic("own.mine").apublish_many(["one", "two"])
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate_user("root", is_staff=True, is_superuser=True))
    with site_with(OwnAdmin):
        html = (await client.get(f"/admin/auth/group/{group.pk}/change/")).content.decode()
        answer = await client.get(f"/admin/auth/group/{group.pk}/log/")
        assert b"of its own, " in b"".join([part async for part in answer.streaming_content])
        assert [one["data"] for one in (await client.get(f"/admin/auth/group/{group.pk}/log/range/")).json()["records"]] == [
            "one",
            "two",
        ]
        assert (await client.get(f"/admin/auth/group/{secret.pk}/log/")).status_code == 403
    assert 'status="lost"' in html
    assert 'exit-code="-9"' in html
    assert '<pre dir="ltr">\ntwo\n</pre>' in html
    assert buttons(html) == {"Start": True}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "has no log_topic"),
        ({"log_topic": "a.{pk}", "log_actions": ["stop"]}, "write `def stop"),
        ({"log_topic": "a.{pk}", "log_actions": {"delete_model": "sometimes"}}, "one or more of new, running, ended"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_registered(body: dict[str, Any], message: str) -> None:
    wrong = type("WrongAdmin", (LiveLogAdminMixin, ModelAdmin), body)
    with pytest.raises(ConfigurationError, match=message):
        AdminSite().register(Group, wrong)
