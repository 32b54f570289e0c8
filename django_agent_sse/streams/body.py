"""A request's body as JSON, within limits."""

from __future__ import annotations

import asyncio
import json
import math
import re
from io import BytesIO
from typing import Any, NoReturn

from django.conf import settings
from django.http import HttpRequest

from django_agent_sse.exceptions import BodyNotJSON, BodyTooLarge

MOST_BYTES = 8_388_608
"""Bytes of a body that is parsed at all: a tenth of a second, in which nothing else of the process may go on."""
MOST_VALUES = 100_000
"""Values and names of one body. Bytes alone do not bound what parsing costs: ``[[],[],…]`` takes fifty times as long as text."""
AT_ONCE = 65_536
"""Bytes that are parsed on the event loop; it takes a few milliseconds."""
_SEPARATORS = ",:[{"
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Of a surrogate pair, as JSON spells it; no encoding can write one alone."""
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


async def read_json(request: HttpRequest, limit: int | None) -> Any:
    """Read and parse the body, of ``limit`` bytes at most; ``DATA_UPLOAD_MAX_MEMORY_SIZE`` where ``None``.

    ``request.body`` still works afterwards.

    Raises:
        BodyTooLarge: It has more bytes, whether it says so (``Content-Length``) or not, or more than ``MOST_VALUES``.
        BodyNotJSON: It does not parse, holds NaN, a number that is too large for Python, or half of a character, is nested too
            deeply, or is empty.
    """
    asked = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if limit is None else limit
    body = _read(request, MOST_BYTES if asked is None else min(asked, MOST_BYTES))
    return _parsed(body) if len(body) <= AT_ONCE else await asyncio.to_thread(_parsed, body)


def keep_body(request: HttpRequest, limit: int | None) -> None:
    """Read the body, so that it is still there when the request has been answered; see ``read_json`` for the limit.

    Raises:
        BodyTooLarge: It has more bytes.
    """
    asked = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if limit is None else limit
    _read(request, MOST_BYTES if asked is None else min(asked, MOST_BYTES))


def _parsed(body: bytes) -> Any:
    try:
        text = body.decode(json.detect_encoding(body))
        if len(text) > MOST_VALUES and _has_too_many(text):
            raise BodyTooLarge(
                f"the request's body has over {MOST_VALUES:,} values and names: send fewer, or text instead of numbers"
            )
        if _HALF.search(text) and _HALF.search(_PAIR.sub("", text.replace("\\\\", "/"))):
            raise ValueError("it holds one half of a surrogate pair without the other, which is no character")
        # A function of Python's for each number, not int itself: between two of them other threads have their turn.
        return json.loads(text, parse_constant=no_constant, parse_int=lambda digits: int(digits), parse_float=_float)
    except (ValueError, RecursionError) as error:
        raise BodyNotJSON(f"the request's body is not JSON: {error}" if body else "the request has no body; send JSON") from error


def _has_too_many(text: str) -> bool:
    """Whether there are more values and names than may be. What stands in strings does not count."""
    if _separators(text) <= MOST_VALUES:
        return False
    text = text.replace("\\\\", "").replace('\\"', "")
    return text.count('"') > 2 * MOST_VALUES or sum(map(_separators, text.split('"')[::2])) > MOST_VALUES


def _separators(text: str) -> int:
    return sum(map(text.count, _SEPARATORS))


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large a number")
    return number


def _read(request: HttpRequest, limit: int) -> bytes:
    """At most ``limit`` bytes, left behind as ``request.body`` leaves them, whatever ``DATA_UPLOAD_MAX_MEMORY_SIZE`` says."""
    if hasattr(request, "_body") or getattr(request, "_read_started", False):
        body: bytes = request.body
        if len(body) > limit:
            _too_large(limit)
        return body
    declared = request.META.get("CONTENT_LENGTH") or ""
    if declared.isdecimal() and (len(declared) > len(str(limit)) + 20 or int(declared) > limit):
        _too_large(limit)
    body = request.read(limit + 1)
    if len(body) > limit:
        _too_large(limit)
    request._stream.close()
    request._body, request._stream = body, BytesIO(body)
    return body


def _too_large(limit: int) -> NoReturn:
    raise BodyTooLarge(f"the request's body is over {limit} bytes")


def no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
