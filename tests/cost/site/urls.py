"""Doors for long lines. The line of each is made where it is sent from: nothing large comes in with a request."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model, login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.urls import include, path

from django_agent_sse import Context, Router, Stream, Topic
from django_agent_sse.exceptions import EventTooLarge
from tests.cost.lines import line_of

router = Router()
router.log("logs/<slug:name>/log/", "logs.{name}")


@router.sse("write/<slug:kind>/<int:size>/")
async def write(c: Context, stream: Stream, kind: str, size: int) -> None:
    """Written to the client, kept nowhere."""
    await stream.open()
    try:
        await stream.write(line_of(kind, size), event="stdout")
    except EventTooLarge as error:
        await stream.write(str(error), event="refused")


async def ping(request: HttpRequest) -> HttpResponse:
    """Another request."""
    return HttpResponse("pong")


async def publish(request: HttpRequest, name: str, kind: str, size: int) -> JsonResponse:
    """Append a line, and end the topic if ``?close=1`` asks for it."""
    topic = Topic(f"logs.{name}")
    try:
        await topic.apublish(line_of(kind, size), event="stdout")
    except EventTooLarge as error:
        return JsonResponse({"refused": str(error)}, status=413)
    if request.GET.get("close"):
        await topic.aclose()
    return JsonResponse({"id": (await topic.astate()).top})


def page(request: HttpRequest, name: str) -> HttpResponse:
    """A page with the last lines of a log."""
    text = "{% load agent_sse %}{% sse_log topic src %}"
    shown: Any = engines["django"].from_string(text)
    return HttpResponse(shown.render({"topic": f"logs.{name}", "src": f"/logs/{name}/log/"}, request))


def enter(request: HttpRequest) -> HttpResponse:
    """Log in as somebody who may do everything."""
    users = get_user_model()
    user = users.objects.filter(username="admin").first() or users.objects.create_superuser("admin", "", "secret")
    login(request, user)
    return HttpResponse("in")


urlpatterns = [
    path("_ping/", ping),
    path("_enter/", enter),
    path("_publish/<slug:name>/<slug:kind>/<int:size>/", publish),
    path("page/<slug:name>/", page),
    path("admin/", admin.site.urls),
    path("", include(router.urls)),
]
