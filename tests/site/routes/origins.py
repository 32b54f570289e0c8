"""Streams for pages of other origins: by the project's list, by their cookies, and by signed addresses."""

from __future__ import annotations

import asyncio

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from django_agent_sse import Context, Router, Stream, signed_required, signed_url
from django_agent_sse.runs.async_run import AsyncRun
from tests.site.watch import notes

router = Router(app_name="origins")


@router.sse("who/", retry=50)
async def who(c: Context, stream: Stream) -> None:
    """Who asks, and with what, while they listen."""
    notes(c)("ran")
    await stream.write({"user": c.user.get_username(), "third": c.request.COOKIES.get("third")}, id="1")
    await stream.wait_closed()


@router.sse("anybody/", origins=None)
async def anybody(c: Context, stream: Stream) -> None:
    """What a browser says of the page, where nobody is refused."""
    notes(c)("ran", site=c.header("Sec-Fetch-Site"), third=c.request.COOKIES.get("third"))
    await stream.write("nobody reads it")


@router.run("work/<slug:name>/", csrf_exempt=True)
async def work(c: Context, run: AsyncRun, name: str) -> None:
    """What was posted, and then nothing until it is stopped."""
    await run.write(await c.json_body())
    await asyncio.Event().wait()


@router.sse("signed/", guards=[signed_required], origins=["*"], allow_credentials=False, retry=50, control_events=False)
async def signed(c: Context, stream: Stream) -> None:
    """Numbers, and whose; the response is over after ten of them, without a word, and the client has to come back."""
    first = int(c.last_event_id or 0) + 1
    for number in range(first, int(c.query["to"]) + 1):
        await stream.write(f"{c.user.get_username()} {number}", id=str(number))
        if number % 10 == 0 and number < int(c.query["to"]):
            return


@router.sse("held/", guards=[signed_required], retry=50)
async def held(c: Context, stream: Stream) -> None:
    """One event, and then nothing."""
    notes(c)("ran")
    await stream.write(c.user.get_username(), id="1")
    await stream.wait_closed()


def address(request: HttpRequest) -> JsonResponse:
    """An address for a moment, for whoever is signed in here: of the numbers, or of the stream that is held."""
    route = "held" if "key" in request.GET else "signed"
    return JsonResponse({"url": signed_url(f"{reverse(f'origins:{route}')}?{request.GET.urlencode()}", user=request.user)})


def third_party_cookie(request: HttpRequest) -> HttpResponse:
    """A cookie that browsers send from every page."""
    response = HttpResponse("set")
    response.set_cookie("third", "1", samesite="None", secure=True)
    return response
