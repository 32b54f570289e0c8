"""For the JavaScript client: streams that go on after the last id, whatever has happened in between."""

from __future__ import annotations

import asyncio
import uuid

from django.contrib.auth import get_user_model, login, logout
from django.http import HttpRequest, JsonResponse

from django_agent_sse import Context, Router, Stream, aclose_topic, apublish_many, login_required, publish
from tests.site.gates import passed
from tests.site.watch import notes, watched

router = Router(app_name="client")
TICK = 0.02
talking: set[asyncio.Task[None]] = set()


@router.sse("short/", retry=20, max_duration=0.2)
@router.sse("short-and-broken/", retry=20, max_duration=0.2, control_events=False)
@router.sse("numbers/", retry=100)
async def numbers(c: Context, stream: Stream) -> None:
    """The numbers up to ``?to=``, each with itself as its id, one in 10 ms; as the data that ``?data=`` says, and ``?event=``."""
    form = c.query.get("data")
    async with watched(c, stream):
        for number in range(int(c.last_event_id or 0) + 1, int(c.query["to"]) + 1):
            data = form.format(number) if form else {"number": number}
            await stream.write(data, event=c.query.get("event", "number") or None, id=str(number))
            await asyncio.sleep(0.01)


async def nobody(c: Context) -> bool:
    """A guard that lets nobody in."""
    notes(c)("guard")
    return False


@router.sse("forbidden/", guards=[nobody])
async def forbidden(c: Context, stream: Stream) -> None:
    """Never runs."""


@router.sse("headers/")
async def headers(c: Context, stream: Stream) -> None:
    """What the client sent."""
    await stream.write({"accept": c.header("Accept"), "token": c.header("X-Token"), "cookies": bool(c.request.COOKIES)})


@router.sse("private/")
async def private(c: Context, stream: Stream) -> None:
    """Numbers whose ids no other connection has, and which cannot be gone on with."""
    mine, number = uuid.uuid4().hex, 0
    while True:
        number += 1
        await stream.write(number, id=f"{mine}.{number}")
        await asyncio.sleep(TICK)


def name_of(c: Context) -> str:
    """Who asks; somebody who is not signed in is "nobody"."""
    return c.user.get_username() or "nobody"


@router.sse("mine/")
async def mine(c: Context, stream: Stream) -> None:
    """Events without ids, which say whose they are."""
    while True:
        await stream.write(f"for {name_of(c)}")
        await asyncio.sleep(TICK)


@router.sse("inbox/")
async def inbox(c: Context, stream: Stream) -> None:
    """The topic of who asks."""
    await stream.follow(f"inbox.{name_of(c)}")


@router.sse("members/", guards=[login_required])
async def members(c: Context, stream: Stream) -> None:
    """The same, for those who are signed in."""
    await stream.follow(f"inbox.{name_of(c)}")


async def first_user_or_token(c: Context) -> bool:
    """A guard that looks at who asks, and at a header of the page's own."""
    return name_of(c) == "user-000" or c.header("X-Token") == "right"


@router.sse("first/", guards=[first_user_or_token])
async def first(c: Context, stream: Stream) -> None:
    """Events without ids for those whom the guard lets in."""
    while True:
        await stream.write(f"for {name_of(c)}")
        await asyncio.sleep(TICK)


def tell(request: HttpRequest, name: str) -> JsonResponse:
    """Put one event into somebody's inbox."""
    publish(f"inbox.{name}", f"for {name}")
    return JsonResponse({})


def sign_in(request: HttpRequest, name: str) -> JsonResponse:
    """Be that user from now on."""
    login(request, get_user_model().objects.get(username=name), backend="django.contrib.auth.backends.ModelBackend")
    return JsonResponse({})


def sign_out(request: HttpRequest) -> JsonResponse:
    """Be nobody from now on."""
    logout(request)
    return JsonResponse({})


def new_session_key(request: HttpRequest) -> JsonResponse:
    """Stay signed in under another key, as after a change of the password."""
    request.session.cycle_key()
    return JsonResponse({})


async def talk(request: HttpRequest, topic: str) -> JsonResponse:
    """Publish numbers, one each ``TICK``, until the gate of the topic's name is opened; close it with how many there were."""
    task = asyncio.create_task(_talk(topic))
    talking.add(task)
    task.add_done_callback(talking.discard)
    return JsonResponse({})


async def _talk(topic: str) -> None:
    gate = asyncio.create_task(passed(topic))
    count = 0
    while not gate.done():
        await apublish_many(topic, [str(count)])
        count += 1
        await asyncio.sleep(TICK)
    await aclose_topic(topic, str(count))
