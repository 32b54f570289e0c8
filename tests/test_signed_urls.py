"""Signed addresses: for one path, query, method and user, for a short time, and gone with whatever would end a session."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.core.handlers.asgi import ASGIHandler
from django.template import Context as TemplateContext
from django.template import Template, TemplateSyntaxError
from django.test import Client as DjangoClient
from django.test import RequestFactory, override_settings
from django.urls import reverse, reverse_lazy
from uvicorn.protocols.utils import get_path_with_query_string

from django_agent_sse import (
    Context,
    Event,
    Router,
    Stream,
    apublish,
    arevoke_signed_urls,
    asgi,
    event_log,
    login_required,
    permission_required,
    revoke_signed_urls,
    signed_required,
    signed_url,
)
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.records import Page
from django_agent_sse.exceptions import ArgumentInvalid, AsyncRequired, ConfigurationError, EventLogUnavailable, EventUnreadable
from django_agent_sse.revocations import MOST_KEPT, REVOCATIONS, Revocations, revocations
from django_agent_sse.testing import SSEClient
from tests.access.people import leave, opened, revoked, waiting
from tests.ids import plain
from tests.inprocess import PATIENCE
from tests.serving import ask, served

pytestmark = pytest.mark.django_db(transaction=True)  # users and the log have connections of their own
router = Router()
SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"


async def name(c: Context, stream: Stream, **values: object) -> None:
    await stream.write(f"{c.user} {sorted(c.query)}")


router.sse("only/<str:what>/", signed_required, name, name="only")
router.sse("also/", login_required, name, name="also", signed=True)
router.sse("staff/", signed_required, permission_required("auth.view_user"), name, name="staff")
router.sse("post/", name, name="post", methods=["GET", "POST"], signed=True, csrf_exempt=True, guards=[login_required])
router.sse("cookies/", login_required, name, name="cookies")
router.topic("builds/<int:id>/", "builds.{id}", name="builds", guards=[signed_required])


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    backend.reset()
    revocations.reset()
    with served(router, middleware=SESSIONS):
        yield
    backend.reset()
    revocations.reset()


@pytest.fixture
def ada(transactional_db: None) -> Any:
    return get_user_model().objects.create_user("ada", password="one")


def cookies_of(user: Any) -> dict[str, str]:
    client = DjangoClient()
    client.force_login(user)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


async def refusal(url: str, **about: Any) -> tuple[int | None, str]:
    answer = await ask(url, **about)
    assert answer.status != 401 or answer.headers["www-authenticate"] == 'SignedURL realm="django"'
    return answer.status, answer.json()["error"]["reason"]


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


# What it is for


async def test_it_lets_its_user_in_without_cookies_and_headers(ada: Any) -> None:
    answer = await ask(signed_url(reverse("only", args=["x"]), user=ada))
    assert (answer.status, answer.data) == (200, ["ada []"])


async def test_an_address_for_nobody_is_good_for_whoever_has_it() -> None:
    for nobody in (None, AnonymousUser()):
        assert (await ask(signed_url("/only/x/", user=nobody))).data == ["AnonymousUser []"]


async def test_the_user_of_the_address_is_who_asks_and_not_the_one_whose_cookies_come_along(ada: Any) -> None:
    bob = await get_user_model().objects.acreate_user("bob")
    cookies = await sync_to_async(cookies_of)(bob)
    assert (await ask("/cookies/", headers=cookies)).data == ["bob []"]
    assert (await ask(signed_url("/only/x/", user=ada), headers=cookies)).data == ["ada []"]
    assert (await ask(signed_url("/only/x/"), headers=cookies)).data == ["AnonymousUser []"]
    assert (await ask(signed_url("/also/"), headers=cookies)).status == 401, "for nobody is not for whoever is signed in"
    assert (await ask("/also/", headers=cookies)).data == ["bob []"]


async def test_the_guards_after_it_are_asked_about_its_user(ada: Any) -> None:
    assert (await ask(signed_url("/staff/", user=ada))).status == 403
    boss = await get_user_model().objects.acreate_superuser("boss")
    assert (await ask(signed_url("/staff/", user=boss))).data == ["boss []"]


async def test_a_route_may_take_it_beside_a_session(ada: Any) -> None:
    assert (await ask("/also/")).status == 401
    assert (await ask(signed_url("/also/", user=ada))).data == ["ada []"]
    assert (await ask("/also/?sse_signature=guessed")).json()["error"]["reason"] == "invalid"
    with served(router, middleware=[*SESSIONS, LOGIN_REQUIRED]):
        assert (await ask("/also/")).status == 401
        assert (await ask(signed_url("/also/", user=ada))).data == ["ada []"]


async def test_it_opens_nothing_where_the_route_does_not_take_it(ada: Any) -> None:
    assert (await ask(signed_url("/cookies/", user=ada))).status == 401


async def test_it_is_for_one_path_one_query_and_one_method(ada: Any) -> None:
    url = signed_url("/only/x/?a=1&b=2&a=0", user=ada)
    signature = parse_qs(urlsplit(url).query)["sse_signature"][0]
    assert (await ask(url)).data == ["ada ['a', 'b']"]
    assert (await ask(f"/only/x/?sse_signature={signature}&b=2&a=0&a=1")).status == 200, "in another order"
    for other in (
        "/only/y/?a=1&b=2&a=0",
        "/only/x/?a=1&b=3&a=0",
        "/only/x/?a=1&b=2",
        "/only/x/?a=1&b=2&a=0&c=",
        "/also/?a=1&b=2&a=0",
    ):
        assert await refusal(f"{other}&sse_signature={signature}") == (401, "invalid"), other
    assert (await ask(url, method="HEAD")).status == 200
    post = signed_url("/post/", user=ada, method="post")
    assert (await ask(post, method="POST", body=b"")).data == ["ada []"]
    assert await refusal(post) == (401, "invalid")
    assert await refusal(signed_url("/post/", user=ada), method="POST", body=b"") == (401, "invalid")


@pytest.mark.parametrize(("signed", "sent", "status"), [
    ("https://one.example.com", "one.example.com", 200),
    ("https://ONE.example.com:443", "one.example.com", 200),
    ("//one.example.com", "one.example.com:443", 200),
    ("https://one.example.com:8443", "one.example.com:8443", 200),
    ("https://u:p@one.example.com", "one.example.com", 200),
    ("https://bücher.example.com", "xn--bcher-kva.example.com", 200),
    ("https://one.example.com", "two.example.com", 401),
    ("https://one.example.com", "one.example.com:8443", 401),
    ("https://one.example.com:8443", "one.example.com", 401),
    ("", "two.example.com", 200),
])  # fmt: skip
async def test_one_with_a_host_is_for_that_host(signed: str, sent: str, status: int, settings: Any) -> None:
    settings.ALLOWED_HOSTS = [".example.com"]
    url = signed_url(f"{signed}/only/x/")
    assert url.startswith(f"{signed}/only/x/?sse_signature=")
    assert (await ask(url.removeprefix(signed), headers={"Host": sent})).status == status
    assert (await ask(url.removeprefix(signed), headers={"Host": "evil.example"})).status == (400 if signed else status)


@pytest.mark.parametrize("path", ["/only/a b/", "/only/a+b/", "/only/ä%/", "/only/%C3%A4%25/"])
async def test_a_path_is_the_same_however_it_is_written(path: str) -> None:
    what = {"/only/a b/": "a b", "/only/a+b/": "a+b"}.get(path, "ä%")
    url = signed_url(reverse("only", args=[what]))
    with served(router):
        answer = await ask(url.replace(urlsplit(url).path, f"/only/{what}/"))  # which the test's client quotes
    assert answer.status == 200


async def test_a_client_goes_on_after_its_last_id() -> None:
    for number in range(4):
        await apublish("builds.7", number)
    url = signed_url("/builds/7/")
    whole = await first_events(url, 4)
    ids = [event.id for event in whole]
    assert [event.data for event in await first_events(f"{url}&last_event_id={ids[1]}", 2)] == ["2", "3"]
    assert [event.data for event in await first_events(url, 1, last_event_id=ids[2])] == ["3"]


async def first_events(url: str, count: int, **about: Any) -> list[Event]:
    async with SSEClient(timeout=PATIENCE) as client:
        return await (await client.open(url, **about)).events(count)


@pytest.mark.parametrize("sent", ["", "x", ":::", "x" * 2000, "\x00", "%FF", "a&sse_signature=b"])
async def test_what_is_no_signature_is_refused(sent: str) -> None:
    assert await refusal(f"/only/x/?sse_signature={sent}") == (401, "invalid")


async def test_without_one_it_is_refused() -> None:
    assert await refusal("/only/x/") == (401, "missing")


async def test_another_salt_of_the_project_signs_nothing(ada: Any) -> None:
    other = signing.TimestampSigner(salt="mine").sign_object([0, 60, str(ada.pk), ""])
    assert await refusal(f"/only/x/?sse_signature={other}") == (401, "invalid")


# How long


async def test_it_is_good_for_a_minute_or_as_long_as_it_says(ada: Any, clock: list[float]) -> None:
    short, long = signed_url("/only/x/", user=ada), signed_url("/only/x/", user=ada, max_age=600)
    clock[0] += 59
    assert (await ask(short)).status == 200
    clock[0] += 2
    assert await refusal(short) == (401, "expired")
    assert (await ask(long)).status == 200
    clock[0] += 540
    assert await refusal(long) == (401, "expired")


async def test_the_setting_says_how_long_and_none_switches_it_off(clock: list[float]) -> None:
    with override_settings(AGENT_SSE={"SIGNED_MAX_AGE": 5}):
        url = signed_url("/only/x/")
    with override_settings(AGENT_SSE={"SIGNED_MAX_AGE": None}):
        with pytest.raises(ConfigurationError, match="switches signed addresses off"):
            signed_url("/only/x/")
        assert await refusal(url) == (401, "invalid")
    assert (await ask(url)).status == 200
    clock[0] += 6
    assert await refusal(url) == (401, "expired")


async def test_it_is_not_good_for_longer_than_the_log_keeps_revocations(monkeypatch: pytest.MonkeyPatch) -> None:
    url = signed_url("/only/x/", max_age=600)
    later(monkeypatch, 60)
    memory = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_AGE": 30}}
    with override_settings(AGENT_SSE={"EVENT_LOG": memory}):
        assert await refusal(url) == (401, "expired")


async def test_one_of_the_future_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 60)
    url = signed_url("/only/x/")
    monkeypatch.setattr(time, "time", now)
    assert await refusal(url) == (401, "invalid")


# What ends it


async def test_a_new_password_deactivation_and_deletion_end_it(ada: Any) -> None:
    url = signed_url("/only/x/", user=ada)
    ada.is_active = False
    await ada.asave()
    assert await refusal(url) == (401, "revoked")
    ada.is_active = True
    await ada.asave()
    assert (await ask(url)).status == 200
    ada.set_password("two")
    await ada.asave()
    assert await refusal(url) == (401, "revoked")
    url = signed_url("/only/x/", user=ada)
    assert (await ask(url)).status == 200
    await ada.adelete()
    assert await refusal(url) == (401, "revoked")


class Banning(ModelBackend):
    """As those of projects are that let somebody in no longer."""

    def get_user(self, user_id: Any) -> Any:
        return None


async def test_whom_no_back_end_knows_any_more_it_lets_in_no_longer(ada: Any, settings: Any) -> None:
    url = signed_url("/only/x/", user=ada)
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.BaseBackend", f"{__name__}.Banning"]
    assert await refusal(url) == (401, "revoked")
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Banning", "django.contrib.auth.backends.ModelBackend"]
    assert (await ask(url)).status == 200


async def test_where_back_ends_give_no_users_the_model_does(ada: Any, settings: Any) -> None:
    """As where all users come with tokens, and back ends have permissions only."""
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.BaseBackend"]
    url = signed_url("/only/x/", user=ada)
    assert (await ask(url)).data == ["ada []"]
    await ada.adelete()
    assert await refusal(url) == (401, "revoked")


async def test_a_rotated_key_keeps_it_until_the_old_one_is_dropped(ada: Any, settings: Any) -> None:
    url, old = signed_url("/only/x/", user=ada), settings.SECRET_KEY
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[old]):
        assert (await ask(url)).data == ["ada []"]
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[]):
        assert await refusal(url) == (401, "invalid")


@pytest.mark.parametrize("named", ["user", "url", "signed", "both"])
async def test_what_was_revoked_is_refused_and_what_is_signed_later_is_not(ada: Any, named: str) -> None:
    bob = await get_user_model().objects.acreate_user("bob")
    url = signed_url("/only/x/?a=1", user=ada)
    by = {
        "user": {"user": ada},
        "url": {"url": "/only/x/?a=1"},
        "signed": {"url": url},
        "both": {"user": ada, "url": "/only/x/?a=1"},
    }[named]
    others = {"user": signed_url("/only/x/?a=1", user=bob)} if "user" in by else {}
    if "url" in by:
        others["url"] = signed_url("/only/y/?a=1", user=ada)
    await arevoke_signed_urls(**by)
    assert await refusal(url) == (401, "revoked")
    for other in others.values():
        assert (await ask(other)).status == 200
    assert (await ask(signed_url("/only/x/?a=1", user=ada))).status == 200


@pytest.mark.parametrize("named", ["user", "url"])
async def test_streams_that_it_has_opened_end_when_it_is_revoked(ada: Any, named: str) -> None:
    bob = await get_user_model().objects.acreate_user("bob")
    own = Router()
    own.sse("one/", signed_required, waiting)
    own.sse("two/", signed_required, waiting)
    with served(own, middleware=SESSIONS):
        hers = await opened(signed_url("/one/", user=ada))
        others = [await opened(signed_url("/two/", user=bob))]
        await arevoke_signed_urls(**{"user": {"user": ada}, "url": {"url": "/one/"}}[named])
        await revoked(hers)
        await leave(*others)


def test_it_is_revoked_in_sync_code_too(ada: Any) -> None:
    revoke_signed_urls(user=ada)
    assert event_log().state(REVOCATIONS).top == 1


async def test_under_a_loop_the_plain_verb_names_its_twin(ada: Any) -> None:
    with pytest.raises(AsyncRequired, match="arevoke_signed_urls"):
        revoke_signed_urls(user=ada)


async def test_a_process_that_begins_later_knows_what_was_revoked(ada: Any) -> None:
    url = signed_url("/only/x/", user=ada)
    await arevoke_signed_urls(user=ada)
    revocations.reset()
    assert await refusal(url) == (401, "revoked")


async def test_where_the_log_has_lost_revocations_all_that_is_older_is_refused(ada: Any) -> None:
    url = signed_url("/only/x/", user=ada)
    await arevoke_signed_urls(url="/another/")
    assert (await ask(url)).status == 200
    await event_log().adelete(REVOCATIONS)
    assert await refusal(url) == (401, "revoked")
    assert (await ask(signed_url("/only/x/", user=ada))).status == 200


async def test_where_the_log_has_lost_its_latest_revocations_all_that_is_older_is_refused(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server restarts without the last second: the epoch is the same, and the next revocation stands where one was."""
    for _ in range(3):
        await arevoke_signed_urls(url="/another/")
    url = signed_url("/only/x/", user=ada)
    assert (await ask(url)).status == 200
    log = event_log()
    page = await log.aread_after(REVOCATIONS, 0)
    kept = [dataclasses.replace(page, records=page.records[:2], top=2)]

    def read(offset: int) -> Page:
        return dataclasses.replace(kept[0], records=kept[0].records[offset:])

    with monkeypatch.context() as patch:
        patch.setattr(type(log), "aread_after", reading(read))
        assert await refusal(url) == (401, "revoked")
        url = signed_url("/only/x/", user=ada)
        assert (await ask(url)).status == 200
    await arevoke_signed_urls(user=ada)
    revoked = (await log.aread_after(REVOCATIONS, 3)).records[0]._replace(offset=3)
    kept[0] = dataclasses.replace(page, records=[*page.records[:2], revoked], top=3)
    monkeypatch.setattr(type(log), "aread_after", reading(read))
    assert await refusal(url) == (401, "revoked")


async def test_revocations_of_another_history_are_told_by_their_nonces(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a failover that has lost one, when there is another one at its offset."""
    url, log = signed_url("/only/x/", user=ada), event_log()
    await arevoke_signed_urls(url="/another/")
    page = await log.aread_after(REVOCATIONS, 0)
    (record,) = page.records
    first = dataclasses.replace(page, records=[record._replace(nonce="FIRST")])
    other = dataclasses.replace(page, records=[record._replace(nonce="OTHER")])
    now = [first]
    forks: list[str] = []

    def read(offset: int) -> Page:
        nonce = now[0].records[0].nonce
        return dataclasses.replace(now[0], records=now[0].records[offset:], before=nonce if offset else "")

    async def afork(self: Any, topic: str, epoch: str) -> None:
        forks.append(epoch)
        now[0] = dataclasses.replace(now[0], epoch="another")

    monkeypatch.setattr(type(log), "aread_after", reading(read))
    monkeypatch.setattr(type(log), "afork", afork)
    assert (await ask(url)).status == 200
    assert (await ask(url)).status == 200
    assert forks == []
    now[0] = other
    assert await refusal(url) == (401, "revoked")
    assert forks == [page.epoch]
    assert (await ask(signed_url("/only/x/", user=ada))).status == 200


def reading(read: Callable[[int], Page]) -> Any:
    """For ``aread_after``."""

    async def aread_after(self: Any, topic: str, offset: int = 0, *_: Any) -> Page:
        assert topic == REVOCATIONS
        return read(offset)

    return aread_after


async def test_what_cannot_be_read_may_have_taken_back_all_that_is_older(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, log = signed_url("/only/x/", user=ada), event_log()
    await arevoke_signed_urls(url="/another/")
    whole = type(log)._read_after

    def damaged(self: Any, topic: str, offset: int, limit: int) -> Any:
        if offset < 1:
            raise EventUnreadable("damaged", 1)
        return whole(self, topic, offset, limit)

    monkeypatch.setattr(type(log), "_read_after", damaged)
    assert await refusal(url) == (401, "revoked")
    url = signed_url("/only/x/", user=ada)
    assert (await ask(url)).status == 200
    await arevoke_signed_urls(user=ada)
    assert await refusal(url) == (401, "revoked")


async def test_trimmed_revocations_count_as_lost(ada: Any) -> None:
    url = signed_url("/only/x/", user=ada)
    for _ in range(3):
        await arevoke_signed_urls(url="/another/")
    assert (await ask(url)).status == 200
    await event_log().atrim(REVOCATIONS, max_events=1)
    assert (await ask(url)).status == 200, "this process had read them"
    revocations.reset()
    assert await refusal(url) == (401, "revoked")


async def test_whoever_can_only_write_to_the_log_takes_nothing_back(ada: Any) -> None:
    url = signed_url("/only/x/", user=ada)
    key = revocations.event_of("x", 0.0).data.partition(":")[0]
    for data in ("", "x", f"{key}:forged", signing.Signer(salt="other").sign_object(["x", 9e9]), "x" * 5000):
        await event_log().aappend(REVOCATIONS, Event(data, event="revoked"))
    assert (await ask(url)).status == 200


def test_what_a_process_keeps_in_mind_is_bounded() -> None:
    known = Revocations()
    for number in range(MOST_KEPT + 1):
        known.note(str(number), float(number))
    assert len(known._since) <= MOST_KEPT // 2 + 1
    assert known.holds(("0",), 0.0)
    assert known.holds(("another",), 4000.0), "what it forgot counts as revoked"
    assert not known.holds(("another",), float(MOST_KEPT))


async def test_while_the_log_cannot_be_read_nobody_is_let_in(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise EventLogUnavailable("down")

    url = signed_url("/only/x/", user=ada)
    monkeypatch.setattr(type(event_log()), "_read_after", fail)
    assert (await ask(url)).status == 503
    answer = await ask(url, headers={"Accept": "text/event-stream"})
    assert (answer.status, [event.name for event in answer.events]) == (200, ["sse.overloaded"])


async def test_guards_that_are_asked_again_ask_about_the_user_and_not_about_the_time(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Context] = []

    async def keep(c: Context) -> bool:
        asked.append(c)
        return True

    own = Router()
    own.sse("x/", signed_required, keep, name)
    with served(own, middleware=SESSIONS):
        assert (await ask(signed_url("/x/", user=ada))).status == 200
    (before,) = asked

    async def again() -> object:
        c = Context(before.request, {}, route="x/", cache="default")
        verdict = await signed_required(c)
        return verdict if isinstance(verdict, bool) else verdict.status_code

    later(monkeypatch, 3600)
    assert await again() is True
    ada.is_active = False
    await ada.asave()
    assert await again() == 401
    ada.is_active = True
    await ada.asave()
    assert await again() is True
    await arevoke_signed_urls(user=ada)
    assert await again() == 401


# What it is made of


@pytest.mark.parametrize("url", ["only/x/", "", "//", 7, None, "/x/#part", "?a=1", "http://[x/", f"http://{'ä' * 64}/"], ids=repr)
def test_what_is_no_address_is_refused_at_once(url: Any) -> None:
    with pytest.raises(ArgumentInvalid):
        signed_url(url)


WRONG: list[dict[str, Any]] = [
    *({"max_age": age} for age in (0, 86_401, True, 1.5)),
    *({"method": method} for method in ("G T", "", 1)),
    *({"user": user} for user in ("ada", 7)),
]


@pytest.mark.parametrize("about", WRONG, ids=repr)
def test_what_cannot_be_signed_is_refused_at_once(about: Any) -> None:
    with pytest.raises(ArgumentInvalid):
        signed_url("/only/x/", **about)


def test_a_user_without_a_key_is_refused() -> None:
    with pytest.raises(ArgumentInvalid, match="saved"):
        signed_url("/only/x/", user=get_user_model()(username="new"))


@pytest.mark.parametrize(
    "about", [{}, {"user": AnonymousUser()}, {"user": AnonymousUser(), "url": "/x/"}, {"url": "x"}], ids=plain
)
def test_revoking_names_what(about: Any) -> None:
    with pytest.raises(ArgumentInvalid):
        revoke_signed_urls(**about)


async def test_an_address_that_is_reversed_later_is_one(ada: Any) -> None:
    url = signed_url(reverse_lazy("only", args=["x"]), user=ada)  # type: ignore[arg-type]
    assert (await ask(url)).data == ["ada []"]


def test_a_query_goes_on() -> None:
    assert "/only/x/?a=1&sse_signature=" in signed_url("/only/x/?a=1")


def test_it_holds_no_hash_of_the_user_that_sessions_hold(ada: Any) -> None:
    assert (
        ada.get_session_auth_hash()
        not in signing.b64_decode(signed_url("/only/x/", user=ada).partition("=")[2].partition(":")[0].encode()).decode()
    )


# In a template


def rendered(template: str, **about: Any) -> str:
    return Template(f"{{% load agent_sse %}}{template}").render(TemplateContext(about)).replace("&amp;", "&")


async def test_a_template_signs_for_the_user_of_its_request(ada: Any) -> None:
    request = RequestFactory().get("/")
    request.user = ada
    url = await sync_to_async(rendered)("{% url 'only' 'x' as src %}{% sse_signed_url src %}", request=request)
    assert (await ask(url)).data == ["ada []"]
    other = await sync_to_async(rendered)("{% sse_signed_url '/only/x/' user=None max_age=5 %}", request=request)
    assert (await ask(other)).data == ["AnonymousUser []"]


def test_a_template_without_a_request_names_the_user() -> None:
    with pytest.raises(TemplateSyntaxError, match="user="):
        rendered("{% sse_signed_url '/only/x/' %}")


# Never to be seen


async def test_it_is_taken_off_the_request_before_middleware_of_the_route_and_guards(
    ada: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def look(c: Context) -> bool:
        request: Any = c.request
        seen.extend(
            [
                request.META["QUERY_STRING"],
                str(request.scope["query_string"]),
                request.get_full_path(),
                repr(request),
                str(request.GET),
            ]
        )
        return True

    def layer(get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            seen.append(request.get_full_path())
            return get_response(request)

        return middleware

    private = Router()
    private.sse("only/x/", signed_required, look, name, middleware=[layer])
    url = signed_url("/only/x/?a=1&last_event_id=5", user=ada)
    signature = url.partition("sse_signature=")[2]
    caplog.set_level(logging.DEBUG)
    scopes: list[Any] = []
    handler = ASGIHandler()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await handler(scope, receive, send)

    with served(private):
        answer = await ask(url.replace("sse_", "sse%5F"), application=application)
    assert answer.data == ["ada ['a', 'last_event_id']"]
    assert get_path_with_query_string(scopes[0]) == "/only/x/?a=1&last_event_id=5", "what uvicorn writes into its access log"
    assert seen[0] == "/only/x/?a=1&last_event_id=5"
    assert signature not in "\n".join([*seen, caplog.text])


async def test_behind_the_wrapper_it_is_off_the_scope_of_which_the_server_makes_its_access_log(ada: Any) -> None:
    scopes: list[Any] = []
    wrapped = asgi.wrap(ASGIHandler())

    async def server(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await wrapped(scope, receive, send)

    url = signed_url("/only/x/", user=ada)
    for accept in ("text/event-stream", "*/*"):
        for about in (signed_url("/only/x/?a=1", user=ada), url):
            answer = await ask(about, application=server, headers={"Accept": accept})
            assert answer.data[0].startswith("ada ")
        # A path that is nearly right leads to no route, and what is noted of it would be good for the right one.
        assert (await ask(url.replace("/only/", "/Only/"), application=server, headers={"Accept": accept})).status == 404
    assert [scope["query_string"] for scope in scopes] == [b"a=1", b"", b""] * 2
    assert "sse_signature" not in str(scopes)
    assert url.partition("sse_signature=")[2] not in str(scopes)


@pytest.mark.parametrize(
    ("logged", "left"),
    [
        ("GET /only/x/?a=1&sse_signature=x:y&b=2 HTTP/1.1", "GET /only/x/?a=1&b=2 HTTP/1.1"),
        ("GET /only/x/?sse_signature=x:y HTTP/1.1", "GET /only/x/ HTTP/1.1"),
        ("sse_signature=x:y", ""),
        ("a=1&sse_signature=x", "a=1"),
        ("https://testserver/?sse_signature=x&a=1", "https://testserver/?a=1"),
        ("GET /only/x/?a=1 HTTP/1.1", "GET /only/x/?a=1 HTTP/1.1"),
    ],
)
def test_what_gunicorn_logs_of_the_address_itself_is_filtered(logged: str, left: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("gunicorn.access")
    caplog.set_level(logging.INFO)
    logger.info("%(r)s", {"r": logged, "s": 200})
    logger.info("without parts")
    assert caplog.messages == [left, "without parts"]
