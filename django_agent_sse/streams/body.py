"""A request's body as JSON, within a limit."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, NoReturn

from django.conf import settings
from django.http import HttpRequest

from django_agent_sse.exceptions import BodyNotJSON, BodyTooLarge


def read_json(request: HttpRequest, limit: int | None) -> Any:
    """Read and parse the body; ``request.body`` still works afterwards.

    Args:
        request: Django's request.
        limit: The most bytes to read. ``DATA_UPLOAD_MAX_MEMORY_SIZE`` where ``None``.

    Raises:
        BodyTooLarge: It has more bytes, whether it says so (``Content-Length``) or not.
        BodyNotJSON: It does not parse, holds NaN or an infinity, is nested too deeply, or is empty.
    """
    body = _read(request, settings.DATA_UPLOAD_MAX_MEMORY_SIZE if limit is None else limit)
    try:
        return json.loads(body, parse_constant=_no_such_constant)
    except (ValueError, RecursionError) as error:
        raise BodyNotJSON(f"the request's body is not JSON: {error}" if body else "the request has no body; send JSON") from error


def _read(request: HttpRequest, limit: int | None) -> bytes:
    """At most ``limit`` bytes, left behind as ``request.body`` leaves them, whatever ``DATA_UPLOAD_MAX_MEMORY_SIZE`` says."""
    if hasattr(request, "_body") or getattr(request, "_read_started", False):
        body: bytes = request.body
        if limit is not None and len(body) > limit:
            _too_large(limit)
        return body
    declared = request.META.get("CONTENT_LENGTH") or ""
    if limit is not None and declared.isdecimal() and int(declared) > limit:
        _too_large(limit)
    body = request.read() if limit is None else request.read(limit + 1)
    if limit is not None and len(body) > limit:
        _too_large(limit)
    request._stream.close()
    request._body, request._stream = body, BytesIO(body)
    return body


def _too_large(limit: int) -> NoReturn:
    raise BodyTooLarge(f"the request's body is over {limit} bytes")


def _no_such_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
