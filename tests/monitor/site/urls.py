"""Streams to look at, and the admin."""

from __future__ import annotations

import asyncio
import itertools

from django.contrib import admin
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from django_agent_sse import Context, Router, Stream, apublish, login_required
from django_agent_sse.runs.async_run import AsyncRun

router = Router(app_name="streams")


@router.sse("builds/<int:build>/log/")
async def build_log(c: Context, stream: Stream, build: int) -> None:
    """A topic."""
    await stream.follow(f"builds.{build}")


@router.sse("notifications/", guards=[login_required])
async def notifications(c: Context, stream: Stream) -> None:
    """A topic of the user's own."""
    await stream.follow(f"notices.{c.user.pk}")


@router.sse("prices/", send_timeout=600)
async def prices(c: Context, stream: Stream) -> None:
    """Something all the time."""
    for number in itertools.count():
        await stream.write({"price": number, "padding": "x" * int(c.query.get("size", 60))}, event="tick")
        await stream.sleep(float(c.query.get("pause", 0.5)))


@router.sse("answers/")
async def answers(c: Context, stream: Stream) -> None:
    """One event, with an id of its own."""
    await stream.write(c.query.get("data", "hello"), id=c.query.get("id", "answer-1"))
    await stream.wait_closed()


@router.sse("publish/<int:build>/")
async def publishes(c: Context, stream: Stream, build: int) -> None:
    """Publishes a line now and then, and says so."""
    for number in itertools.count():
        await apublish(f"builds.{build}", f"[{number:04}] compiling module_{number}.c")
        await stream.write(number)
        await asyncio.sleep(0.3)


@router.sse("fails/")
async def fails(c: Context, stream: Stream) -> None:
    """An error."""
    await stream.write("hello")
    raise RuntimeError("as asked")


@router.run("chats/<int:chat>/", topic="chats.{chat}", csrf_exempt=True)
async def chat(c: Context, run: AsyncRun, chat: int) -> None:
    """Talks until somebody stops it."""
    for number in itertools.count():
        await run.write(f"This is sentence {number} of what an agent says.")
        await asyncio.sleep(0.3)


def log_in(request: HttpRequest) -> HttpResponse:
    """As whoever the query names."""
    login(request, User.objects.get(username=request.GET["name"]))
    return HttpResponse()


def demote(request: HttpRequest) -> HttpResponse:
    """Whoever the query names belongs to the staff no more."""
    user = User.objects.get(username=request.GET["name"])
    user.is_staff = False
    user.save()
    return HttpResponse()


urlpatterns = [path("login/", log_in), path("demote/", demote), path("admin/", admin.site.urls), path("", include(router.urls))]
