"""Wrong uses of the public names. Each line that ends with ``# error`` is refused by every type checker, and no other line is."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.http import HttpRequest

from django_agent_sse import (
    Context,
    Guard,
    Router,
    SSEView,
    Stream,
    Topic,
    apublish,
    login_required,
    publish,
    publish_many,
    topic_cursor,
)


async def right(c: Context, stream: Stream) -> None:
    await stream.write("line")


# Options

Router(hartbeat=3)  # error
Router(heartbeat="3")  # error
router = Router()
router.sse("x/", hartbeat=3)  # error
router.sse("x/", right, hartbeat=3)  # error
router.sse("x/", login_required, right, on_disconnect="stop")  # error
router.sse("x/", heartbeat="3")  # error
router.sse("x/", slim=None)  # error
router.topic("x/", "t", hartbeat=3)  # error
router.topic("x/", "t", start="newest")  # error
router.log("x/", "t", hartbeat=3)  # error


class Options(SSEView):
    heartbeat = "3"  # error
    on_disconnect = "stop"  # error


# Handlers


@router.sse("x/")  # error
def blocks(c: Context, stream: Stream) -> None:
    stream.close()


@router.sse("x/")  # error
async def takes_a_request(request: HttpRequest, stream: Stream) -> None:
    await stream.write("line")


@router.sse("x/")  # error
async def returns_nothing(c: Context) -> None:
    c.set_header("X-A", "b")


router.sse("x/", blocks)  # error
router.sse("x/", "handler")  # error


# Guards


def sync_guard(c: Context) -> bool:
    return True


async def says_it_in_words(c: Context) -> str:
    return "yes"


async def forgets_to_return(c: Context) -> None:
    c.text("no", status=403)


async def guards_a_request(request: HttpRequest) -> bool:
    return True


one: Guard = sync_guard  # error
two: Guard = says_it_in_words  # error
three: Guard = forgets_to_return  # error
router.sse("x/", guards=[guards_a_request])  # error
router.sse("x/", sync_guard, right)  # error
router.sse("x/", guards=login_required)  # error
Router(guards=[sync_guard])  # error


class Guards(SSEView):
    guards = [sync_guard]  # error


# Runs

router.run("x/", hartbeat=3)  # error
router.run("x/", wire="ai-sdk")  # error
router.run("x/", access=login_required)  # error
router.run("x/", on_disconnect="stop")  # error
router.run("x/", methods=["PUT"])  # error
router.sse("x/", resumable="yes")  # error


# Publishing

publish("t", 1, on_commit=True)  # error
publish("t")  # error
publish("t", 1, evnt="tick")  # error
publish(42, 1)  # error
publish_many("t", 42)  # error
publish_many("t", [1], retry=1)  # error
Topic("t").publish(1, on_commit=True)  # error
Topic("t").close(on_commit=True)  # error
topic_cursor(1)  # error
transaction.on_commit(partial(publish, "t", 1, on_commit=True))  # error
publish("t", 1).ofset  # error


async def twins(c: Context) -> None:
    await apublish("t", 1, on_commit=True)  # error
    apublish("t", 1).offset  # error
    c.user.no_such_thing  # error
