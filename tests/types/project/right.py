"""Right uses of the public names: no type checker may object to one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, assert_type

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from django_agent_sse import (
    AsyncRun,
    Context,
    Event,
    Guard,
    Router,
    RunAccess,
    SSEView,
    Stream,
    Topic,
    api_key,
    apublish,
    event_log,
    login_required,
    permission_required,
    publish,
    publish_many,
    staff_required,
    topic_cursor,
)
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.wire import Wire


async def owner_only(c: Context) -> bool | HttpResponseBase:
    assert_type(c.user, AbstractBaseUser | AnonymousUser)
    return c.user.is_authenticated or c.json({"error": "sign in"}, status=401)


class Tenants:
    async def __call__(self, c: Context) -> bool:
        return c.header("X-Tenant") is not None


async def report(c: Context, stream: Stream, exception: BaseException) -> None:
    await stream.write("sorry")


guards: list[Guard] = [owner_only, Tenants(), staff_required, permission_required("auth.view_user"), api_key("secret")]
router = Router("live", guards=[login_required], heartbeat=20, slim=True, on_error=report)


@router.sse("direct/<int:build_id>/", name="direct", guards=guards, heartbeat=5, on_disconnect="continue")
async def direct(c: Context, stream: Stream, build_id: int) -> None:
    await stream.write_sse(event="log", data="line")
    stream.close()


@router.sse("by-name/<int:build_id>/", methods=["POST"], csrf_exempt=True, control_events=None)
async def by_name(c: Context, stream: Stream, *, build_id: int) -> None:
    await stream.follow(f"builds.{build_id}")


@router.sse("factory/<int:build_id>/")
def factory(c: Context, build_id: int) -> Callable[[Stream], Awaitable[None]]:
    async def handler(stream: Stream) -> None:
        await stream.write(build_id)

    return handler


@router.sse("async-factory/", max_duration=None, retry=None)
async def async_factory(c: Context) -> Callable[[Stream], Awaitable[None]] | HttpResponse:
    return c.text("gone", status=410)


@router.sse("async-generator/")
async def async_generator(c: Context) -> AsyncIterator[Event]:
    yield Event("one")


@router.sse("sync-generator/<slug:name>/", cache="default", commit_after=0.5)
def sync_generator(c: Context, name: str) -> Iterator[dict[str, str]]:
    yield {"name": name}


@router.sse("made/")
async def made(c: Context) -> AsyncIterator[Event]:
    return async_generator(c)


class Greeter:
    async def __call__(self, c: Context, stream: Stream) -> None:
        await stream.write("hello")


router.sse("object/", Greeter())
router.sse("partial/", partial(direct, build_id=1))


@router.sse("view/")
class Log(SSEView):
    guards = [staff_required, owner_only]
    heartbeat = 10
    max_duration = None
    on_disconnect = "continue"
    pinned = True

    async def handle(self, c: Context, stream: Stream) -> None:
        await stream.write("line")

    async def authorize(self, c: Context) -> bool:
        return True


router.sse("call/", direct)
router.sse("guarded/", login_required, owner_only, direct, heartbeat=None)
assert_type(router.sse("same/", Tenants(), Log), type[Log])
router.topic("topic/<int:id>/", "builds.{id}", guards=guards, heartbeat=3, start="live", methods=["GET"])
router.log("log/<int:id>/", "builds.{id}", guards=guards, send_timeout=5.5)


async def members(c: Context, run: RunAccess) -> bool | HttpResponseBase:
    return run.own or run.verb == "resume" or c.json({"run": run.id}, status=403)


async def chat_of(c: Context) -> str | None:
    return str((await c.json_body())["id"])


@router.run("chats/<slug:chat>/", access=members, lease=10, on_disconnect="cancel", heartbeat=5)
async def chat(c: Context, run: AsyncRun, chat: str) -> None:
    assert_type(await run.pipe(async_generator(c)), int)


@router.run("plain/", key=chat_of, wire=Wire(name="mine", headers={"X-Mine": "1"}), guards=guards)
def plain(c: Context, run: Run) -> None:
    run.write({"n": 1})


@router.run("generated/", key="chats.{chat}", topic="chats", replay=False, max_body=1000)
async def generated(c: Context) -> AsyncIterator[Event]:
    yield Event("one")


@router.run("made/<slug:chat>/")
async def begun_late(c: Context, chat: str) -> Callable[[AsyncRun], Awaitable[object]] | HttpResponse:
    if not chat:
        return c.json({"error": "which chat?"}, status=400)

    async def work(run: AsyncRun) -> None:
        await run.write(chat)

    return work


router.run("guarded/", login_required, plain)
router.sse("resumable/", direct, resumable=True, methods=["POST"])
urlpatterns = [path("one/", Log.as_view(heartbeat=3))]


def outside(build: int) -> str:
    position = publish(f"builds.{build}", {"price": 42}, event="tick", key="once")
    assert_type(position.offset, int)
    positions = publish_many("builds", ["a", "b"], event="log", expect=0)
    assert_type(positions[0].epoch, str)
    assert_type(Topic("builds").close("done", outside_transaction=True), bool)
    transaction.on_commit(partial(publish, "builds", "saved", retry=100), robust=True)
    assert_type(event_log().state("builds").exists, bool)
    return topic_cursor("builds")


async def inside() -> None:
    assert_type((await apublish("builds", Event("x", event="log"))).offset, int)


async def parameters(c: Context, **values: Any) -> None:
    assert_type(c.params["id"], object)
