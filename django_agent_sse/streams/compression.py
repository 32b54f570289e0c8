"""Whether a stream is compressed: what its route says, and what the request takes."""

from __future__ import annotations

from django.http import HttpRequest

REFUSED = 0.0


def takes_gzip(request: HttpRequest, compress: bool | None, *, follows: bool, guarded: bool, known: bool) -> bool:
    """Return whether the stream of a request is compressed.

    The length of what is compressed tells whoever watches the network how much of it is alike. Where a stranger's text stands
    beside a secret, that gives the secret away by and by (BREACH). So only what anybody may read is compressed unasked.

    Args:
        request: The request.
        compress: The option.
        follows: The handler follows topics, whose events are compressed once for all their readers.
        guarded: Somebody is asked before anything is sent.
        known: The request has a user.
    """
    if compress is None:
        shows_who = known or "HTTP_COOKIE" in request.META or "HTTP_AUTHORIZATION" in request.META
        compress = follows and not guarded and not shows_who
    return compress and prefers_gzip(request.META.get("HTTP_ACCEPT_ENCODING", ""))


def prefers_gzip(accept_encoding: str) -> bool:
    """Return whether an ``Accept-Encoding`` takes gzip, and likes nothing less than what is not compressed (RFC 9110, 12.5.3)."""
    weights: dict[str, float] = {}
    for member in accept_encoding.lower().split(","):
        coding, *parameters = member.split(";")
        weights.setdefault(coding.strip(), _weight(parameters))
    others = weights.get("*", REFUSED)
    gzip = weights.get("gzip", weights.get("x-gzip", others))
    return gzip > REFUSED and gzip >= weights.get("identity", REFUSED)


def _weight(parameters: list[str]) -> float:
    """Return the weight in a member's parameters; what cannot be read refuses."""
    if not parameters:
        return 1.0
    name, _, value = parameters[0].partition("=")
    digits = value.strip()
    if len(parameters) > 1 or name.strip() != "q" or not digits.isascii() or not digits.replace(".", "", 1).isdecimal():
        return REFUSED
    weight = float(digits)
    return weight if weight <= 1 else REFUSED
