"""The pages: what can be built, what was, and one build with its log."""

from __future__ import annotations

from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import aget_object_or_404, get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from . import overview, runs
from .access import VIEW
from .log import PREFIX, topic_of
from .models import Build
from .recipes import all_recipes, grouped
from .runs import CannotStart

may_start = permission_required("builds.add_build", raise_exception=True)
may_cancel = permission_required("builds.change_build", raise_exception=True)


def page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page for those who may see builds."""
    return never_cache(require_safe(permission_required(VIEW, raise_exception=True)(view)))


@page
def index(request: HttpRequest) -> HttpResponse:
    """The recipes with their buttons, and the newest builds."""
    runs.recover()
    blank = {"id": 0, "status": Build.Status.QUEUED}
    context = {"groups": grouped(), "blank": blank, **overview.snapshot()}
    return render(request, "builds/index.html", context)


@page
def build_page(request: HttpRequest, build_id: int) -> HttpResponse:
    """One build, with its log as it arrives."""
    runs.recover()
    build = get_object_or_404(Build, pk=build_id)
    stream = reverse("build-logs", args=[build_id])
    about = {"topic": topic_of(build_id).name, "stream": stream, "stream_url": request.build_absolute_uri(stream)}
    context = {"build": build, **about, "actions": _actions(request, build), **overview.row(build)}
    return render(request, "builds/build.html", context)


def _actions(request: HttpRequest, build: Build) -> list[dict[str, object]]:
    """The buttons beside the log, for those who may."""

    def button(label: str, name: str, when: str, hidden: bool) -> dict[str, object]:
        return {"label": label, "url": reverse(name, args=[build.pk]), "when": when, "hidden": hidden}

    may = {name: request.user.has_perm(f"builds.{name}_build") for name in ("add", "change")}
    return [
        *([button("Cancel", "cancel-build", "new running", build.is_over)] if may["change"] else []),
        *([button("Run again", "again-build", "ended", not build.is_over)] if may["add"] else []),
    ]


@require_POST
@may_start
async def start(request: HttpRequest) -> HttpResponse:
    """Start the recipe that the form names, and go to its page."""
    recipe = request.POST.get("recipe", "")
    if recipe not in all_recipes():
        return HttpResponseBadRequest("There is no such recipe.")
    return await _started(request, recipe)


@require_POST
@may_cancel
async def cancel(request: HttpRequest, build_id: int) -> HttpResponse:
    """End a build, and go to its page."""
    build = await aget_object_or_404(Build, pk=build_id)
    if not await sync_to_async(runs.cancel)(build_id, await request.auser()):
        messages.warning(request, f"{build} was already over.")
    return redirect(build)


@require_POST
@may_start
async def again(request: HttpRequest, build_id: int) -> HttpResponse:
    """Start the recipe of a build once more, and go to the new build's page."""
    build = await aget_object_or_404(Build, pk=build_id)
    return await _started(request, build.recipe, label=build.label)


@page
def other_log(request: HttpRequest, name: str) -> HttpResponse:
    """A log that somebody else writes, as it arrives."""
    context = {"topic": f"{PREFIX}{name}", "stream": reverse("other-log", args=[name])}
    return render(request, "builds/other.html", context)


async def _started(request: HttpRequest, recipe: str, label: str = "") -> HttpResponse:
    try:
        return redirect(await sync_to_async(runs.start)(recipe, await request.auser(), label=label))
    except CannotStart as error:
        messages.error(request, str(error))
        return redirect("index")
