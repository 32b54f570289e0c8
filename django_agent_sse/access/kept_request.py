"""What is kept of the request of a slim stream for its guards: as little as makes the same request again."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from django.http import HttpRequest

MADE_ANEW = frozenset({"user", "auser", "session", "resolver_match"})
"""What is on a request that is put there anew each time."""


@dataclass(slots=True)
class KeptRequest:
    """The request as the server handed it in, which keeps that anyway while it sends, and what middleware has put on it.

    Attributes:
        kind: Its class.
        scope: The server's.
        body: What was read of its body.
        meta: What middleware has changed in ``META``.
        put: What middleware has put on it, by name. Names with a leading ``_`` are Django's.
    """

    kind: type[Any]
    scope: Any
    body: bytes | None
    meta: dict[str, Any]
    put: dict[str, Any]

    @classmethod
    def of(cls, request: Any) -> KeptRequest:
        made = type(request)(request.scope, BytesIO())
        meta = {name: value for name, value in request.META.items() if made.META.get(name) != value}
        known = vars(made).keys() | MADE_ANEW
        put = {name: value for name, value in vars(request).items() if name not in known and not name.startswith("_")}
        return cls(type(request), request.scope, vars(request).get("_body"), meta, put)

    def made(self) -> HttpRequest:
        """Return the request again."""
        request: HttpRequest = self.kind(self.scope, BytesIO(self.body or b""))
        request.META.update(self.meta)
        vars(request).update(self.put)
        if self.body is not None:
            vars(request)["_body"] = self.body
        return request


def another(request: HttpRequest) -> HttpRequest:
    """Return a request like one that is still there, to be given another session and user."""
    made: HttpRequest = object.__new__(type(request))
    vars(made).update(vars(request))
    vars(made)["META"] = dict(request.META)
    return made


def give(request: HttpRequest, session: Any, user: Any) -> HttpRequest:
    """Put the session and the user on a request that are there now."""
    for name in ("_cached_user", "_acached_user", "user", "auser", "_messages"):
        vars(request).pop(name, None)
    if session is not None:
        vars(request)["session"] = session

    async def auser() -> Any:
        return user

    if user is not None:
        request.user = user
        request.auser = auser
    return request
