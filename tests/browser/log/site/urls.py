"""Pages with logs, and the doors by which a test writes them."""

from __future__ import annotations

import asyncio
import json

from django.contrib import admin
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import include, path, reverse
from django.views.decorators.csrf import csrf_exempt

from django_agent_sse import Context, Event, Router, Topic, login_required, staff_required
from django_agent_sse.eventlog.backend import event_log

router = Router()
router.log("logs/<slug:name>/log/", "logs.{name}", name="log")
router.log("private/<slug:name>/log/", "logs.{name}", name="private", guards=[login_required], max_duration=2)
router.log("held/<slug:name>/log/", "logs.{name}", name="held", guards=[login_required])
router.log("staff/<slug:name>/log/", "logs.{name}", name="staff", guards=[staff_required])


async def nothing(c: Context, name: str) -> str:
    """There is no such log."""
    raise Http404


router.log("missing/<slug:name>/log/", nothing, name="missing")

STEPS = ("lint", "test", "deploy")
router.logs("steps/<slug:name>/all/", {step: f"logs.{{name}}-{step}" for step in STEPS}, name="all-steps")

_tasks: set[asyncio.Task[None]] = set()


def page(request: HttpRequest, route: str, name: str) -> HttpResponse:
    """A page with one log, as a project would write it."""
    known = {one.name for one in router.urls}
    src = reverse(route if route in known else "log", args=[name])
    about = {"src": src, "name": name, "topic": f"logs.{name}", "about": request.GET}
    if also := request.GET.get("also"):
        about |= {"also": f"logs.{also}", "also_src": reverse("log", args=[also])}
    return render(request, "logsite/page.html", about)


def steps(request: HttpRequest, name: str) -> HttpResponse:
    """A page with several logs."""
    topics = {step: f"logs.{name}-{step}" for step in STEPS}
    return render(request, "logsite/steps.html", {"src": reverse("all-steps", args=[name]), "steps": topics})


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse()


@csrf_exempt
async def publish(request: HttpRequest, name: str) -> HttpResponse:
    """Append events, ``[[event, data], …]``; then keep so many as ``?keep=`` says, and close the topic with ``?close=``."""
    topic = Topic(name)
    events = json.loads(request.body or "[]")
    for start in range(0, len(events), 5000):
        await topic.apublish_many([Event(data, event=event) for event, data in events[start : start + 5000]])
    if keep := request.GET.get("keep"):
        await event_log().atrim(topic.name, max_events=int(keep))
    if reason := request.GET.get("close"):
        await topic.aclose(reason)
    return JsonResponse({})


@csrf_exempt
async def produce(request: HttpRequest, name: str) -> HttpResponse:
    """Write numbered lines, ``rate`` a second for ``seconds``, then the exit where it ``ends``, beside the requests."""
    topic, rate, seconds = Topic(f"logs.{name}"), int(request.GET["rate"]), float(request.GET["seconds"])
    task = asyncio.create_task(_produce(topic, rate, seconds, int(request.GET.get("size", 0)), ends=request.GET["ends"] == "1"))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return JsonResponse({})


async def _produce(topic: Topic, rate: int, seconds: float, size: int, *, ends: bool) -> None:
    loop = asyncio.get_running_loop()
    begun, total, done = loop.time(), round(rate * seconds), 0
    while done < total:
        due = min(total, int((loop.time() - begun) * rate))
        if due > done:
            await topic.apublish_many(
                [
                    Event(f"\x1b[3{n % 8}mline {n + 1}\x1b[0m of {total}".ljust(size, "."), event="stdout")
                    for n in range(done, due)
                ]
            )
            done = due
        await asyncio.sleep(0.02)
    if ends:
        await topic.apublish(json.dumps({"code": 0, "seconds": seconds}), event="exit")
        await topic.aclose()


async def text(request: HttpRequest, name: str) -> HttpResponse:
    """The events of a log: what a page must show."""
    events: list[tuple[str | None, str]] = []
    while (page := await event_log().aread_after(f"logs.{name}", len(events), 5000)).records:
        events += [(record.event.event, record.event.data) for record in page.records]
    return JsonResponse({"events": events})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("out/", sign_out),
    path("login/", LoginView.as_view(template_name="logsite/login.html"), name="login"),
    path("_publish/<str:name>/", publish),
    path("_produce/<slug:name>/", produce),
    path("_text/<slug:name>/", text),
    path("", include(router.urls)),
    path("several/<slug:name>/", steps),
    path("<slug:route>/<slug:name>/", page, name="page"),
]
