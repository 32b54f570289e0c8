"""The pages: what can be built, what was, and one build with its log."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from .models import Build
from .recipes import all_recipes
from .runs import TooManyBuilds, runs

LISTED = 50
"""Builds on the first page."""


@never_cache
@require_safe
async def index(request: HttpRequest) -> HttpResponse:
    """The recipes with their buttons, and the newest builds."""
    await sync_to_async(runs.recover)()
    builds = [(build, runs.status(build)) async for build in Build.objects.select_related("started_by")[:LISTED]]
    return render(request, "builds/index.html", {"recipes": all_recipes().values(), "builds": builds})


@require_POST
async def start(request: HttpRequest) -> HttpResponse:
    """Start the recipe that the form names, and go to its page."""
    recipe = all_recipes().get(request.POST.get("recipe", ""))
    if recipe is None:
        return HttpResponseBadRequest("There is no such recipe.")
    try:
        return redirect(await runs.start(recipe, await request.auser()))
    except TooManyBuilds as error:
        return HttpResponse(str(error), status=503)


@require_POST
async def cancel(request: HttpRequest, build_id: int) -> HttpResponse:
    """End a build, and go to its page."""
    build = await _build(build_id)
    await runs.cancel(build_id, await request.auser())
    return redirect(build)


@require_POST
async def again(request: HttpRequest, build_id: int) -> HttpResponse:
    """Start the recipe of a build once more, and go to the new build's page."""
    try:
        return redirect(await runs.again(await _build(build_id), await request.auser()))
    except TooManyBuilds as error:
        return HttpResponse(str(error), status=503)
    except LookupError as error:
        return HttpResponseBadRequest(str(error))


@never_cache
@require_safe
async def build_page(request: HttpRequest, build_id: int) -> HttpResponse:
    """One build, with its log as it arrives."""
    await sync_to_async(runs.recover)()
    build = await _build(build_id)
    stream_url = request.build_absolute_uri(reverse("build-logs", args=[build_id]))
    return render(request, "builds/build.html", {"build": build, "status": runs.status(build), "stream_url": stream_url})


async def _build(build_id: int) -> Build:
    build = await Build.objects.filter(pk=build_id).afirst()
    if build is None:
        raise Http404(f"There is no build {build_id}.")
    return build
