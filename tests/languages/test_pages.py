"""The pages of the admin, of the monitor and of the errors in German and in Arabic: no English is left on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.urls import path
from django.utils import translation

from django_agent_sse import Topic
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.models import LogTopic
from django_agent_sse.runtime import formatting
from django_agent_sse.script_words import LOG
from django_agent_sse.streams.counters import Refusal, counters
from django_agent_sse.streams.error_responses import wsgi_response

from . import catalogs
from .texts import SAID

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

urlpatterns = [path("admin/", admin.site.urls)]
ADMIN = "/admin/django_agent_sse/"
LIVE = "/admin/agent_sse_monitor/livestreams/"
CONTENT = re.compile(r'<div id="content-main".*<footer|<body.*', re.DOTALL)
NAMES = {
    "Data",
    "Log",
    "Lease",
    "Client",
    "Cache",
    "Bytes",
    "Topic",
    "Topics",
    "Route",
    "Key",
    "Event",
    "Server-Sent Events",
    "live",
}
"""Texts that are also names of something, or the same word."""


class _Shown(HTMLParser):
    """The texts and the attributes that a reader meets."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._quiet = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._quiet += tag in ("script", "style")
        self.found |= {str(value).strip() for name, value in attrs if name in SAID}

    def handle_endtag(self, tag: str) -> None:
        self._quiet -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.found.add(" ".join(data.split()))


def shown(html: str) -> set[str]:
    parser = _Shown()
    found = CONTENT.search(html)
    parser.feed(found[0] if found else html)
    return parser.found - {""}


def patterns(language: str) -> list[re.Pattern[str]]:
    """What a text of the package looks like in English, where the language says it otherwise."""
    english = []
    of_scripts = {text if isinstance(text, str) else text[0] for text in LOG}
    for message in catalogs.read(language):
        if (message.id[0] if message.pluralizable else message.id) in of_scripts:
            continue
        forms = zip(message.id, message.string, strict=False) if message.pluralizable else [(message.id, message.string)]
        for text, translated in forms:
            if text and text != translated and text not in NAMES and len(text) > 3:
                parts = re.split(r"%\(\w+\)s|\{\w+\}|<[^>]*>", text)
                if len("".join(parts).strip()) > 3:
                    english.append(re.compile(".+".join(re.escape(part) for part in parts)))
    return english


@pytest.fixture
def client() -> Iterator[Client]:
    """Somebody who may see everything; there are topics, and a key."""
    event_log().clear_all()
    Topic("builds.1").publish_many(["one", "two"], event="stdout")
    Topic("builds.2").publish("x")
    Topic("builds.2").close("failed")
    event_log().acquire("runs.1", "r-42", 100)
    cache.clear()
    made = Client()
    made.force_login(User.objects.create_superuser("boss"))
    yield made
    event_log().clear_all()


@pytest.mark.parametrize(("language", "direction", "word"), [("de", "ltr", "Zustand"), ("ar", "rtl", "الحالة")])
@pytest.mark.parametrize(
    "page",
    [f"{ADMIN}logtopic/", f"{ADMIN}logtopic/builds.1/change/", f"{ADMIN}logtopic/runs.1/change/", LIVE],
    ids=["list", "topic", "run", "live"],
)
def test_a_page_is_in_the_language_of_the_request(client: Client, page: str, language: str, direction: str, word: str) -> None:
    with translation.override(language):
        html = client.get(page).content.decode()
    assert f'<html lang="{language}" dir="{direction}"' in html
    found = shown(html)
    assert word in found
    english = patterns(language)
    assert [text for text in found if any(one.fullmatch(text) for one in english)] == []


@pytest.mark.parametrize(("language", "word"), [("de", "Fehler und Ablehnungen"), ("ar", "الأخطاء وحالات الرفض")])
@pytest.mark.parametrize("view", ["routes", "problems", "runs", "processes"])
def test_each_part_of_the_monitor_is_in_the_language_of_the_request(client: Client, view: str, language: str, word: str) -> None:
    counters.reset()
    for refusal in Refusal:
        counters.refused("r/", refusal, user="1", address="203.0.113.0/24")
    with translation.override(language):
        found = shown(client.get(f"{LIVE}?view={view}&range=hour").content.decode())
    counters.reset()
    assert word in found
    english = patterns(language)
    assert [text for text in found if any(one.fullmatch(text) for one in english)] == []


@pytest.mark.parametrize(("language", "word"), [("de", "Namensräume"), ("ar", "نطاقات الأسماء")])
def test_the_page_of_keys_and_the_question_before_something_is_lost(client: Client, language: str, word: str) -> None:
    english = patterns(language)
    with translation.override(language):
        keys = shown(client.get(f"{ADMIN}keyvaluestore/").content.decode())
        asked = shown(client.post(f"{ADMIN}logtopic/builds.1/do/trim/", {"keep": "1"}).content.decode())
        answer = client.post(f"{ADMIN}logtopic/builds.1/do/trim/", {"keep": "1", "confirmed": "1"}, follow=True)
    assert {"%(count)s"} & keys == set()
    assert any(word in text for text in keys) or any(catalogs.read(language).get("Cache").string in text for text in keys)
    done = [str(message) for message in answer.context["messages"]]
    for text in [*keys, *asked, *done]:
        assert not any(one.fullmatch(text) for one in english), text
    assert done == [
        {"de": "Topic builds.1: Auf das letzte Ereignis gekürzt. {} entfernt.", "ar": "الموضوع builds.1: قُلّم إلى آخر حدث. {}"}[
            language
        ].format({"de": "1", "ar": "حُذف حدث واحد."}[language])
    ]


@pytest.mark.parametrize(("language", "direction", "title"), [("de", "ltr", "braucht ASGI"), ("ar", "rtl", "يحتاج إلى ASGI")])
def test_the_page_that_says_that_a_stream_needs_asgi(language: str, direction: str, title: str) -> None:
    with translation.override(language):
        html = wsgi_response(RequestFactory().get("/", headers={"accept": "text/html"})).content.decode()
    assert f'<html lang="{language}" dir="{direction}">' in html
    assert re.search(rf"<h1>.*{title}</h1>", html)
    assert [text for text in shown(html) if any(one.fullmatch(text) for one in patterns(language))] == []


@pytest.mark.parametrize(("language", "shown_size"), [("de", "1,2 kB"), ("ar", "\u20661,2 kB\u2069")])
def test_a_size_stands_in_one_piece_where_a_page_runs_from_right_to_left(language: str, shown_size: str) -> None:
    with translation.override(language):
        assert formatting.size(1234) == shown_size


@pytest.mark.parametrize(("language", "plural"), [("de", "Topics"), ("ar", "مواضيع"), ("en", "topics")])
def test_the_index_of_the_admin_names_more_than_one_topic(language: str, plural: str) -> None:
    with translation.override(language):
        assert str(LogTopic._meta.verbose_name_plural) == plural
