"""The chat: a question starts a run, which goes on whoever reads it, and is kept when it is over, however it ended."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import include, path
from django.views.decorators.http import require_POST

from django_agent_sse import AsyncRun, Context, Router, Stream, Topic, permission_required, topic_cursor
from django_agent_sse.contrib.wires import PLAIN

from . import overview, talker
from .access import READ_SECONDS, VIEW, end_with_session
from .models import Build, Exchange
from .views import page

MOST_CHARACTERS = 4_000
"""Of a question."""
LISTED = 100
"""Exchanges on the page."""
LOOKED_AT = 5
"""Builds that the agent looks at."""

router = Router(guards=[permission_required(VIEW)], max_duration=READ_SECONDS)


@page
def chat_page(request: HttpRequest) -> HttpResponse:
    """What somebody has asked, and what the agent is answering."""
    cursor = topic_cursor(_news(request.user.pk).name)  # first: what begins meanwhile comes as news
    exchanges = [*_of(request.user.pk)[:LISTED]][::-1]
    for exchange in exchanges:
        exchange.settle()
    return render(request, "builds/chat.html", {"cursor": cursor, "exchanges": [exchange.told() for exchange in exchanges]})


@require_POST
def clear(request: HttpRequest) -> HttpResponse:
    """Forget what somebody has asked; a run that goes on ends, for its topic is gone."""
    for exchange in _of(request.user.pk):
        exchange.topic.delete()
        exchange.delete()
    _news(request.user.pk).publish("", event="cleared")
    return redirect("chat")


async def whose(c: Context) -> str:
    """Return the key of the run: the agent answers one question of a person at a time."""
    return str(c.user_pk)


@router.run("run/", name="chat-run", topic=Exchange.TOPICS, key=whose, wire=PLAIN, lease=settings.RUN_LEASE, max_body=65_536)
@login_not_required  # the guard answers; an address of a stream leads to no log-in page
async def chat_run(c: Context) -> Callable[[AsyncRun], Awaitable[None]] | HttpResponseBase:
    """Answer ``{"question": …}``: text without a name, and what tools do as ``event: step``."""
    body = await c.json_body()
    question = body.get("question") if isinstance(body, dict) else None
    if not isinstance(question, str) or not 0 < len(question.strip()) <= MOST_CHARACTERS:
        return c.json({"error": f"ask something, in up to {MOST_CHARACTERS:,} characters"}, status=422)

    async def handler(run: AsyncRun) -> None:
        exchange = await Exchange.objects.acreate(user_id=c.user_pk, run=run.id, question=question)
        run.on_end(sync_to_async(exchange.settle))
        await run.write({"run": run.id, "question": question, "process": os.getpid()}, event="question")
        await _news(c.user_pk).apublish({"run": run.id}, event="started")
        await run.pipe(talker.answer(question, _tools(c)))

    return handler


@router.sse("news/", name="chat-news")
@login_not_required
async def chat_news(c: Context, stream: Stream) -> None:
    """What begins in other windows of the same person."""
    end_with_session(c, stream)
    await stream.follow(_news(c.user_pk).name)


def _news(user_pk: object) -> Topic:
    return Topic(f"chats.{user_pk}")


def _of(user_pk: object) -> QuerySet[Exchange]:
    return Exchange.objects.filter(user_id=user_pk).order_by("-pk")


def _tools(c: Context) -> talker.Tools:
    async def remember(fact: str) -> None:
        await c.kv.set("chat", str(c.user_pk), fact)

    async def recall() -> str:
        kept = await c.kv.get("chat", str(c.user_pk))
        return kept.data if kept.exists else ""

    @sync_to_async
    def look() -> list[dict[str, Any]]:
        return [overview.row(build) for build in Build.objects.select_related("started_by")[:LOOKED_AT]]

    return talker.Tools(look=look, remember=remember, recall=recall)


urlpatterns: list[Any] = [
    path("", chat_page, name="chat"),
    path("clear/", clear, name="chat-clear"),
    path("", include(router.urls)),
]
