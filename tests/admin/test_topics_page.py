"""The admin's page of topics, over every event log: what it shows to whom, and what each permission lets somebody do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from django_agent_sse import Topic
from django_agent_sse.admin.topics import LISTED, _trail
from django_agent_sse.contrib.monitor import inspector
from django_agent_sse.contrib.monitor.cluster import Readers
from django_agent_sse.contrib.monitor.reporter import REPORTS
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.eventlog.records import TopicState
from django_agent_sse.eventlog.validation import InternalTopic
from django_agent_sse.runtime import formatting
from django_agent_sse.wire import Event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

urlpatterns = [path("admin/", admin.site.urls)]
PAGE = "/admin/django_agent_sse/logtopic/"
SECRET = "planted-secret"
LOGS = {
    "memory": "django_agent_sse.eventlog.memory.MemoryEventLog",
    "database": "django_agent_sse.eventlog.database.DatabaseEventLog",
    "redis": "django_agent_sse.eventlog.redis.RedisEventLog",
}


@pytest.fixture(autouse=True, params=LOGS)
def log(request: pytest.FixtureRequest) -> Iterator[None]:
    """A log with three topics; one holds a secret."""
    options = {"url": request.getfixturevalue("redis_url"), "prefix": "topics-page"} if request.param == "redis" else {}
    with override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": LOGS[request.param], "OPTIONS": options}}):
        event_log().clear_all()
        Topic("builds.1").publish_many([SECRET, SECRET], event="stdout")
        Topic("builds.2").publish({"n": 1}, event="tick")
        Topic("builds.2").close("failed")
        Topic("odd/../na?me %#&").publish("x")
        event_log().append_unrung(REPORTS, Event(SECRET))
        yield
        event_log().clear_all()
    reset()


def person(*permissions: str, name: str = "somebody", **client: Any) -> Client:
    """Somebody of the staff, who may also see the page."""
    user = User.objects.create_user(name, is_staff=True)
    codes = ("view_logtopic", *permissions)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    made = Client(**client)
    made.force_login(user)
    return made


def page(client: Client, path: str = "", status: int = 200, **query: str) -> str:
    answer = client.get(f"{PAGE}{path}", query)
    assert answer.status_code == status
    return answer.content.decode()


def names(html: str) -> list[str]:
    """The addresses of the listed topics."""
    return re.findall(r'href="/admin/django_agent_sse/logtopic/([^"/]+)/change/"', html)


def post(client: Client, topic: str, verb: str, status: int = 302, **data: str) -> str:
    answer = client.post(f"{PAGE}{topic}/do/{verb}/", data)
    assert answer.status_code == status
    return answer.content.decode()


def test_it_lists_topics_without_the_packages_own_and_browses_by_prefix() -> None:
    client = person()
    html = page(client)
    assert names(html) == ["builds.1", "builds.2", "odd_2F.._2Fna_3Fme%20_25_23_26"]
    assert "closed: failed" in html
    assert "?q=builds." in html
    assert names(page(client, q="builds.2")) == ["builds.2"]
    assert not names(page(client, q="sse.", internal="1"))
    assert "No topic begins with" in page(client, q="nothing")


def test_more_topics_than_a_page_holds_are_all_reached_though_internal_ones_lie_between() -> None:
    event_log().clear_all()
    made = sorted([*(f"a{number:03}" for number in range(LISTED - 3)), *(f"t{number:03}" for number in range(LISTED))])
    for name in (*made, *(InternalTopic(f"sse.{number:03}") for number in range(LISTED * 2))):
        event_log().append_unrung(name, Event("x"))
    client, seen, after = person(), list[str](), ""
    for _ in range(5):
        html = page(client, after=after)
        seen += names(html)
        more = re.search(r"after=([^\"&]+)", html)
        if more is None:
            break
        after = more[1]
    assert seen == made


def test_from_each_page_of_topics_one_comes_back_to_the_one_before() -> None:
    client = person()
    for number in range(LISTED * 3 + 1):
        Topic(f"t{number:03}").publish("x")
    seen, address = list[list[str]](), "?q=t"
    while address:
        html = client.get(f"{PAGE}{address}").content.decode()
        seen.append(names(html))
        address = _linked(html, "next")
    assert [len(some) for some in seen] == [LISTED, LISTED, LISTED, 1]
    for before in reversed(seen[:-1]):
        address = _linked(html, "prev")
        html = client.get(f"{PAGE}{address}").content.decode()
        assert names(html) == before
    assert _linked(html, "prev") == ""


def _linked(html: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]*)"', html)
    return found[1].replace("&amp;", "&") if found else ""


def test_a_long_way_back_is_forgotten_at_its_beginning() -> None:
    way = ["", *(f"{number:03}" + "x" * 197 for number in range(30))]
    assert _trail(way) == way[-9:]


def test_what_is_in_a_topic_is_seen_with_the_permission_only() -> None:
    client = person()
    assert SECRET not in page(client)
    html = page(client, "builds.1/change/")
    assert SECRET not in html
    assert "those who may see payloads" in html
    seeing = person("view_payloads", name="seeing")
    assert SECRET in page(seeing, "builds.1/change/")
    assert SECRET not in page(seeing)


async def test_so_is_its_stream() -> None:
    from asgiref.sync import sync_to_async

    for permissions, status in (((), 403), (("view_payloads",), 200)):
        client = AsyncClient()
        made = await sync_to_async(person)(*permissions, name=f"with-{len(permissions)}")
        client.cookies = made.cookies
        for part in ("", "range/", "raw/?follow=0"):
            answer = await client.get(f"{PAGE}builds.2/log/{part}", headers={"Accept": "text/event-stream"})
            assert answer.status_code == status, part
            if status == 403:
                continue
            body = answer.content if not answer.streaming else b"".join([chunk async for chunk in answer.streaming_content])
            assert b"tick" in body, "a named event is a line with its name"
            assert b'{"n":1}' in body or b'{\\"n\\":1}' in body
    anonymous = await AsyncClient().get(f"{PAGE}builds.1/log/")
    assert anonymous.status_code == 401


def test_who_may_not_see_the_page_sees_none_of_it() -> None:
    stranger = Client()
    stranger.force_login(User.objects.create_user("stranger", is_staff=True))
    for part in ("", "builds.1/change/"):
        assert stranger.get(f"{PAGE}{part}").status_code == 403
        assert "/login/" in Client().get(f"{PAGE}{part}").headers["Location"]
    assert stranger.post(f"{PAGE}builds.1/do/delete/", {"confirmed": "1"}).status_code == 403
    assert "/login/" in Client().post(f"{PAGE}builds.1/do/delete/").headers["Location"]
    assert Topic("builds.1").state().exists


GIVEN = {
    "publish": {"event": "note", "text": SECRET},
    "trim": {"keep": "1"},
    "close": {"reason": "done"},
    "delete": {},
}


@pytest.mark.parametrize("verb", GIVEN)
def test_each_verb_has_a_permission_of_its_own_and_a_line_in_the_log(verb: str) -> None:
    others = person(*(f"{other}_logtopic" for other in GIVEN if other != verb), "view_payloads", name="others")
    assert f'data-action="{verb}"' not in page(others, "builds.1/change/")
    post(others, "builds.1", verb, 403, **GIVEN[verb], confirmed="1")
    assert event_log().state("builds.1").top == 2
    client = person(f"{verb}_logtopic")
    assert f'data-action="{verb}"' in page(client, "builds.1/change/")
    if verb != "publish":
        assert "confirmed" in post(client, "builds.1", verb, 200, **GIVEN[verb]), "asked once more"
        assert LogEntry.objects.count() == 0
    post(client, "builds.1", verb, **GIVEN[verb], confirmed="1")
    state = event_log().state("builds.1")
    done = {"publish": state.top == 3, "trim": state.floor == 1, "close": state.closed == "done", "delete": not state.exists}
    assert done[verb]
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.user.get_username()) == ("builds.1", "somebody")
    assert SECRET not in entry.change_message
    assert (entry.get_admin_url() or "").endswith("/logtopic/builds.1/change/")


STARTED = "r-42"
"""The id of a run."""


def test_runs_are_shown_with_their_leases_and_endings() -> None:
    client, log = person(), event_log()
    assert 'data-label="Run"' not in page(client), "where there are none, nobody reads of them"
    log.acquire("runs.1", STARTED, 3000)
    log.acquire("runs.2", "over", 100)
    log.close("runs.2", "finished", holder="over")
    log.acquire("runs.3", "dead", 0.001)
    time.sleep(0.02)
    html = page(client, q="runs.")
    assert re.fullmatch(rf"{STARTED} +lease \d+ min \d+ s", cells(html, "runs.1")["Run"])
    assert re.fullmatch("over +finished", cells(html, "runs.2")["Run"])
    assert re.fullmatch("dead +lost", cells(html, "runs.3")["Run"])
    assert cells(html, "runs.3")["State"] == "closed: lost", "whoever looks first closes it"
    Topic("runs.1").stop_run(STARTED)
    assert "asked to stop, lease" in cells(page(client, q="runs."), "runs.1")["Run"]
    html = page(client, "runs.1/change/")
    assert f'<dd dir="ltr">{STARTED}</dd>' in html
    assert re.search(r"<dt>Lease</dt><dd>\d+ min \d+ s left \(asked to stop\)</dd>", html)
    assert "<dt>Ending</dt><dd>lost</dd>" in page(client, "runs.3/change/")
    assert "<dt>Run</dt>" not in page(client, "builds.1/change/")


def test_a_run_is_stopped_by_permission_after_a_question_and_with_a_line_in_the_log() -> None:
    log = event_log()
    log.acquire("runs.1", STARTED, 100)
    others = person("publish_logtopic", "trim_logtopic", "close_logtopic", "delete_logtopic", "view_payloads", name="others")
    assert 'data-action="stop"' not in page(others, "runs.1/change/")
    post(others, "runs.1", "stop", 403, run=STARTED, confirmed="1")
    client = person("stop_logtopic")
    assert 'data-action="stop"' not in page(client, "builds.1/change/"), "there is none"
    html = page(client, "runs.1/change/")
    assert re.findall('data-action="([a-z]+)"', html) == ["stop"]
    assert re.search(rf'<input type="hidden" name="run" value="{STARTED}"', html)
    assert STARTED in post(client, "runs.1", "stop", 200, run=STARTED), "asked once more"
    assert not log.lease("runs.1").stop
    assert LogEntry.objects.count() == 0
    post(client, "runs.1", "stop", run=STARTED, confirmed="1")
    assert log.lease("runs.1").stop
    assert f"Asked the run {STARTED} to stop." in page(client, "runs.1/change/")
    (entry,) = LogEntry.objects.all()
    assert (entry.object_id, entry.user.get_username()) == ("runs.1", "somebody")
    assert entry.change_message == f"Asked the run {STARTED} to stop."


def test_a_stop_on_a_page_that_is_old_never_meets_a_newer_run() -> None:
    log = event_log()
    log.acquire("runs.1", "newer", 100)
    client = person("stop_logtopic")
    for topic in ("runs.1", "builds.1"):
        post(client, topic, "stop", run=STARTED, confirmed="1")
        assert "Nothing was done" in page(client)
    assert not log.lease("runs.1").stop
    post(client, "runs.1", "stop", 400, confirmed="1")
    assert LogEntry.objects.count() == 0
    log.close("runs.1", "finished", holder="newer")
    assert 'data-action="stop"' not in page(client, "runs.1/change/")
    post(client, "runs.1", "stop", run="newer", confirmed="1")
    assert "The run newer is over (finished)." in page(client)


async def test_nobody_opens_or_changes_the_packages_own_topics_not_even_a_superuser() -> None:
    client = Client()
    await sync_to_async(client.force_login)(boss := await sync_to_async(User.objects.create_superuser)("boss"))
    for part in ("change/", "log/", "log/range/", "log/raw/"):
        streaming = AsyncClient()
        await streaming.aforce_login(boss)
        answer = await streaming.get(f"{PAGE}sse.monitor.reports/{part}", {"download": "1"})
        assert answer.status_code == 404, part
    for verb, given in GIVEN.items():
        await sync_to_async(post)(client, "sse.monitor.reports", verb, 404, **given, confirmed="1")
    assert (await event_log().astate(REPORTS)).top == 1


@pytest.mark.parametrize(
    ("verb", "given", "told"),
    [
        ("publish", {"event": "a\nb", "text": "x"}, "event"),
        ("publish", {"text": ""}, "required"),
        ("trim", {"keep": "-1"}, "greater"),
        ("close", {"reason": "ä"}, "ASCII"),
    ],
)
def test_what_cannot_be_is_said_on_the_page(verb: str, given: dict[str, str], told: str) -> None:
    client = person(f"{verb}_logtopic")
    html = post(client, "builds.1", verb, 400, **given)
    assert re.search(rf'class="errornote"[^>]*>[^<]*{told}', html)


def test_a_closed_topic_takes_no_event_and_a_repeated_click_does_no_harm() -> None:
    client = person("publish_logtopic", "close_logtopic", "delete_logtopic")
    html = page(client, "builds.2/change/")
    assert re.findall('data-action="([a-z]+)"', html) == ["delete"]
    assert "1 event, " in post(client, "builds.2", "delete", 200), "asked once more, of as many as there are"
    post(client, "builds.2", "publish", text="x")
    assert "Nothing was done" in page(client)
    assert event_log().state("builds.2").top == 1
    assert LogEntry.objects.count() == 0
    assert client.post(f"{PAGE}nothing/do/delete/", {"confirmed": "1"}).status_code == 404


def test_forged_requests_and_other_methods_are_refused() -> None:
    client = person("delete_logtopic", enforce_csrf_checks=True)
    assert client.post(f"{PAGE}builds.1/do/delete/", {"confirmed": "1"}).status_code == 403
    assert client.get(f"{PAGE}builds.1/do/delete/").status_code == 405
    assert Topic("builds.1").state().exists


def test_odd_names_have_pages_and_impossible_ones_none() -> None:
    client = person()
    (odd,) = [name for name in names(page(client)) if name.startswith("odd")]
    assert "odd/../na?me %#&amp;" in page(client, f"{odd}/change/")
    page(client, "nothing/change/", 404)
    page(client, "_C3_A4/change/", 404)


@pytest.mark.parametrize("name", [".", "..", "...", "_2E", "_2E_2E"])
def test_a_topic_that_is_named_like_a_folder_has_a_page_and_can_be_deleted(name: str) -> None:
    """Browsers resolve ``/../`` in an address: what is named so could be seen, published to and deleted by nobody."""
    client = person("delete_logtopic", "view_payloads")
    before = names(page(client))
    Topic(name).publish(f"this is {name}")
    (key,) = {*names(page(client))} - {*before}
    address = f"{PAGE}{key}/change/"
    assert urljoin("http://testserver/", address) == f"http://testserver{address}"
    assert f"<title>{name} | " in page(client, f"{key}/change/")
    post(client, key, "delete", confirmed="1")
    assert not event_log().state(name).exists


def test_values_of_topics_stay_out_of_caches() -> None:
    assert "no-store" in person("view_payloads").get(f"{PAGE}builds.1/change/")["Cache-Control"]


class Follower:
    """Of some topics, as the registry counts them."""

    def __init__(self, *topics: str) -> None:
        self.topics = topics


def readers_of(html: str, topic: str) -> str:
    found = re.search(rf'logtopic/{topic}/change/.*?data-label="Readers"[^>]*><span[^>]*>([^<]+)<', html, re.DOTALL)
    assert found
    return found[1]


def test_readers_that_are_not_known_are_a_dash_and_why_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    client = person()
    followers = [Follower("builds.1"), Follower("builds.1", "elsewhere.1")]
    monkeypatch.setattr(inspector, "open_streams", lambda: followers)
    html = page(client)
    assert (readers_of(html, "builds.1"), readers_of(html, "builds.2")) == ("2", "0")
    assert "a dash means" not in html
    followers += [Follower(*[f"a.{number}" for number in range(inspector.TOPICS)])] * 3
    html = page(client)
    assert (readers_of(html, "builds.1"), readers_of(html, "builds.2")) == ("–", "–"), "others are read more: 200 of them"
    assert f"its {inspector.TOPICS} most read topics" in html
    html = page(client, q="builds.")
    assert (readers_of(html, "builds.1"), readers_of(html, "builds.2")) == ("2", "0")
    assert "a dash means" not in html


def test_what_one_process_left_out_is_not_known_of_all() -> None:
    readers = Readers(counts=(({"a": 3, "b": 1}, True), ({"a": 2}, False)))
    assert (readers.of("a"), readers.of("b"), readers.of("c")) == (5, None, None)
    assert Readers(counts=(({"a": 3}, True),)).of("c") == 0
    assert Readers(counts=(({"a": 3}, True),), missing=1).of("a") is None


def cells(html: str, topic: str) -> dict[str, str]:
    """What stands in a topic's line, by the column's name."""
    found = re.search(rf"logtopic/{topic}/change/.*?</tr>", html, re.DOTALL)
    assert found
    return {
        name: re.sub(r"<[^>]+>", " ", cell).strip()
        for name, cell in re.findall(r'data-label="([^"]+)"[^>]*>(.*?)</td>', found[0])
    }


def test_what_a_topic_keeps_is_told_in_events_bytes_and_age() -> None:
    Topic("builds.3").publish_many(["x" * 1000] * 5)
    event_log().trim("builds.3", max_events=2)
    state = event_log().state("builds.3")
    assert state.oldest_at is not None
    html = page(person())
    found = cells(html, "builds.3")
    assert " ".join(found["Events"].split()) == "2 of 5"
    assert found["Bytes"] == formatting.size(state.bytes)
    assert 2_000 <= state.bytes < 3_000
    assert found["Oldest event"] in {formatting.span(seconds / 10) for seconds in range(300)}
    assert found["Last event"] in {f"{formatting.span(seconds / 10)} ago" for seconds in range(300)}
    assert " ".join(cells(html, "builds.1")["Events"].split()) == "2"


def test_ages_are_those_of_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    state = TopicState(
        **{**asdict(event_log().state("builds.1")), "oldest_at": now.timestamp() - 7200, "newest_at": now.timestamp() - 90}
    )
    monkeypatch.setattr(event_log(), "state", lambda _: state)
    monkeypatch.setattr("django_agent_sse.admin.topics.datetime", SimpleNamespace(now=lambda zone: now))
    found = cells(page(person()), "builds.1")
    assert (found["Oldest event"], found["Last event"]) == (formatting.span(7200), f"{formatting.span(90)} ago")
