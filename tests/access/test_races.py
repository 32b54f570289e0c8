"""What is ordered while a stream begins: at each single step of that, and of a topic that it begins to follow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler

from django_agent_sse import Context, Router, Stream, login_required, publish
from django_agent_sse.access import book as booking
from django_agent_sse.access import django_signals
from django_agent_sse.access.orders import Close, Lately, Recheck
from django_agent_sse.access.service import access
from django_agent_sse.asgi import wrap
from tests.inprocess import eventually
from tests.serving import connect, served

from .changes import MIDDLEWARE, cookie, person, sign_in, sign_out
from .people import PATIENCE, leave, opened, revoked, waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("at_once")]


class Steps:
    """Counts the steps of all tasks that begin in a block, and does something before one of them."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.done = 0
        self._at, self._act = at, act

    @property
    def acted(self) -> bool:
        return self.done > self._at

    @contextmanager
    def counted(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._task)
        try:
            yield
        finally:
            loop.set_task_factory(None)

    def _task(self, loop: Any, coroutine: Coroutine[Any, Any, Any], **about: Any) -> asyncio.Task[Any]:
        async def run() -> Any:
            return await _Stepped(coroutine, self.step)

        return asyncio.Task(run(), loop=loop, **about)

    def step(self) -> None:
        if self.done == self._at:
            self._act()
        self.done += 1


class _Stepped:
    """Awaits a coroutine, and tells of each of its steps before it is made."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: Callable[[], None]) -> None:
        self._coroutine, self._step = coroutine, step

    def __await__(self) -> Any:
        inner, error = self._coroutine.__await__(), None
        while True:
            self._step()
            try:
                waits_for = inner.send(None) if error is None else inner.throw(error)
            except StopIteration as end:
                return end.value
            try:
                yield waits_for
                error = None
            except BaseException as thrown:
                error = thrown


async def can_follow(user: Any, topic: str) -> bool:
    return await _may_follow(topic)


answers: dict[str, bool] = {}


async def _may_follow(topic: str) -> bool:
    answer = answers.get(topic, True)
    await asyncio.sleep(0)  # what was true is known, and not yet told
    return answer


@pytest.mark.parametrize("what", ["asked again", "closed", "topic asked again"])
async def test_no_stream_slips_through_at_any_step_of_its_beginning(what: str, settings: Any) -> None:
    if what == "topic asked again":
        settings.AGENT_SSE = {"CAN_FOLLOW": f"{__name__}.can_follow"}
        await sync_to_async(publish)("private", "hello")
    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    began: list[float] = []

    async def guard(c: Context) -> bool:
        began.append(c._began)
        answer = answers.get("guard", True)
        await asyncio.sleep(0)
        return answer

    async def follows(c: Context, stream: Stream) -> None:
        await stream.follow("private", start="oldest")

    router = Router(recheck=None)
    router.sse("here/", follows if what == "topic asked again" else waiting, guards=[login_required, guard])
    pk = str(user.pk)
    ends = {
        "asked again": ("guard", Recheck(users=frozenset({pk}))),
        "topic asked again": ("private", Recheck(users=frozenset({pk}))),
        "closed": ("nothing", Close(users=frozenset({pk}))),
    }
    name, order = ends[what]
    refused = ended = 0
    with served(router, middleware=MIDDLEWARE):
        for at in range(500):
            answers.clear()
            access.reset()  # as in a process that has had no stream yet
            acted_at: list[float] = []

            def act(acted_at: list[float] = acted_at) -> None:
                answers[name] = False
                acted_at.append(time.monotonic())
                access.execute(order)

            steps = Steps(at, act)
            with steps.counted():
                client = connect(
                    "/here/", headers={"Accept": "text/event-stream", **cookie(session)}, application=wrap(ASGIHandler())
                )
                client._client.timeout = PATIENCE
                await client.begun()
                if client.status == 200 and not steps.acted:
                    await client.take(1)
            if not steps.acted:  # it was there before anything was ordered
                await leave(client)
                break
            if client.status != 200:
                assert client.status == 403, at
                refused += 1
                await client.over(PATIENCE)
            elif what == "closed" and acted_at[0] < began[-1]:
                await leave(client)  # it came after the order, and the guards let it in
            else:
                await client.over(PATIENCE)
                end = (await client.rest())[-1]
                assert (end.event, end.data) == ("sse.end", '{"reason":"revoked"}'), at
                ended += 1
        else:
            pytest.fail("it never began")
    assert ended >= 3
    assert at >= 5
    assert bool(refused) is (what != "closed")


async def test_a_stream_that_begins_between_a_log_out_and_the_end_of_its_session_is_asked_about_after_it(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Django says that somebody signs out before their session is gone; sessions in a cache say nothing when they go."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    monkeypatch.setattr(booking, "SECOND_LOOK", 3_600.0)
    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    router = Router(recheck=None)
    router.sse("here/", waiting, guards=[login_required])
    with served(router, middleware=MIDDLEWARE):
        access.book()
        await sync_to_async(django_signals._logged_out)(None, request=_Request(session), user=user)
        client = await opened("/here/", session)
        await access.book().idle()
        assert not client.complete
        await sync_to_async(session.flush)()
        book = access.book()
        book._second = dict.fromkeys(book._second, 0.0)  # its time has come
        book._look_again()
        await revoked(client)


class _Request:
    def __init__(self, session: Any) -> None:
        self.session = session


async def test_what_comes_shortly_before_a_second_look_has_a_second_look_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "SECOND_LOOK", 20.0)
    asked = {"a": 0, "b": 0}

    async def guard(c: Context) -> bool:
        asked[str(c.query["who"])] += 1
        return True

    router = Router(recheck=None)
    router.sse("here/", waiting, guards=[guard])
    with served(router, middleware=MIDDLEWARE):
        a, b = await opened("/here/?who=a"), await opened("/here/?who=b")
        book = access.book()
        first, second = book.permits.values()
        now = asyncio.get_running_loop().time()
        book._want_twice([first])
        book._want_twice([second])
        book._second[first] = now - 1.0  # its time has come
        await book.idle()
        assert asked == {"a": 2, "b": 2}
        book._look_again()
        await book.idle()
        assert asked == {"a": 3, "b": 2}
        assert [*book._second] == [second]
        book._want_twice([first])
        assert [*book._second] == [second, first]
        await book.idle()
        await leave(a, b)
    assert book._second == {}


async def test_who_has_waited_so_long_for_the_guards_that_orders_are_forgotten_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Lately, "SECONDS", -1.0)  # longer ago than guards ever took
    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    go_on, asked = asyncio.Event(), []

    async def slow(c: Context) -> bool:
        asked.append(c.user.pk)
        await go_on.wait()
        return len(asked) == 1

    router = Router(recheck=None)
    router.sse("slow/", waiting, guards=[slow])
    with served(router, middleware=MIDDLEWARE):
        client = connect("/slow/", headers={"Accept": "text/event-stream", **cookie(session)})
        await eventually("it is asked", lambda: asked, PATIENCE)
        access.book().take(Close(topic="another"))
        go_on.set()
        await revoked_at_last(client)


async def revoked_at_last(client: Any) -> None:
    await client.over(PATIENCE)
    end = (await client.rest())[-1]
    assert (end.event, end.data) == ("sse.end", '{"reason":"revoked"}')


def test_orders_that_are_too_many_are_forgotten_and_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lately, "MOST", 3)
    lately, now = Lately(), time.monotonic()
    orders = [Recheck(users=frozenset({str(number)})) for number in range(5)]
    for number, order in enumerate(orders):
        lately.note(order, now + number / 1000)
    assert lately.since(now + 0.0005) is None
    assert lately.since(now + 0.001) is None
    assert [order for _, order in lately.since(now + 0.0015) or ()] == orders[2:]


async def test_a_log_out_that_is_rolled_back_lets_the_client_back_in() -> None:
    """The session is there again, and whoever was told to come back is let in."""
    from django.db import transaction

    user = await sync_to_async(person)("ann")
    session = await sync_to_async(sign_in)(user)
    router = Router(recheck=None)
    router.sse("here/", waiting, guards=[login_required])

    def change() -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            sign_out(user, session)
            1 / 0  # noqa: B018

    with served(router, middleware=MIDDLEWARE):
        client = await opened("/here/", session)
        await sync_to_async(change)()
        await revoked(client)
        again = await opened("/here/", session)
        await access.book().idle()
        await leave(again)
