"""Streams that not everybody may have, and what a test does to the people who have them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import OperationalError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse

from django_agent_sse import (
    Context,
    Router,
    Stream,
    close_streams,
    login_required,
    permission_required,
    publish_many,
    staff_required,
    topic_permissions,
)
from django_agent_sse.access.service import access
from django_agent_sse.exceptions import EventLogError
from tests.access.changes import CHANGES, PERMISSION, person, sign_in

T = TypeVar("T")
router = Router(app_name="access")
GUARDS = {"signed-in": login_required, "staff": staff_required, "permitted": permission_required(PERMISSION)}


async def waiting(c: Context, stream: Stream) -> None:
    await stream.write("hello", id="1")
    await stream.wait_closed()


for _name, _guard in GUARDS.items():
    router.sse(f"{_name}/", waiting, name=_name, guards=[_guard])
router.sse("public/", waiting, name="public")
router.topic("private/<slug:name>/", "private.{name}", name="private", start="live")
router.topic("of-group/<int:pk>/", "of-group.{pk}", name="of-group", start="live")
_of_group = topic_permissions({"of-group.{pk}": (PERMISSION, Group)})


def can_follow(user: Any, topic: str) -> bool:
    """Who is in the group of a private topic may follow it, and whoever may see a group what is about that."""
    kind, _, name = topic.partition(".")
    if kind == "of-group":
        return _of_group(user, topic)
    return kind != "private" or user.groups.filter(name=name).exists()


def on_sqlite(do: Callable[[], T]) -> T:
    """Do it, again where SQLite could not wait: a transaction that has read before it writes is refused at once."""
    for _ in range(200):
        try:
            return do()
        except OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(random.uniform(0.01, 0.05))
    return do()


def people(request: HttpRequest) -> HttpResponse:
    """Make people, each with a session; what they are is in the query, by their names. Return the keys of their sessions."""
    asked: dict[str, dict[str, Any]] = json.loads(request.GET["people"])
    users = {name: on_sqlite(partial(_person, name, about)) for name, about in asked.items()}
    return JsonResponse({name: on_sqlite(partial(sign_in, user)).session_key for name, user in users.items()})


def _person(name: str, about: dict[str, Any]) -> User:
    with transaction.atomic():
        return person(name, **about)


def change(request: HttpRequest, name: str) -> HttpResponse:
    """Do to somebody what ``CHANGES`` names."""
    user = User.objects.get(username=name)
    session = import_module(settings.SESSION_ENGINE).SessionStore(request.GET["session"])
    on_sqlite(partial(CHANGES[request.GET["change"]][2], user, session))
    return HttpResponse()


def close(request: HttpRequest) -> HttpResponse:
    """Order the end of streams; 503 and the kind of error where the order could not be given."""
    given: dict[str, Any] = {name: request.GET[name] for name in ("user", "route", "topic", "session") if name in request.GET}
    try:
        close_streams(**given, reconnect="stay_away" not in request.GET)
    except EventLogError as error:
        return HttpResponse(type(error).__name__, status=503)
    return HttpResponse()


def grant(request: HttpRequest, name: str) -> HttpResponse:
    """Let somebody into the groups of private topics and out of them."""
    user = User.objects.get(username=name)
    for topic, may in json.loads(request.GET["topics"]).items():
        group, _ = on_sqlite(partial(Group.objects.get_or_create, name=topic))
        on_sqlite(partial(user.groups.add if may else user.groups.remove, group))
    return HttpResponse()


def tell(request: HttpRequest, name: str) -> HttpResponse:
    publish_many(f"private.{name}", [{"topic": name, "number": number} for number in range(int(request.GET["count"]))])
    return HttpResponse()


def asked(request: HttpRequest) -> HttpResponse:
    """How often this process has asked guards again, and loaded users for that."""
    books = access.books()
    return JsonResponse({"asked": sum(book.asked for book in books), "loads": sum(book.loads for book in books)})
