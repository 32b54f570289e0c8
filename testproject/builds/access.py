"""Who may see builds: those with the permission, signed in or with an API key; and no longer than they are signed in."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase

from django_agent_sse import Context, Stream, api_key, permission_required

from .models import ApiKey

VIEW = "builds.view_build"
KEY_HEADER = "X-API-Key"
READ_SECONDS = 60.0
"""After so long the reader of a run is asked again who it is, and goes on where it was."""


async def session_or_key(c: Context) -> bool | HttpResponseBase:
    """The guard of the streams: a key where one is sent, else the session."""
    if c.header(KEY_HEADER) is None and c.header("Authorization") is None:
        return await _by_session(c)
    refusal = await _by_key(c)
    if refusal is True:
        c.user = c.var.api_key_owner
    return refusal


def _owner(key: str) -> Any:
    """The user whose key this is, where that user may see builds."""
    row = ApiKey.objects.select_related("user").filter(digest=ApiKey.digest_of(key)).first()
    return row.user if row and row.user.has_perm(VIEW) else None  # nobody inactive has a permission


_by_key = api_key(_owner, header=KEY_HEADER)
_by_session = permission_required(VIEW)

_open: defaultdict[str, set[tuple[asyncio.AbstractEventLoop, Stream]]] = defaultdict(set)
"""The streams of this process by the session that they were opened with."""


def end_with_session(c: Context, stream: Stream) -> None:
    """Close the stream when the visitor signs out in this process. Nothing where a key opened it."""
    session = c.request.session.session_key
    if session is None:
        return
    entry = asyncio.get_running_loop(), stream
    _open[session].add(entry)

    @stream.on_end
    def forget() -> None:
        _open[session].discard(entry)
        if not _open[session]:
            del _open[session]


@receiver(user_logged_out)
def close_streams(request: HttpRequest, **kwargs: object) -> None:
    """Close what the session watches; who comes back meets the guard."""
    watched = tuple(_open.get(request.session.session_key or "", ()))
    request.session.flush()  # as Django does after this signal: whoever comes back at once must not find it
    for loop, stream in watched:
        loop.call_soon_threadsafe(stream.close)
