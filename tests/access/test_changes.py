"""What happens to a user or a session ends their streams at once, and nobody else's; who comes back is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import m2m_changed, post_save

from django_agent_sse import Context, Router, close_streams, login_required, permission_required, staff_required
from django_agent_sse.access import book as booking
from django_agent_sse.access import closing, django_signals
from django_agent_sse.access.django_signals import teller
from django_agent_sse.access.orders import Recheck
from django_agent_sse.access.service import access
from django_agent_sse.runtime.pools import writers
from django_agent_sse.streams.registry import open_streams
from tests.inprocess import eventually
from tests.serving import ask, connect, served

from .changes import CHANGES, MIDDLEWARE, PERMISSION, REFUSED, cookie, person, sign_in, sign_out
from .people import PATIENCE, leave, opened, revoked, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("at_once")]
GUARDS = {"signed-in": login_required, "staff": staff_required, "permitted": permission_required(PERMISSION)}


@pytest.fixture
def site() -> Iterator[None]:
    """Routes that nobody is asked again about but for what Django's signals say."""
    router = Router(recheck=None)
    for name, guard in GUARDS.items():
        router.sse(f"{name}/", waiting, guards=[guard])
    router.sse("public/", waiting)
    with served(router, middleware=MIDDLEWARE):
        yield
    assert not open_streams()


@sync_to_async
def signed_in_person(name: str, **about: Any) -> tuple[User, Any]:
    user = person(name, **about)
    return user, sign_in(user)


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("change", CHANGES)
async def test_whose_access_ends_has_no_stream_left(change: str) -> None:
    route, about, happens = CHANGES[change]
    user, session = await signed_in_person("ann", **about)
    _, others = await signed_in_person("ben", **(about | ({"group": "other"} if "group" in about else {})))
    anonymous, other = await opened("/public/"), await opened(f"/{route}/", others)
    mine = [await opened(f"/{route}/", session) for _ in range(2)]
    await sync_to_async(happens)(user, session)
    await revoked(*mine)
    answer = await ask(f"/{route}/", headers=cookie(session), last_event_id="1")
    assert answer.status == (REFUSED[route] if route != "signed-in" else 401)
    await access.book().idle()
    await leave(anonymous, other)


@pytest.mark.usefixtures("site")
async def test_a_client_without_control_events_is_broken_off() -> None:
    user, session = await signed_in_person("ann")
    client = await opened("/signed-in/", session, headers={"Accept": "*/*"})
    await sync_to_async(sign_out)(user, session)
    await client.over(PATIENCE)
    assert await client.broken_off() == []


@pytest.mark.usefixtures("site")
async def test_a_stream_without_guards_ends_with_who_has_opened_it() -> None:
    """Its handler runs as that user. The client comes back as nobody, where anybody may."""
    user, session = await signed_in_person("ann")
    mine, anonymous = await opened("/public/", session), await opened("/public/")
    await sync_to_async(sign_out)(user, session)
    await revoked(mine)
    again = await opened("/public/", session)
    await leave(again, anonymous)


@pytest.mark.parametrize(("name", "is_told"), [("_csrftoken", False), ("cart", True)])
@pytest.mark.usefixtures("site")
async def test_who_signs_in_leaves_the_session_of_before_and_what_anybody_may_have_goes_on(
    name: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django gives the session another key then, and deletes the old one. Nobody's guards go by what is Django's own."""

    def anonymous() -> Any:
        session = sign_in(person("ann"))
        session.flush()
        session[name] = 1
        session.save()
        return session

    told: list[Any] = []
    session = await sync_to_async(anonymous)()
    client = await opened("/public/", session)
    execute = access.execute
    monkeypatch.setattr(access, "execute", lambda order: (told.append(order), execute(order)))
    await sync_to_async(session.cycle_key)()
    assert [type(order) for order in told] == [Recheck] * is_told
    await access.book().idle()
    await leave(client)


@pytest.mark.usefixtures("site")
async def test_other_sessions_of_who_signs_out_go_on_and_with_a_new_password_all_end() -> None:
    user, here = await signed_in_person("ann")
    there = await sync_to_async(sign_in)(user)
    first, second = await opened("/signed-in/", here), await opened("/signed-in/", there)
    await sync_to_async(sign_out)(user, here)
    await revoked(first)
    await access.book().idle()
    assert not second.complete
    await sync_to_async(CHANGES["gets a new password"][2])(user, there)
    await revoked(second)


@pytest.mark.usefixtures("site")
async def test_a_log_in_asks_nobody_and_a_change_that_leaves_the_right_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user, session = await signed_in_person("ann")
    client = await opened("/signed-in/", session)
    told: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(access, "execute", told.append)
        await user.asave(update_fields=["last_login"])
        assert told == []
    before = access.book().asked
    user.email = "a@example.org"
    await user.asave()
    await eventually("it is asked", lambda: access.book().asked > before, PATIENCE)
    await access.book().idle()
    await leave(client)


@pytest.mark.usefixtures("site")
async def test_what_is_rolled_back_has_not_happened() -> None:
    user, session = await signed_in_person("ann")
    client = await opened("/signed-in/", session)
    before = access.book().asked

    def change() -> None:
        with transaction.atomic():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                user.save()
                1 / 0  # noqa: B018
            Group.objects.create(name="something else")

    await sync_to_async(change)()
    await asyncio.sleep(0)
    await access.book().idle()
    assert access.book().asked == before
    await leave(client)


@pytest.mark.usefixtures("site")
async def test_changes_of_one_transaction_are_told_once_when_it_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(access, "execute", told.append)

    def change() -> None:
        with transaction.atomic():
            users = [person(f"user {number}") for number in range(3)]
            for user in users:
                user.save()
            users[0].user_permissions.clear()
            assert told == []

    await sync_to_async(change)()
    (order,) = told
    assert len(order.users) == 3


async def test_changes_that_come_one_after_another_are_told_together_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_signals, "PAUSE", 0.2)
    told: list[Any] = []
    monkeypatch.setattr(access, "execute", told.append)

    def change() -> None:
        teller.flush()
        for user in [person(f"user {number}") for number in range(300)]:
            user.save()

    began = time.monotonic()
    await sync_to_async(change)()
    users = {str(pk) async for pk in User.objects.values_list("pk", flat=True)}
    await eventually("all are told", lambda: {*users} == {name for order in told for name in order.users}, PATIENCE)
    assert len(told) <= (time.monotonic() - began) / django_signals.PAUSE + 3


@pytest.mark.parametrize(("log", "by_another"), [("database.DatabaseEventLog", False), ("memory.MemoryEventLog", True)])
def test_no_other_thread_writes_to_sqlite_between_what_a_command_does(
    settings: Any, monkeypatch: pytest.MonkeyPatch, log: str, by_another: bool
) -> None:
    """It would be the one writer there, and a transaction that reads before it writes would find the database locked."""
    held: list[Any] = []
    monkeypatch.setattr(django_signals, "PAUSE", 3600.0)
    monkeypatch.setattr(django_signals, "_later", lambda seconds, do: held.append(do) or threading.Timer(seconds, do))
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": f"django_agent_sse.eventlog.{log}"}}
    told: list[threading.Thread] = []
    monkeypatch.setattr(access, "publish_quietly", lambda order: told.append(threading.current_thread()))
    people = [person(f"user {number}") for number in range(3)]
    teller.flush()
    for one in people:
        one.save()
    assert len(held) == by_another
    for do in held:  # as the timer does, when its time has come
        writers.submit(do).result(PATIENCE)
    assert len(told) == (1 if by_another else len(people))
    assert {thread is threading.current_thread() for thread in told} == {not by_another}


async def test_sessions_that_had_expired_are_cleared_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(access, "execute", told.append)
    _, session = await signed_in_person("ann")
    await signed_in_person("ben")
    rows = Session.objects.filter(pk=session.session_key)
    await rows.aupdate(expire_date="2020-01-01T00:00:00Z")
    await sync_to_async(type(session).clear_expired)()
    assert told == []
    await Session.objects.all().adelete()
    (order,) = told
    assert len(order.sessions) == 1


async def test_the_signals_can_be_switched_off(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(access, "execute", told.append)
    settings.AGENT_SSE = {"RECHECK_ON_SIGNALS": False}
    user, session = await signed_in_person("ann")
    for change in ("gets a new password", "signs out", "is deleted"):
        await sync_to_async(CHANGES[change][2])(user, session)
    assert told == []


async def test_settings_that_cannot_be_used_do_not_keep_a_user_from_being_saved(settings: Any) -> None:
    settings.AGENT_SSE = {"HEARTBEET": 1}
    user, _ = await signed_in_person("ann")
    await user.asave()


@pytest.mark.usefixtures("site")
async def test_a_log_that_cannot_be_written_keeps_nobody_from_saving_a_user_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    user, session = await signed_in_person("ann")
    client = await opened("/signed-in/", session)

    def fails(order: Any) -> None:
        raise OSError("no route to the log")

    monkeypatch.setattr(access, "publish", fails)
    await user.asave()
    user.is_active = False
    await user.asave()
    await revoked(client)
    assert caplog.text.count("who may have streams cannot be told to other processes") == 1
    access.failures.recovered()


async def test_an_order_that_comes_while_the_guards_are_being_asked_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guards have said yes; what they have seen was over before the stream was there."""
    user, session = await signed_in_person("ann")
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(c: Context) -> bool:
        if not asked.is_set():
            asked.set()
            await go_on.wait()
        return True

    router = Router(recheck=None)
    router.sse("slow/", waiting, guards=[login_required, slow])
    with served(router, middleware=MIDDLEWARE):
        access.book()
        client = connect("/slow/", headers=cookie(session))
        await asked.wait()
        user.is_active = False
        await user.asave()
        go_on.set()
        await client.take(1)
        await revoked(client)


async def test_what_an_order_asks_for_is_asked_once_more_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica may not know yet what has changed."""
    monkeypatch.setattr(booking, "SECOND_LOOK", 0.05)
    user, session = await signed_in_person("ann")
    may = [True, True, False]

    async def late(c: Context) -> bool:
        return may.pop(0)

    router = Router(recheck=None)
    router.sse("late/", waiting, guards=[late])
    with served(router, middleware=MIDDLEWARE):
        client = await opened("/late/", session)
        await user.asave()
        await revoked(client)
    assert may == []


async def test_a_superuser_who_saves_ten_thousand_users_is_told_in_a_few_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_signals, "PAUSE", 0.25)
    told: list[Any] = []
    monkeypatch.setattr(access, "execute", told.append)

    def change() -> None:
        teller.flush()
        for pk in range(1, 10_001):  # the signal is what is measured, not a database
            post_save.send(User, instance=User(pk=pk), created=False, using="default", raw=False, update_fields=None)

    began = time.monotonic()
    await sync_to_async(change)()
    await eventually(
        "all are told", lambda: {*map(str, range(1, 10_001))} == {pk for order in told for pk in order.users}, PATIENCE
    )
    assert len(told) <= (time.monotonic() - began) / django_signals.PAUSE + 3 + 10_000 / 500


async def test_a_group_of_ten_thousand_that_loses_a_permission_is_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    user, _ = await signed_in_person("ann", group="many")
    told: list[Any] = []
    monkeypatch.setattr(access, "execute", told.append)
    group = await user.groups.aget()
    await sync_to_async(group.permissions.clear)()
    await sync_to_async(group.user_set.clear)()
    assert [(order.everybody, order.users) for order in told] == [(True, frozenset()), (True, frozenset())]
    told.clear()
    await sync_to_async(m2m_changed.send)(
        User.groups.through,
        instance=group,
        action="post_remove",
        reverse=True,
        model=User,
        pk_set={*range(1, 10_001)},
        using="default",
    )
    assert [len(order.users) for order in told] == [500] * 20


async def test_what_sends_no_signal_is_seen_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """``QuerySet.update()``, ``bulk_update()``: as the documentation says."""
    router = Router(recheck=0.1)
    router.sse("often/", waiting, guards=[login_required])
    router.sse("never/", waiting, guards=[login_required], recheck=None)
    told: list[Any] = []
    with served(router, middleware=MIDDLEWARE):
        user, session = await signed_in_person("ann")
        often, never = await opened("/often/", session), await opened("/never/", session)
        await access.book().idle()
        monkeypatch.setattr(access, "execute", told.append)
        user.is_active = False
        await User.objects.abulk_update([user], ["is_active"])
        await revoked(often)
        assert told == []
        await leave(never)


class Transaction:
    """A connection in a transaction, as far as it matters here."""

    in_atomic_block = True

    def __init__(self) -> None:
        self.hooks: list[Any] = []

    def on_commit(self, hook: Any) -> None:
        self.hooks.append(hook)

    def commit(self) -> None:
        self.in_atomic_block = False
        for hook in self.hooks:
            hook()


def test_in_transactions_of_several_databases_streams_are_closed_after_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows in which of them the change is that matters; one that is rolled back tells nothing."""
    told: list[Any] = []
    monkeypatch.setattr(access, "tell", told.append)
    first, second, third, done = Transaction(), Transaction(), Transaction(), Transaction()
    done.in_atomic_block = False
    monkeypatch.setattr(closing, "connections", SimpleNamespace(all=lambda **_: [first, done, second, third]))
    close_streams(topic="t")
    assert told == []
    first.commit()
    assert [order.topic for order in told] == ["t"]
    third.commit()
    assert [order.topic for order in told] == ["t", "t"]
    assert told[0].id != told[1].id  # else other processes would take the second for a copy
    second.in_atomic_block = False
    close_streams(topic="u")
    assert told[-1].topic == "u"
