"""The ids of runs that routes start. Who started one can be read off its id, and by nobody but this project."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from hmac import compare_digest
from typing import Any

from django.conf import settings

from ..exceptions import QueryInvalid
from ..streams.context import Context

PATTERN = r"run_[A-Za-z0-9_-]{16}(?:[A-Za-z0-9_-]{11})?"
"""``run_``, 72 bits, 24 that stand for what its URL captures, and 64 for whoever started it; none where that could be anybody."""
MAX_NAME = 255
"""Characters of an ``Idempotency-Key``, and of what a client calls its run."""
_ID = re.compile(PATTERN)
_NAME_END, _PLACE_END = 16, 20


def is_run_id(text: str) -> bool:
    """Whether it is the id of a run that a route could have started."""
    return _ID.fullmatch(text) is not None


def new_id(c: Context, route: str, place: str, idempotency_key: str | None) -> str:
    """Return the id for a run that this request starts: with the same key of the same client at one route and place, the same."""
    owner = owner_of(c)
    secret, key = _secrets()[0], idempotency_key
    name = secrets.token_urlsafe(9) if key is None else _digest(secret, 9, route, place, owner, key)
    return f"run_{name}{_digest(secret, 3, name, place)}{_digest(secret, 8, owner) if owner else ''}"


def belongs_to(id: str, place: str) -> bool:
    """Whether a route has made this id for what its URL captures: the id of a run of one chat leads nowhere at another one.

    Else a project whose check looks at the chat in the address alone would let its members read those of others.
    """
    name, tag = id[len("run_") : _NAME_END], id[_NAME_END:_PLACE_END]
    return is_run_id(id) and any(compare_digest(tag, _digest(secret, 3, name, place)) for secret in _secrets())


def request_digest(c: Context, query: str) -> str:
    """Return what tells a request from another one with the same idempotency key: its method, path, query and body, as read."""
    body = hashlib.blake2b(c.request.body, digest_size=32).hexdigest()
    return _digest(_secrets()[0], 12, c.request.method or "", c.request.path, query, body)


def claim_name(topic: str) -> str:
    """Return the name of the pointer that says which request begins the run of a topic."""
    return f"runs.{_digest(b'claim', 18, topic)}"


def is_own(c: Context, id: str) -> bool:
    """Whether a request comes from whoever has started the run; true for one that anybody could have started."""
    tag = id[_PLACE_END:] if is_run_id(id) else ""
    if not tag:
        return True
    owner = owner_of(c)
    return bool(owner) and any(compare_digest(tag, _digest(secret, 8, owner)) for secret in _secrets())


def owner_of(c: Context) -> str:
    """Return what tells one client of the project from another: the user, the owner of an API key, the session; or nothing."""
    if c.user_pk is not None:
        return f"user\n{c._user_label}\n{c.user_pk}"
    owner: Any = getattr(c.var, "api_key_owner", None)
    if owner is not None:
        return f"key\n{type(owner).__qualname__}\n{getattr(owner, 'pk', owner)}"
    session = getattr(getattr(c.request, "session", None), "session_key", None)
    return f"session\n{session}" if session else ""


def idempotency_key(c: Context) -> str | None:
    """Return the key that the request names; a quoted one, as the standard's draft has it, without its quotes.

    Raises:
        QueryInvalid: No client sends such a key.
    """
    sent = c.header("Idempotency-Key")
    if sent is None:
        return None
    key = sent[1:-1] if len(sent) > 1 and sent[0] == sent[-1] == '"' else sent
    return _checked("the header Idempotency-Key", key)


def client_key(name: str) -> str:
    """Return what stands for a run that its client has named, as an idempotency key that nobody can send.

    Raises:
        QueryInvalid: No client calls a run so.
    """
    return f"name\n{_checked('the name of the run', name)}"


def _checked(what: str, name: str) -> str:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise QueryInvalid(
            f"{what} has {len(name)} characters; it takes 1 to {MAX_NAME} printable ones, such as a UUID. Nothing was started"
        )
    return name


def pointer_name(route: str, key: str) -> str:
    """Return the name of the pointer to the present run of a key, whatever a client may call it."""
    return f"runs.{_digest(b'pointer', 18, route, key)}"


def _secrets() -> list[bytes]:
    return [_bytes(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def _bytes(secret: str | bytes) -> bytes:
    return hashlib.sha256(b"django_agent_sse.runs" + (secret if isinstance(secret, bytes) else secret.encode())).digest()


def _digest(secret: bytes, size: int, *parts: str) -> str:
    text = "".join(f"{len(part)}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), key=secret, digest_size=size).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
