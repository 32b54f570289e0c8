"""The admin's page of the key-value store: what it finds over each kind of cache, who may see it, and what it survives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.auth.models import Permission, User
from django.core.cache import caches
from django.core.management import call_command
from django.test import Client
from django.urls import path

from django_agent_sse.admin import KeyValueAdmin
from django_agent_sse.admin.kv import LISTED, SHOWN, kind, pretty
from django_agent_sse.models import KeyValueStore
from django_agent_sse.streams.kv import KV
from tests.streams.test_kv import LOCAL, REDIS, kv

__all__ = ["kv"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

staff_site = AdminSite("staff")
staff_site.register(KeyValueStore, KeyValueAdmin)
urlpatterns = [path("admin/", admin.site.urls), path("staff/", staff_site.urls)]
PAGE = "/admin/django_agent_sse/keyvaluestore/"


class Spiteful:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def person(permission: bool = True, staff: bool = True) -> Client:
    """Somebody signed in."""
    user = User.objects.create_user("somebody", is_staff=staff)
    if permission:
        user.user_permissions.add(Permission.objects.get(codename="view_keyvaluestore"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def client() -> Client:
    return person()


def ask(client: Client, status: int = 200, **query: str) -> str:
    answer = client.get(PAGE, query)
    assert answer.status_code == status
    return answer.content.decode()


def put(kv: KV, ns: str, **values: Any) -> None:
    for key, value in values.items():
        caches[kv.alias].set(KV.cache_key(ns, key), value, None)


def test_it_lists_namespaces_then_keys_and_shows_a_value(client: Client, kv: KV) -> None:
    put(kv, "builds", one={"status": "passed"}, two=[1, 2])
    put(kv, "a b/c", three=3)
    page = ask(client, cache=kv.alias)
    assert "ns=builds" in page
    assert "ns=a%20b%2Fc" in page
    page = ask(client, cache=kv.alias, ns="builds")
    assert "key=one" in page
    assert "key=two" in page
    assert "key=three" not in page
    page = ask(client, cache=kv.alias, ns="builds", key="one")
    assert "{&#x27;status&#x27;: &#x27;passed&#x27;}" in page
    assert "dict, 1 item" in page


def test_keys_are_searched_by_a_part(client: Client, kv: KV) -> None:
    put(kv, "builds", alpha=1, beta=2)
    page = ask(client, cache=kv.alias, ns="builds", q="ALP")
    assert "key=alpha" in page
    assert "key=beta" not in page
    assert "No key contains" in ask(client, cache=kv.alias, ns="builds", q="gamma")


def test_where_keys_cannot_be_listed_one_is_found_by_its_name(client: Client, settings: Any, tmp_path: Any) -> None:
    files = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": str(tmp_path)}
    settings.CACHES = {"default": {"BACKEND": LOCAL}, "files": files}
    put(KV("files"), "builds", one="hidden in a file")
    page = ask(client, cache="files", ns="builds", key="one")
    assert "hidden in a file" in page
    assert "cannot list its keys: of CACHES, &#x27;default&#x27; can" in page


def test_what_is_not_there_and_what_is_none_are_told_apart(client: Client, kv: KV) -> None:
    put(kv, "builds", nothing=None)
    assert "NoneType" in ask(client, cache=kv.alias, ns="builds", key="nothing")
    page = ask(client, cache=kv.alias, ns="builds", key="else")
    assert "There is no such key" in page
    assert "NoneType" not in page


def test_an_empty_store_teaches_what_it_is_for(client: Client, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": LOCAL, "LOCATION": "an empty one"}}
    assert "c.kv.set(" in ask(client)


def test_more_than_fits_is_said(client: Client, kv: KV) -> None:
    put(kv, "many", **{f"key{number:04}": number for number in range(LISTED + 1)})
    page = ask(client, cache=kv.alias, ns="many")
    assert page.count("key=key") == LISTED
    assert f"Only {LISTED} are shown: search" in page


def test_only_those_with_the_permission_see_it() -> None:
    assert Client().get(PAGE).headers["Location"].startswith("/admin/login/")
    refused = person(permission=False)
    assert refused.get(PAGE).status_code == 403
    assert "keyvaluestore" not in refused.get("/admin/").content.decode()


def test_it_stands_in_the_index_and_on_another_site_and_changes_nothing(client: Client) -> None:
    assert PAGE in client.get("/admin/").content.decode()
    assert client.get("/staff/django_agent_sse/keyvaluestore/").status_code == 200
    for method in ("post", "put", "delete"):
        assert getattr(client, method)(PAGE).status_code == 405
    for page in ("add/", "1/change/", "1/delete/"):
        assert client.get(PAGE + page).status_code == 404


def test_no_page_is_kept_by_a_cache(client: Client) -> None:
    assert "no-store" in client.get(PAGE).headers["Cache-Control"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"ns": "x" * 300, "key": "y"}, "a cache key of 309 characters, 200 fit"),
        ({"ns": "\udcff", "key": "y"}, ""),
        ({"ns": "<script>alert(1)</script>", "key": "<b>"}, "&lt;script&gt;"),
        ({"cache": "nowhere"}, "Look up"),
    ],
)
def test_odd_questions_are_answered(client: Client, query: dict[str, str], says: str) -> None:
    page = ask(client, **{key: value.encode("utf-8", "replace").decode() for key, value in query.items()})
    assert says in page
    assert "<script>alert" not in page


def test_markup_in_keys_and_values_is_text(client: Client, kv: KV) -> None:
    put(kv, "<i>ns</i>", **{"<b>key</b>": "<script>alert(1)</script>"})
    page = ask(client, cache=kv.alias, ns="<i>ns</i>", key="<b>key</b>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for markup in ("<script>alert", "<i>ns", "<b>key"):
        assert markup not in page


def test_a_cache_that_cannot_be_reached_is_told(client: Client, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": LOCAL}, "gone": {"BACKEND": REDIS, "LOCATION": "redis://127.0.0.1:1/0"}}
    assert "ConnectionError" in ask(client, cache="gone", ns="a", key="b")


def test_a_value_is_shown_up_to_a_bound() -> None:
    for value in ("x" * (10 * SHOWN), b"x" * (10 * SHOWN), list(range(1_000_000)), {"a": {"b": ["x" * SHOWN] * 100}}):
        text, cut = pretty(value)
        assert cut
        assert len(text) <= SHOWN
    assert pretty({"a": [1, "two"], "when": datetime(2026, 1, 1, tzinfo=UTC)}) == (
        "{'a': [1, 'two'], 'when': datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)}",
        False,
    )


def test_values_that_cannot_be_shown_are_named() -> None:
    assert pretty(Spiteful()) == ("<Spiteful, whose repr() raised RuntimeError>", False)
    assert pretty([Spiteful()])[0].startswith("<list, whose repr() raised")
    itself: list[Any] = []
    itself.append(itself)
    assert pretty(itself)[0].startswith("[")
    assert pretty("\udcff") == ("\\udcff", False)
    assert kind(b"abc") == "bytes, 3 bytes"


def test_the_model_has_no_table_and_needs_no_migration() -> None:
    call_command("makemigrations", "django_agent_sse", check=True, dry_run=True, verbosity=0)
    call_command("dumpdata", "django_agent_sse", verbosity=0)
    assert list(KeyValueStore.objects.all()) == []
    assert str(KeyValueStore()) == "key-value store"
