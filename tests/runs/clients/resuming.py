"""A client of one's own beside the SDKs that cannot come back: httpx and httpx-sse, with ``Last-Event-ID``."""

from __future__ import annotations

from typing import Any

import httpx
import httpx_sse


def resumed(http: httpx.Client, url: str, *, model: str, cut: str, end: str) -> tuple[list[str], list[str]]:
    """Start a run over a connection that is cut, and come back once, unless it has the end. Return the data before and after."""
    before: list[str] = []
    last_id = ""
    start: Any = httpx_sse.connect_sse(http, "POST", url, json={"model": model}, headers={"X-Cut": cut})
    with start as source:
        where = source.response.headers["location"]
        try:
            for event in source.iter_sse():
                before.append(event.data)
                last_id = event.id
        except httpx.RemoteProtocolError:
            pass
        else:
            raise AssertionError(f"{cut}: it took {before} for whole")
    if before and before[-1] == end:
        return before, []
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with httpx_sse.connect_sse(http, "GET", f"{url.split('/llm/')[0]}{where}", headers=headers) as source:
        return before, [event.data for event in source.iter_sse()]
