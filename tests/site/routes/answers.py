"""Routes that do not stream, or not to everybody, and those that end for good."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseBase

from django_agent_sse import Context, Router, Stream
from tests.site.watch import notes, watched

router = Router(app_name="answers")


async def require_api_key(c: Context) -> bool | HttpResponseBase:
    """The README's guard."""
    notes(c)("guard")
    return bool(c.header("X-API-Key")) or c.json({"error": "API key required"}, status=401)


async def nothing_here(c: Context) -> HttpResponseBase:
    """A guard that ends every EventSource."""
    notes(c)("guard")
    return HttpResponse(status=204)


@router.sse("guarded/", guards=[require_api_key])
async def guarded(c: Context, stream: Stream) -> None:
    """Behind a guard."""
    async with watched(c, stream):
        await stream.write_sse(data="let in", id="1")


@router.sse("gone/", guards=[nothing_here])
async def gone(c: Context, stream: Stream) -> None:
    """Never runs."""
    notes(c)("started")


@router.sse("ends/", retry=100)
async def ends(c: Context, stream: Stream) -> None:
    """One event with an id, and the end."""
    async with watched(c, stream):
        await stream.write_sse(data="only", id="1")


@router.sse("resumes/", retry=100, max_duration=0.3)
async def resumes(c: Context, stream: Stream) -> None:
    """Cut by the server; whoever comes back with an id is told which."""
    async with watched(c, stream):
        if c.last_event_id is None:
            await stream.write_sse(event="first", data="begin", id="seven ü 7")
        else:
            await stream.write_sse(event="again", data=c.last_event_id)
        await stream.wait_closed()


@router.sse("posts/", methods=("POST",), csrf_exempt=True)
async def posts(c: Context, stream: Stream) -> None:
    """A POST stream of a client that is not a browser."""
    await stream.write(await c.json_body())


@router.sse("fails-early/")
async def fails_early(c: Context, stream: Stream) -> None:
    """Raise before the response has begun."""
    raise RuntimeError("deliberate: before the first write")
