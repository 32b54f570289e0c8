"""Names of topics with values in them that come from outside: one rule wherever they come in, and no traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.auth.models import Group
from django.http import Http404
from django.template import Context as TemplateContext
from django.template import Template
from django.test import AsyncClient, override_settings
from django.urls import path

from django_agent_sse import Context, Router, Stream, topic_name
from django_agent_sse.admin import LiveLogAdminMixin
from django_agent_sse.eventlog import backend
from django_agent_sse.exceptions import ConfigurationError, RouteError, TopicNameInvalid
from django_agent_sse.streams.counters import counters
from tests.serving import ask, served

OUTSIDE = ["a.b", ".", "ü", "a\nb", "\x1b[2J", "\x7f", "\u202e", "x" * 201, "東京"]


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    backend.reset()
    counters.reset()
    yield
    backend.reset()
    counters.reset()


def router_with_every_form() -> Router:
    router = Router()
    router.topic("topic/<str:name>/", "builds.{name}")
    router.log("log/<str:name>/", "builds.{name}", name="log")

    async def of_function(c: Context, name: str) -> str:
        return topic_name("builds.{name}", name=name)

    router.log("function/<str:name>/", of_function, name="function")

    @router.sse("follow/<str:name>/")
    async def follow(c: Context, stream: Stream, name: str) -> None:
        await stream.follow(topic_name("builds.{name}", name=name))

    @router.sse("raw/<str:name>/")
    async def raw(c: Context, stream: Stream, name: str) -> None:
        await stream.follow(name)

    @router.sse("factory/<str:name>/")
    def factory(c: Context, name: str) -> Any:
        topic = topic_name("builds.{name}", name=name)
        return lambda stream: stream.follow(topic)

    return router


PATHS = [
    "topic/{}/",
    "log/{}/",
    "log/{}/range/",
    "log/{}/raw/",
    "function/{}/",
    "function/{}/range/",
    "follow/{}/",
    "factory/{}/",
]


@pytest.mark.parametrize("value", OUTSIDE)
async def test_a_value_from_outside_that_cannot_stand_in_a_name_is_not_found(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(router_with_every_form()):
        for place in PATHS if "." in value else [*PATHS, "raw/{}/"]:
            assert (await ask("/" + place.format(value))).status == 404, place
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    told = [record for record in caplog.records if record.name == "django_agent_sse.stream"]
    assert told
    assert all(record.getMessage().isprintable() for record in told)


@pytest.mark.parametrize("key", ["", "x" * 5000, "%00" * 80])
async def test_a_key_of_the_store_that_cannot_exist_is_not_found_either(key: str, caplog: pytest.LogCaptureFixture) -> None:
    router = Router()

    @router.sse("handler/")
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write((await c.kv.get("logs", c.query["key"])).data)

    async def guard(c: Context) -> bool:
        return (await c.kv.get("keys", c.query["key"])).exists

    router.topic("guard/", "t", guards=[guard])
    with served(router):
        for place in ("/handler/", "/guard/"):
            assert (await ask(f"{place}?key={key}")).status == 404
    assert [record.levelno for record in caplog.records if record.name == "django_agent_sse.stream"] == [logging.WARNING] * 2
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def test_it_is_a_warning_that_says_what_was_wrong_and_no_error_of_the_route(caplog: pytest.LogCaptureFixture) -> None:
    for debug in (False, True):
        with served(router_with_every_form(), DEBUG=debug):
            assert (await ask("/topic/a.b/")).status == 404
    without, shown = [record for record in caplog.records if record.name == "django_agent_sse.stream"]
    assert without.levelno == shown.levelno == logging.WARNING
    assert "topic/<str:name>/ is answered with 404: TopicNameInvalid" in without.getMessage()
    assert "a.b" not in without.getMessage()
    assert "topic/<str:name>/ is answered with 404: 'a.b' cannot stand in a topic's name" in shown.getMessage()
    (counted,) = counters.copy().values()
    assert dict(counted.refused) == {"not_found": 2}


async def test_a_mistake_of_the_developer_is_no_404() -> None:
    router = Router()

    async def none(c: Context) -> Any:
        return None

    router.log("none/", none)

    @router.sse("number/")
    async def number(c: Context, stream: Stream) -> None:
        await stream.follow(42)  # type: ignore[arg-type]

    @router.sse("key/")
    async def key(c: Context, stream: Stream) -> None:
        await c.kv.get("logs", 42)  # type: ignore[arg-type]

    with served(router):
        assert [(await ask(place)).status for place in ("/none/", "/none/range/", "/number/", "/key/")] == [500] * 4


def test_topic_name_puts_values_into_a_name() -> None:
    assert topic_name("builds.{id}.{step}", id=42, step="a-b_c") == "builds.42.a-b_c"
    assert topic_name("builds") == "builds"
    assert topic_name("{template}", template="x") == "x"


@pytest.mark.parametrize("value", [*OUTSIDE, ""])
def test_topic_name_refuses_what_could_reach_another_topic(value: object) -> None:
    with pytest.raises(TopicNameInvalid, match="cannot stand in a topic's name|characters"):
        topic_name("builds.{id}", id=value)


@pytest.mark.parametrize("template", ["builds.{id}", "builds.{", "{0}", "{a.b}", "{a!r}", "{a:>9}", "ü{a}"])
def test_topic_name_says_what_is_wrong_with_a_template(template: str) -> None:
    with pytest.raises(RouteError):
        topic_name(template, a="x")


@pytest.mark.parametrize("field", ["c", "stream", "class"])
@pytest.mark.parametrize("form", ["topic", "log"])
def test_a_field_with_a_name_that_is_taken_is_an_error_with_a_hint(form: str, field: str) -> None:
    with pytest.raises(RouteError, match=f"'{field}' is taken: capture it by another name in the path, as <{field}_id>"):
        getattr(Router(), form)(f"x/<str:{field}>/", f"builds.{{{field}}}")


def test_so_is_a_parameter_of_a_function() -> None:
    async def named(c: Context, stream: str) -> str:
        return stream

    with pytest.raises(RouteError, match="'stream' is taken"):
        Router().log("x/<str:stream>/", named)


# Templates and the admin


def test_a_page_with_a_log_that_cannot_be_lives_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    page = Template('{% load agent_sse %}before {% sse_log name "/x/" %} after')
    html = page.render(TemplateContext({"name": "builds.<ü>"}))
    assert html.startswith("before")
    assert html.endswith(" after")
    assert "There is no log: the topic" in html
    assert "<ü>" not in html
    assert [record.levelno for record in caplog.records if record.name == "django_agent_sse.log"] == [logging.WARNING]


def test_a_cursor_of_a_topic_that_cannot_be_is_not_found() -> None:
    with pytest.raises(Http404, match="printable ASCII"):
        Template("{% load agent_sse %}{% sse_cursor name %}").render(TemplateContext({"name": "ü"}))


class ByName(LiveLogAdminMixin, ModelAdmin):  # type: ignore[type-arg]
    log_topic = "groups.{name}"


class ByNothing(LiveLogAdminMixin, ModelAdmin):  # type: ignore[type-arg]
    log_topic = "groups.{colour}"


class ByItself(LiveLogAdminMixin, ModelAdmin):  # type: ignore[type-arg]
    def get_log_topic(self, obj: Group) -> str:
        return f"sse.monitor.{obj.name}"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("model_admin", "name", "says"),
    [
        (ByName, "a.b", "cannot stand in a topic"),
        (ByName, "ü", "cannot stand in a topic"),
        (ByNothing, "a", "no attribute"),
        (ByItself, "rows", "reserved"),
    ],
)
async def test_the_page_of_an_object_without_a_possible_log_lives_and_says_why(
    model_admin: Any, name: str, says: str, admin_user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    group = await Group.objects.acreate(name=name)
    site = AdminSite()
    site.register(Group, model_admin)
    urlconf = ModuleType("urlconf")
    vars(urlconf)["urlpatterns"] = [path("admin/", site.urls)]
    client = AsyncClient()
    await client.aforce_login(admin_user)
    with override_settings(ROOT_URLCONF=urlconf):
        page = await client.get(f"/admin/auth/group/{group.pk}/change/")
        assert page.status_code == 200
        assert "There is no log: " in (html := page.content.decode())
        assert says in html
        assert "<sse-log" not in html
        for part in ("", "range/", "raw/"):
            assert (await client.get(f"/admin/auth/group/{group.pk}/log/{part}")).status_code == 404
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.parametrize("template", ["sse.{pk}", "a.{pk.real}", "a.{pk:03}", "a.{", "ü"])
def test_a_log_topic_that_cannot_be_is_refused_when_it_is_registered(template: str) -> None:
    wrong = type("WrongAdmin", (LiveLogAdminMixin, ModelAdmin), {"log_topic": template})
    with pytest.raises(ConfigurationError, match="WrongAdmin.log_topic"):
        AdminSite().register(Group, wrong)
