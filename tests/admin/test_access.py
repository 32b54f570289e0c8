"""What an admin site lets in, for streams and for asynchronous pages: its own answer, whatever site it is."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction
from django.contrib import admin
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from django.urls import include, path

from django_agent_sse import Context, Router, Stream
from django_agent_sse.admin import admin_required, admin_view
from django_agent_sse.exceptions import RouteError

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


class EditorsSite(AdminSite):
    """Lets in who belongs to a group, staff or not: a question to the database."""

    def has_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.groups.filter(name="editors").exists()


async def hello(request: HttpRequest, number: int = 0) -> HttpResponse:
    return HttpResponse(f"hello {number}")


@markcoroutinefunction
def forgotten(request: HttpRequest) -> Any:
    """Called, an ``async`` view that warns nobody when it is not awaited."""
    coroutine = hello(request)
    coroutine.close()
    return coroutine


class Groups(ModelAdmin):  # type: ignore[type-arg]
    def get_urls(self) -> list[Any]:
        return [
            path("log/", include(routes(admin_required(self)))),
            path("edit/", include(routes(admin_required(self, "change")))),
            path("site/", include(routes(admin_required(self.admin_site)))),
            path("hello/<int:number>/", admin_view(self.admin_site, hello)),
            path("django/", self.admin_site.admin_view(forgotten)),
            *super().get_urls(),
        ]


def routes(guard: Any) -> Any:
    router = Router()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("inside")

    router.sse("", guard, handler)
    return router.urls


editors = EditorsSite("editors")
ordinary = AdminSite("admin")
for site in (editors, ordinary):
    site.register(Group, Groups)
urlpatterns = [path("admin/", ordinary.urls), path("editors/", editors.urls)]


@pytest.fixture
def people(transactional_db: None) -> dict[str, User]:
    people = {name: User.objects.create_user(name) for name in ("nobody", "staff", "viewer", "editor", "boss")}
    people["boss"].is_superuser = True
    for name in ("staff", "viewer", "boss"):
        people[name].is_staff = True
    for person in people.values():
        person.save()
    people["viewer"].user_permissions.add(Permission.objects.get(codename="view_group"))
    people["editor"].groups.create(name="editors")
    return people


async def status(user: User | None, url: str) -> int:
    response = await ask(user, url)
    return int(response.status_code)


async def ask(user: User | None, url: str, **options: Any) -> Any:
    client = AsyncClient(**options)
    if user is not None:
        await client.aforce_login(user)
    return await client.get(url)


@pytest.mark.parametrize(
    ("url", "answers"),
    [
        ("/admin/auth/group/log/", {"nobody": 403, "staff": 403, "viewer": 200, "editor": 403, "boss": 200}),
        ("/admin/auth/group/edit/", {"nobody": 403, "staff": 403, "viewer": 403, "editor": 403, "boss": 200}),
        ("/admin/auth/group/site/", {"nobody": 403, "staff": 200, "viewer": 200, "editor": 403, "boss": 200}),
        ("/editors/auth/group/site/", {"nobody": 403, "staff": 403, "viewer": 403, "editor": 200, "boss": 403}),
        ("/editors/auth/group/log/", {"nobody": 403, "staff": 403, "viewer": 403, "editor": 403, "boss": 403}),
    ],
)
async def test_a_stream_asks_the_site_and_the_model(people: dict[str, User], url: str, answers: dict[str, int]) -> None:
    assert {name: await status(people[name], url) for name in answers} == answers
    anonymous = await ask(None, url)
    assert anonymous.status_code == 401
    assert anonymous["WWW-Authenticate"].startswith("Session")


async def test_a_stream_of_the_admin_flows(people: dict[str, User]) -> None:
    response = await ask(people["viewer"], "/admin/auth/group/log/")
    assert b"data: inside" in b"".join([chunk async for chunk in response.streaming_content])


async def test_an_asynchronous_page_of_the_admin(people: dict[str, User]) -> None:
    page = await ask(people["staff"], "/admin/auth/group/hello/7/")
    assert (page.status_code, page.content) == (200, b"hello 7")
    assert "no-store" in page["Cache-Control"]
    for person in (None, people["nobody"], people["editor"]):
        refused = await ask(person, "/admin/auth/group/hello/7/")
        assert (refused.status_code, refused["Location"]) == (302, "/admin/login/?next=/admin/auth/group/hello/7/")
        assert "no-store" in refused["Cache-Control"]


async def test_a_custom_site_decides_and_has_its_own_log_in_page(people: dict[str, User]) -> None:
    assert (await ask(people["editor"], "/editors/auth/group/hello/1/")).content == b"hello 1"
    refused = await ask(people["boss"], "/editors/auth/group/hello/1/")
    assert refused["Location"].startswith("/editors/login/")


async def test_an_asynchronous_page_is_guarded_against_forgery(people: dict[str, User]) -> None:
    client = AsyncClient(enforce_csrf_checks=True)
    await client.aforce_login(people["staff"])
    assert (await client.post("/admin/auth/group/hello/7/")).status_code == 403


def test_cacheable_leaves_the_headers_out(rf: Any) -> None:
    request = rf.get("/")
    request.user = User(is_staff=True)
    assert "Cache-Control" not in async_to_sync(admin_view(ordinary, hello, cacheable=True))(request)
    assert "Cache-Control" in async_to_sync(admin_view(ordinary, hello))(request)


async def test_why_it_exists_the_admins_own_wrapper_fails_on_async_views(people: dict[str, User]) -> None:
    """When this fails, Django has mended it, and ``admin_view`` can go."""
    answer = await ask(people["staff"], "/admin/auth/group/django/", raise_request_exception=False)
    assert answer.status_code == 500


@pytest.mark.parametrize("where", [None, "admin", ModelAdmin, admin])
def test_what_is_no_admin_is_refused_at_once(where: Any) -> None:
    with pytest.raises(RouteError, match=r"self\.admin_site or self"):
        admin_required(where)


def test_an_unknown_action_is_refused_at_once() -> None:
    with pytest.raises(RouteError, match="view, add, change, delete"):
        admin_required(ordinary, "publish")


def test_a_view_that_is_not_async_is_sent_to_the_sites_own() -> None:
    with pytest.raises(RouteError, match=r"'plain' wants site\.admin_view"):

        def plain(request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        admin_view(ordinary, plain)  # type: ignore[arg-type]
